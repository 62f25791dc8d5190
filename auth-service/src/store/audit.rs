//! The audit log: append-only, one hash chain a replica, written in the transaction of what it records.

use verifier::UnixTime;

use super::engine::row::{Row, arguments};
use super::transaction::Outcome::Keep;
use super::{SqlStore, StoreError};
use crate::domain::audit::AuditEvent;

/// A place in the audit log; entries are ordered by time, then by chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditCursor {
    /// Time of the last entry seen.
    pub at: UnixTime,
    /// Its chain.
    pub chain: String,
    /// Its place in the chain.
    pub seq: i64,
}

/// An entry of the audit log.
#[derive(Clone, Debug)]
pub struct AuditRow {
    /// Its place.
    pub place: AuditCursor,
    /// What happened, see [`EventKind`](crate::domain::audit::EventKind).
    pub event: String,
    /// The user or program that caused it.
    pub actor: Option<String>,
    /// The user or thing that it happened to.
    pub subject: Option<String>,
    /// In which session.
    pub session_id: Option<String>,
    /// From which address.
    pub address: Option<String>,
    /// Anything else.
    pub detail: Option<String>,
    /// Hash of the entry before it in the chain; empty for the first.
    pub prev: String,
    /// Hash of this entry.
    pub hash: String,
}

impl SqlStore {
    /// Records an event that changes nothing else.
    pub async fn record(&self, event: AuditEvent) -> Result<(), StoreError> {
        self.transaction(async move |tx| Ok(Keep((), vec![event.at(tx.now().await?)]))).await
    }

    /// At most `limit` entries, oldest first, after the last place of an earlier page.
    pub async fn audit_page(
        &self,
        after: Option<AuditCursor>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let start = || AuditCursor { at: UnixTime(i64::MIN), chain: String::new(), seq: 0 };
        let AuditCursor { at, chain, seq } = after.unwrap_or_else(start);
        self.read(
            "SELECT at, chain, seq, event, actor, subject, session_id, address, detail, prev, hash FROM audit
              WHERE (at, chain, seq) > ($1, $2, $3) ORDER BY at, chain, seq LIMIT $4",
            arguments![at, chain, seq, i64::from(limit)],
            |rows| rows.iter().map(read_entry).collect(),
        )
        .await
    }
}

fn read_entry(row: &Row) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        place: AuditCursor { at: row.time("at")?, chain: row.text("chain")?, seq: row.int("seq")? },
        event: row.text("event")?,
        actor: row.text_if_any("actor")?,
        subject: row.text_if_any("subject")?,
        session_id: row.text_if_any("session_id")?,
        address: row.text_if_any("address")?,
        detail: row.text_if_any("detail")?,
        prev: row.text("prev")?,
        hash: row.text("hash")?,
    })
}
