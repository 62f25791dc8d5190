//! The audit log: append-only, one hash chain a replica, written in the transaction of what it records.

use verifier::UnixTime;

use super::engine::row::{Argument, Row};
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

/// Which entries of the audit log to read, and in which order. The default is all of them, oldest first.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Ids and names of people, one of whom is the actor or the subject. Empty: anyone.
    pub people: Vec<String>,
    /// The session.
    pub session: Option<String>,
    /// The name of the event; see [`EventKind`](crate::domain::audit::EventKind).
    pub event: Option<String>,
    /// First second.
    pub since: Option<UnixTime>,
    /// First second that no longer counts.
    pub until: Option<UnixTime>,
    /// Whether the newest entries come first.
    pub newest_first: bool,
}

impl AuditFilter {
    /// The statement for a page of `limit` entries after a place, and its arguments.
    fn page(self, after: Option<AuditCursor>, limit: u32) -> (String, Vec<Argument>) {
        let (mut conditions, mut arguments) = (vec!["1 = 1".to_owned()], Vec::new());
        let mut placeholder = |argument: Argument| {
            arguments.push(argument);
            format!("${}", arguments.len())
        };
        if !self.people.is_empty() {
            let people: Vec<_> = self.people.into_iter().map(|one| placeholder(one.into())).collect();
            let people = people.join(", ");
            conditions.push(format!("(actor IN ({people}) OR subject IN ({people}))"));
        }
        let equal = [("session_id", self.session), ("event", self.event)];
        for (column, value) in equal.into_iter().filter_map(|(column, value)| Some((column, value?))) {
            conditions.push(format!("{column} = {}", placeholder(value.into())));
        }
        conditions.extend(self.since.map(|at| format!("at >= {}", placeholder(at.into()))));
        conditions.extend(self.until.map(|at| format!("at < {}", placeholder(at.into()))));
        let (beyond, order) = if self.newest_first { ("<", "DESC") } else { (">", "ASC") };
        conditions.extend(after.map(|AuditCursor { at, chain, seq }| {
            let [at, chain, seq] = [at.into(), chain.into(), seq.into()].map(&mut placeholder);
            format!("(at, chain, seq) {beyond} ({at}, {chain}, {seq})")
        }));
        let limit = placeholder(i64::from(limit).into());
        let sql = format!(
            "SELECT at, chain, seq, event, actor, subject, session_id, address, detail, prev, hash FROM audit
              WHERE {} ORDER BY at {order}, chain {order}, seq {order} LIMIT {limit}",
            conditions.join(" AND ")
        );
        (sql, arguments)
    }
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

    /// At most `limit` of the entries that `filter` selects, in its order, after the last place of an earlier page.
    pub async fn audit_page(
        &self,
        filter: &AuditFilter,
        after: Option<AuditCursor>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let (sql, arguments) = filter.clone().page(after, limit);
        self.read(sql, arguments, |rows| rows.iter().map(read_entry).collect()).await
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
