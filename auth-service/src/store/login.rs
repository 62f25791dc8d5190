//! The data that a login needs before it checks a password, and the counters of failures.

use verifier::{Seconds, UnixTime};

use super::engine::row::{Row, arguments, only};
use super::transaction::Outcome::{Keep, Undo};
use super::{SqlStore, StoreError};
use crate::domain::audit::AuditEvent;
use crate::domain::login::Failures;
use crate::domain::password::PasswordHash;
use crate::domain::user::UserId;

/// What a login needs to know before it checks a password.
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
        let sql = "SELECT {now} AS now, users.id AS user_id, password_hash, credential_version, disabled_at,
                by_name.failures AS name_failures, by_name.last_at AS name_last_at,
                by_address.failures AS address_failures, by_address.last_at AS address_last_at
            FROM key_ring LEFT JOIN users ON username = $2
            LEFT JOIN login_failures AS by_name ON by_name.subject = $3
            LEFT JOIN login_failures AS by_address ON by_address.subject = $4";
        self.read(sql, arguments![username, name_key, address_key], |rows| {
            let row = only(rows, "key_ring")?;
            Ok(LoginAttempt {
                now: row.time("now")?,
                subject: read_subject(&row)?,
                name_failures: read_failures(&row, "name_failures", "name_last_at")?,
                address_failures: read_failures(&row, "address_failures", "address_last_at")?,
            })
        })
        .await
    }

    /// Counts a failure under each key and records `event`, in one transaction. Counters idle for `forget_after` restart at one.
    pub async fn record_failure(
        &self,
        keys: Vec<String>,
        forget_after: Seconds,
        event: AuditEvent,
    ) -> Result<(), StoreError> {
        self.transaction(async move |tx| {
            let mut now = tx.now().await?;
            for key in &keys {
                let sql = "INSERT INTO login_failures (subject, failures, last_at) VALUES ($2, 1, {now})
                    ON CONFLICT (subject) DO UPDATE SET last_at = {now}, failures =
                        CASE WHEN login_failures.last_at < {now} - $3 THEN 1 ELSE login_failures.failures + 1 END
                    RETURNING last_at";
                let rows = tx.fetch(sql, arguments![key.as_str(), forget_after.0]).await?;
                now = only(rows, "login_failures")?.time("last_at")?;
            }
            Ok(Keep((), vec![event.at(now)]))
        })
        .await
    }

    /// Deletes the counter with this key and records `event`. Returns whether there was one; if not, nothing is recorded.
    pub async fn forget_failures(&self, key: &str, event: AuditEvent) -> Result<bool, StoreError> {
        let key = key.to_owned();
        self.transaction(async move |tx| {
            let sql = "DELETE FROM login_failures WHERE subject = $2 RETURNING {now} AS now";
            Ok(match tx.first(sql, arguments![key.as_str()]).await? {
                Some(row) => Keep(true, vec![event.at(row.time("now")?)]),
                None => Undo(false),
            })
        })
        .await
    }

    /// Deletes counters idle for `forget_after`, at most `limit` of them. Returns how many.
    pub async fn purge_failures(&self, forget_after: Seconds, limit: u32) -> Result<u64, StoreError> {
        let sql = "DELETE FROM login_failures WHERE subject IN
            (SELECT subject FROM login_failures WHERE last_at < {now} - $2 LIMIT $3) RETURNING subject";
        self.write_and_count(sql, arguments![forget_after.0, i64::from(limit)]).await
    }
}

fn read_subject(row: &Row) -> Result<Option<LoginSubject>, StoreError> {
    let Some(id) = row.text_if_any("user_id")? else { return Ok(None) };
    let unreadable = || StoreError::Unreadable { table: "users", what: "id".to_owned() };
    Ok(Some(LoginSubject {
        id: UserId::parse(&id).ok_or_else(unreadable)?,
        password_hash: row.text_if_any("password_hash")?.map(PasswordHash::from_stored),
        credential_version: row.int("credential_version")?,
        disabled_at: row.time_if_any("disabled_at")?,
    }))
}

fn read_failures(row: &Row, count: &str, last_at: &str) -> Result<Option<Failures>, StoreError> {
    let (count, last_at) = (row.int_if_any(count)?, row.time_if_any(last_at)?);
    Ok(count.zip(last_at).map(|(count, last_at)| Failures { count, last_at }))
}
