//! The data that a login needs before it checks a password, and the networks from which users log in.

use verifier::{Seconds, UnixTime};

use super::engine::database::Transaction;
use super::engine::row::{Row, arguments, only};
use super::{SqlStore, StoreError};
use crate::domain::limit::KNOWN_FOR;
use crate::domain::password::PasswordHash;
use crate::domain::user::UserId;

/// A network that is known is written again after this time, so that most logins do not write it.
const SEEN_INTERVAL: Seconds = Seconds(86_400);

/// What a login needs to know before it checks a password.
#[derive(Debug)]
pub struct LoginAttempt {
    /// The shared clock.
    pub now: UnixTime,
    /// The user with the presented name, if there is one.
    pub subject: Option<LoginSubject>,
    /// Whether the user has logged in from the client's network within [`KNOWN_FOR`].
    pub is_known_network: bool,
    /// The hash of some user, always the same one for `decoy_from`: what a check for an unknown user costs.
    pub decoy: Option<PasswordHash>,
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
    /// Reads what a login needs, in one statement. `network` is a hash, and empty if it cannot be known; `decoy_from` is any
    /// id: the hash of the first user from there on is the decoy.
    pub async fn login_attempt(
        &self,
        username: String,
        network: String,
        decoy_from: UserId,
    ) -> Result<LoginAttempt, StoreError> {
        let sql = format!(
            "SELECT {{now}} AS now, users.id AS user_id, password_hash, credential_version, disabled_at,
                (SELECT COUNT(*) FROM known_networks
                  WHERE user_id = users.id AND network = $3 AND last_login_at > {{now}} - {}) AS known,
                COALESCE(
                    (SELECT password_hash FROM users WHERE id >= $4 AND password_hash IS NOT NULL ORDER BY id LIMIT 1),
                    (SELECT password_hash FROM users WHERE password_hash IS NOT NULL ORDER BY id LIMIT 1)) AS decoy
            FROM key_ring LEFT JOIN users ON username = $2",
            KNOWN_FOR.0
        );
        self.read(sql, arguments![username, network, decoy_from.to_string()], |rows| {
            let row = only(rows, "key_ring")?;
            Ok(LoginAttempt {
                now: row.time("now")?,
                subject: read_subject(&row)?,
                is_known_network: row.int("known")? > 0,
                decoy: row.text_if_any("decoy")?.map(PasswordHash::from_stored),
            })
        })
        .await
    }

    /// Whether a user has logged in from a network within [`KNOWN_FOR`].
    pub async fn knows_network(&self, user: UserId, network: &str) -> Result<bool, StoreError> {
        let sql = "SELECT network FROM known_networks WHERE user_id = $2 AND network = $3 AND last_login_at > {now} - $4";
        self.read(sql, arguments![user.to_string(), network, KNOWN_FOR.0], |rows| Ok(!rows.is_empty())).await
    }

    /// Deletes networks that are no longer known, at most `limit` of them. Returns how many.
    pub async fn purge_networks(&self, limit: u32) -> Result<u64, StoreError> {
        let sql = "DELETE FROM known_networks WHERE (user_id, network) IN
            (SELECT user_id, network FROM known_networks WHERE last_login_at < {now} - $2 LIMIT $3) RETURNING network";
        self.write_and_count(sql, arguments![KNOWN_FOR.0, i64::from(limit)]).await
    }
}

/// Remembers that a user logged in from a network, in the transaction of the login.
pub(super) async fn remember_network(
    tx: &mut Transaction,
    user: UserId,
    network: &str,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO known_networks (user_id, network, last_login_at) VALUES ($2, $3, {now})
               ON CONFLICT (user_id, network) DO UPDATE SET last_login_at = excluded.last_login_at
                WHERE known_networks.last_login_at < {now} - $4";
    tx.fetch(sql, arguments![user.to_string(), network, SEEN_INTERVAL.0]).await.map(drop)
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
