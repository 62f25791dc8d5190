//! What a login needs to know before it checks a password, and the counters of failures.

use verifier::{Seconds, UnixTime};

use super::engine::database::arguments;
use super::{SqlStore, StoreError};
use crate::domain::audit::AuditEvent;
use crate::domain::login::Failures;
use crate::domain::password::PasswordHash;
use crate::domain::user::UserId;

/// The state of the world before a login.
#[derive(Debug)]
pub struct LoginAttempt {
    /// The shared clock.
    pub now: UnixTime,
    /// The user with the presented name, if there is one.
    pub subject: Option<LoginSubject>,
    /// Recent failures with the presented name.
    pub name_failures: Option<Failures>,
    /// Recent failures from the client's address.
    pub address_failures: Option<Failures>,
}

/// A user whose password is to be checked.
#[derive(Debug)]
pub struct LoginSubject {
    /// Their id.
    pub id: UserId,
    /// Their stored hash, if they have a password.
    pub password_hash: Option<PasswordHash>,
    /// Changes with the password and the right to log in.
    pub credential_version: i64,
    /// When they were disabled.
    pub disabled_at: Option<UnixTime>,
}

impl SqlStore {
    /// Reads the user and the failure counters in one statement. `name_key` and `address_key` name the counters; an empty one has none.
    pub async fn login_attempt(
        &self,
        username: String,
        name_key: String,
        address_key: String,
    ) -> Result<LoginAttempt, StoreError> {
        self.run(move |store| {
            let arguments = arguments![username.as_str(), name_key.as_str(), address_key.as_str()];
            async move {
                let sql = "SELECT {now}, users.id, password_hash, credential_version, disabled_at,
                        by_name.failures, by_name.last_at, by_address.failures, by_address.last_at
                    FROM key_ring LEFT JOIN users ON username = $2
                    LEFT JOIN login_failures AS by_name ON by_name.subject = $3
                    LEFT JOIN login_failures AS by_address ON by_address.subject = $4";
                let row = super::only(store.db.read(sql, arguments).await?, "key_ring")?;
                let failures = |from: usize| -> Result<Option<Failures>, StoreError> {
                    let (count, last_at) = (row.int_if_any(from)?, row.time_if_any(from + 1)?);
                    Ok(count.zip(last_at).map(|(count, last_at)| Failures { count, last_at }))
                };
                let subject = match row.text_if_any(1)? {
                    None => None,
                    Some(id) => Some(LoginSubject {
                        id: UserId::parse(&id).ok_or_else(|| StoreError::Unreadable {
                            table: "users",
                            what: "id".to_owned(),
                        })?,
                        password_hash: row.text_if_any(2)?.map(PasswordHash::from_stored),
                        credential_version: row.int(3)?,
                        disabled_at: row.time_if_any(4)?,
                    }),
                };
                Ok(LoginAttempt {
                    now: row.time(0)?,
                    subject,
                    name_failures: failures(5)?,
                    address_failures: failures(7)?,
                })
            }
        })
        .await
    }

    /// Counts a failure under each key and records `event`, in one transaction. Counters idle for `forget_after` start anew.
    pub async fn record_failure(
        &self,
        keys: Vec<String>,
        forget_after: Seconds,
        event: AuditEvent,
    ) -> Result<(), StoreError> {
        self.run(move |store| {
            let (keys, event) = (keys.clone(), event.clone());
            async move {
                let mut audit = store.audit.open().await?;
                let mut tx = store.db.begin().await?;
                let mut now = super::only(tx.fetch("SELECT {now}", Vec::new()).await?, "key_ring")?.time(0)?;
                for key in keys {
                    let sql = "INSERT INTO login_failures (subject, failures, last_at) VALUES ($2, 1, {now})
                        ON CONFLICT (subject) DO UPDATE SET last_at = {now}, failures =
                            CASE WHEN login_failures.last_at < {now} - $3 THEN 1 ELSE login_failures.failures + 1 END
                        RETURNING last_at";
                    now = super::only(tx.fetch(sql, arguments![key, forget_after.0]).await?, "login_failures")?
                        .time(0)?;
                }
                audit.append(&mut tx, now, &event).await?;
                audit.commit(tx).await
            }
        })
        .await
    }

    /// Deletes counters idle for `forget_after`, at most `limit` of them. Answers how many.
    pub async fn purge_failures(&self, forget_after: Seconds, limit: u32) -> Result<u64, StoreError> {
        self.run(move |store| async move {
            let sql = "DELETE FROM login_failures WHERE subject IN
                (SELECT subject FROM login_failures WHERE last_at < {now} - $2 LIMIT $3) RETURNING subject";
            Ok(store.db.write(sql, arguments![forget_after.0, i64::from(limit)]).await?.len() as u64)
        })
        .await
    }
}
