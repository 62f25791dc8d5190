//! The end of this replica's hash chain in the audit log, and how a transaction extends it.

use tokio::sync::{Mutex, MutexGuard};
use verifier::UnixTime;

use super::StoreError;
use super::deadline::REQUEST_BUDGET;
use super::engine::database::Transaction;
use super::engine::row::arguments;
use crate::domain::audit::AuditEvent;

/// The end of this replica's chain.
#[derive(Debug)]
pub(super) struct AuditLog {
    replica: String,
    end: Mutex<End>,
}

#[derive(Debug)]
struct End {
    chains_started: u64,
    /// `None` while a transaction holds it, and after one whose outcome is unknown: then the next event starts a new chain, rather than
    /// one that may branch.
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

    /// Takes the end of the chain for one transaction.
    pub(super) async fn lock(&self) -> Result<AuditWriter<'_>, StoreError> {
        let mut end =
            tokio::time::timeout(REQUEST_BUDGET, self.end.lock()).await.map_err(|_| StoreError::Timeout)?;
        let head = end.head.take().unwrap_or_else(|| {
            end.chains_started += 1;
            Head { chain: format!("{}.{}", self.replica, end.chains_started), seq: 0, hash: String::new() }
        });
        Ok(AuditWriter { end, before: head.clone(), head })
    }
}

/// An event, and when it happened on the shared clock.
pub(super) struct Entry {
    event: AuditEvent,
    at: UnixTime,
}

impl AuditEvent {
    /// The entry for this event.
    pub(super) fn at(&self, now: UnixTime) -> Entry {
        Entry { event: self.clone(), at: now }
    }
}

/// The right to extend this replica's chain.
pub(super) struct AuditWriter<'a> {
    end: MutexGuard<'a, End>,
    before: Head,
    head: Head,
}

impl AuditWriter<'_> {
    /// Adds an entry to the transaction.
    pub(super) async fn append(&mut self, tx: &mut Transaction, entry: &Entry) -> Result<(), StoreError> {
        let Head { chain, seq, hash: prev } = &self.head;
        let (event, at, seq) = (&entry.event, entry.at, seq + 1);
        let hash = event.chained_hash(prev, chain, seq, at);
        let columns = arguments![
            chain.as_str(),
            seq,
            at,
            event.kind.as_str(),
            event.actor.clone(),
            event.subject.clone(),
            event.session_id.clone(),
            event.address.clone(),
            event.full_detail(),
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

    /// The transaction was committed: the chain ends with its entries.
    pub(super) fn keep(mut self) {
        self.end.head = Some(self.head);
    }

    /// The transaction was rolled back: the chain ends as before.
    pub(super) fn undo(mut self) {
        self.end.head = Some(self.before);
    }
}
