//! The audit log: append-only, one hash chain a replica, written in the transaction of what it records.

use tokio::sync::{Mutex, MutexGuard};
use verifier::UnixTime;

use super::engine::database::{Argument, Transaction, arguments};
use super::{SqlStore, StoreError};
use crate::domain::audit::AuditEvent;

/// The end of this replica's chain. `None` while a transaction holds it, and after one whose outcome is unknown: then the next
/// event starts a new chain, rather than one that may branch.
#[derive(Debug)]
pub(super) struct AuditLog {
    replica: String,
    end: Mutex<End>,
}

#[derive(Debug)]
struct End {
    chains_started: u64,
    head: Option<Head>,
}

#[derive(Clone, Debug)]
struct Head {
    chain: String,
    seq: i64,
    hash: String,
}

impl AuditLog {
    pub(super) fn new(replica: &str) -> Self {
        Self { replica: replica.to_owned(), end: Mutex::new(End { chains_started: 0, head: None }) }
    }

    /// The name of this process, with which the names of its chains begin.
    pub(super) fn replica(&self) -> &str {
        &self.replica
    }

    /// Takes the end of the chain for one transaction. Always before the transaction begins, so that two tasks cannot wait
    /// for each other.
    pub(super) async fn open(&self) -> Result<AuditWriter<'_>, StoreError> {
        let mut end = tokio::time::timeout(super::REQUEST_BUDGET, self.end.lock())
            .await
            .map_err(|_| StoreError::Timeout)?;
        let head = end.head.take().unwrap_or_else(|| {
            end.chains_started += 1;
            Head { chain: format!("{}.{}", self.replica, end.chains_started), seq: 0, hash: String::new() }
        });
        Ok(AuditWriter { end, before: head.clone(), head })
    }
}

/// The right to extend this replica's chain.
pub(super) struct AuditWriter<'a> {
    end: MutexGuard<'a, End>,
    before: Head,
    head: Head,
}

impl AuditWriter<'_> {
    /// Adds an event to the transaction.
    pub(super) async fn append(
        &mut self,
        tx: &mut Transaction,
        at: UnixTime,
        event: &AuditEvent,
    ) -> Result<(), StoreError> {
        let Head { chain, seq, hash: prev } = &self.head;
        let seq = seq + 1;
        let hash = event.chained_hash(prev, chain, seq, at);
        let columns: Vec<Argument> = arguments![
            chain.as_str(),
            seq,
            at,
            event.kind.as_str(),
            event.actor.clone(),
            event.subject.clone(),
            event.session_id.clone(),
            event.address.clone(),
            event.detail.clone(),
            prev.as_str(),
            hash.as_str(),
        ];
        tx.fetch(
            "INSERT INTO audit (chain, seq, at, event, actor, subject, session_id, address, detail, prev, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            columns,
        )
        .await?;
        self.head = Head { chain: chain.clone(), seq, hash };
        Ok(())
    }

    /// Commits the transaction with its events.
    pub(super) async fn commit(mut self, tx: Transaction) -> Result<(), StoreError> {
        tx.commit().await?;
        self.end.head = Some(self.head);
        Ok(())
    }

    /// Undoes the transaction and its events.
    pub(super) async fn rollback(mut self, tx: Transaction) -> Result<(), StoreError> {
        tx.rollback().await?;
        self.end.head = Some(self.before);
        Ok(())
    }
}

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
    /// Where it stands.
    pub place: AuditCursor,
    /// What happened, see [`EventKind`](crate::domain::audit::EventKind).
    pub event: String,
    /// Who did it.
    pub actor: Option<String>,
    /// To whom or what.
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
        self.run(move |store| {
            let event = event.clone();
            async move {
                let mut audit = store.audit.open().await?;
                let mut tx = store.db.begin().await?;
                let now = super::only(tx.fetch("SELECT {now}", Vec::new()).await?, "audit")?.time(0)?;
                audit.append(&mut tx, now, &event).await?;
                audit.commit(tx).await
            }
        })
        .await
    }

    /// At most `limit` entries, oldest first, after a place that an earlier answer ended with.
    pub async fn audit_page(
        &self,
        after: Option<AuditCursor>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        self.run(move |store| {
            let after = after.clone().unwrap_or(AuditCursor {
                at: UnixTime(i64::MIN),
                chain: String::new(),
                seq: 0,
            });
            async move {
                let rows = store
                    .db
                    .read(
                        "SELECT at, chain, seq, event, actor, subject, session_id, address, detail, prev, hash FROM audit
                          WHERE (at, chain, seq) > ($1, $2, $3) ORDER BY at, chain, seq LIMIT $4",
                        arguments![after.at, after.chain, after.seq, i64::from(limit)],
                    )
                    .await?;
                rows.iter()
                    .map(|row| {
                        Ok(AuditRow {
                            place: AuditCursor { at: row.time(0)?, chain: row.text(1)?, seq: row.int(2)? },
                            event: row.text(3)?,
                            actor: row.text_if_any(4)?,
                            subject: row.text_if_any(5)?,
                            session_id: row.text_if_any(6)?,
                            address: row.text_if_any(7)?,
                            detail: row.text_if_any(8)?,
                            prev: row.text(9)?,
                            hash: row.text(10)?,
                        })
                    })
                    .collect()
            }
        })
        .await
    }
}
