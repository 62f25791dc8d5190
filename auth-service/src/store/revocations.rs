//! Revocations: written in the transaction of their cause, and polled by every replica.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use verifier::{Kid, UnixTime};

use super::engine::database::Transaction;
use super::engine::row::{Row, arguments};
use super::{Confirmation, SqlStore, StoreError};
use crate::domain::revocation::{Revocation, Revoked};
use crate::domain::session::SessionId;

/// PostgreSQL's channel for notifications of new revocations and of changed settings.
pub(super) const CHANNEL: &str = "auth_revocations";
/// The longest time, in seconds, from `revoked_at` until the row is visible: no transaction lasts nearly as long (rule K5).
const OVERLAP: i64 = 60;
/// A connection that a firewall has dropped would never report it.
const RECONNECT_INTERVAL: Duration = Duration::from_mins(5);
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Revocations, and what the statement that read them saw.
#[derive(Clone, Debug)]
pub struct RevocationTable {
    /// In no particular order.
    pub rows: Vec<Revoked>,
    /// The shared clock and the version of the key table.
    pub seen: Confirmation,
    /// The version of the stored settings.
    pub settings: i64,
}

impl SqlStore {
    /// All revocations that count, or those made since an earlier read that saw `since` on the shared clock, and in the minute before.
    ///
    /// Two reads often find the same row. No row is missed, in whatever order transactions commit.
    pub async fn revocations(&self, since: Option<UnixTime>) -> Result<RevocationTable, StoreError> {
        // If the shared clock was set back, its own time counts.
        let which = since.map_or_else(String::new, |_| {
            format!("revoked_at >= (CASE WHEN $2 < {{now}} THEN $2 ELSE {{now}} END) - {OVERLAP} AND")
        });
        // The id of the only row tells PostgreSQL that there is one row: else it expects millions, and compiles the statement each
        // time (JIT), which costs more than running it a hundred times.
        let sql = format!(
            "SELECT {}, settings_version, kind, subject, forget_at FROM key_ring
               LEFT JOIN revocations ON {which} (forget_at IS NULL OR forget_at > {{now}}) WHERE key_ring.id = 1",
            Confirmation::COLUMNS
        );
        let arguments = since.map_or_else(Vec::new, |since| arguments![since]);
        self.read(sql, arguments, |rows| {
            let first = rows.first().ok_or_else(|| unreadable("the key_ring row is missing"))?;
            let (seen, settings) = (Confirmation::read(first)?, first.int("settings_version")?);
            let rows = rows.iter().filter_map(|row| read(row).transpose()).collect::<Result<_, _>>()?;
            Ok(RevocationTable { rows, seen, settings })
        })
        .await
    }

    /// Deletes revocations that no longer count, at most `limit` of them. Returns how many.
    pub async fn purge_revocations(&self, limit: u32) -> Result<u64, StoreError> {
        let sql = "DELETE FROM revocations WHERE (kind, subject) IN
            (SELECT kind, subject FROM revocations WHERE forget_at <= {now} ORDER BY forget_at LIMIT $2) RETURNING 1";
        self.write_and_count(sql, arguments![i64::from(limit)]).await
    }

    /// Revokes keys that a replica of the release before compromised: it writes no revocations. Returns how many.
    ///
    /// TODO: remove when 0.1 need no longer run beside this release.
    pub async fn adopt_revoked_keys(&self) -> Result<u64, StoreError> {
        let sql = "INSERT INTO revocations (kind, subject, revoked_at)
            SELECT 'key', kid, {now} FROM keys WHERE compromised_at IS NOT NULL AND chain <> 'refresh-mac'
            ON CONFLICT DO NOTHING RETURNING subject";
        self.write_and_count(sql, Vec::new()).await
    }

    /// Is notified when there may be something new to read: after each transaction that revoked something, in this process and, while
    /// [`listen`](Self::listen) runs, in any other replica.
    pub fn revoked(&self) -> &Arc<Notify> {
        self.db.revoked()
    }

    /// Passes on PostgreSQL's notifications, on a connection of its own, until the task is aborted. Without the connection, readers
    /// wait for their next poll. Returns immediately on SQLite, which serves one process.
    pub async fn listen(&self) {
        loop {
            let Some(listener) = self.db.listen(CHANNEL).await else { return };
            if let Ok(mut listener) = listener {
                while let Ok(Ok(_)) = tokio::time::timeout(RECONNECT_INTERVAL, listener.recv()).await {
                    self.revoked().notify_one();
                }
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }
}

/// Revokes the sessions of a transaction that `which` selects by `$3` and `$4` and that ended at `ended_at`.
///
/// A session that expired long ago has no token that is still accepted, and needs no revocation; so the number of rows is limited by
/// the number of sessions that a user may have.
///
/// The last refresh does not count here, as it does in [`revoke_recently_refreshed`]: in a database that was restored from a backup, a
/// session may have been refreshed later than its row says.
pub(super) async fn revoke_sessions(
    tx: &mut Transaction,
    which: &str,
    values: [&str; 2],
    ended_at: UnixTime,
) -> Result<(), StoreError> {
    revoke(tx, which, values, ended_at).await
}

/// As [`revoke_sessions`], for any number of sessions: leaves out those whose last refresh is so long ago that no verifier accepts the
/// token any more. Most sessions of a large installation are idle, and verifiers accept a limited number of revocations.
pub(super) async fn revoke_recently_refreshed(
    tx: &mut Transaction,
    which: &str,
    values: [&str; 2],
    ended_at: UnixTime,
) -> Result<(), StoreError> {
    revoke(tx, &format!("{which} AND refreshed_at > {{now}} - $2"), values, ended_at).await
}

async fn revoke(
    tx: &mut Transaction,
    which: &str,
    [first, second]: [&str; 2],
    ended_at: UnixTime,
) -> Result<(), StoreError> {
    let keep_for = tx.keep_revocations_for();
    let sql = format!(
        "INSERT INTO revocations (kind, subject, revoked_at, forget_at)
         SELECT 'session', id, {{now}}, {{now}} + $2 FROM sessions
          WHERE {which} AND ended_at = $5 AND expires_at > {{now}} - $2 AND idle_expires_at > {{now}} - $2
         ON CONFLICT DO NOTHING"
    );
    tx.fetch(&sql, arguments![keep_for.0, first, second, ended_at]).await?;
    tx.notify(CHANNEL).await
}

/// Revokes a signing key. A thief dates tokens freely, so this revocation is never forgotten.
pub(super) async fn revoke_key(tx: &mut Transaction, kid: &Kid) -> Result<(), StoreError> {
    let sql = "INSERT INTO revocations (kind, subject, revoked_at) VALUES ('key', $2, {now}) ON CONFLICT DO NOTHING";
    tx.fetch(sql, arguments![kid.as_str()]).await?;
    tx.notify(CHANNEL).await
}

/// `None` for the row without a revocation, and for kinds of a newer release.
fn read(row: &Row) -> Result<Option<Revoked>, StoreError> {
    let what = match row.text_if_any("kind")?.as_deref() {
        Some("session") => {
            let id = SessionId::parse(&row.text("subject")?).ok_or_else(|| unreadable("session id"))?;
            Revocation::Session(id)
        }
        Some("key") => Revocation::Key(Kid::from(row.text("subject")?)),
        _ => return Ok(None),
    };
    Ok(Some(Revoked { what, forget_at: row.time_if_any("forget_at")? }))
}

fn unreadable(what: &str) -> StoreError {
    StoreError::Unreadable { table: "revocations", what: what.to_owned() }
}
