//! Counters of tries, shared by all replicas.

use verifier::{Seconds, UnixTime};

use super::engine::database::Transaction;
use super::engine::row::{Row, arguments, only};
use super::transaction::Outcome::{Keep, Undo};
use super::{SqlStore, StoreError};
use crate::domain::audit::AuditEvent;
use crate::domain::limit::{Counter, Limit, Refusal, Reserved};

/// A limit, and the name of the counter to which it applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Unique over all kinds of counters. Contains no name and no address in clear.
    pub subject: String,
    /// The limit.
    pub limit: Limit,
}

/// A refused try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The limit that refused it, with the longest wait if there are several.
    pub by: Applied,
    /// The wait until a try may succeed; at least a second.
    pub wait: Seconds,
    /// Whether only other tries that are under way stand in the way.
    pub is_busy: bool,
}

const COLUMNS: &str = "subject, failures, last_at, reserved_interval, reserved_now, reserved_before";

impl SqlStore {
    /// Reserves a try under all limits or none. Returns the time of the reservation on the shared clock.
    ///
    /// A refused try writes nothing, unless it was refused because another one came first at the same moment.
    pub async fn reserve(&self, limits: &[Applied]) -> Result<Result<UnixTime, Refused>, StoreError> {
        if let Err(refused) = self.may_reserve(limits).await? {
            return Ok(Err(refused));
        }
        let limits = sorted(limits);
        self.transaction(async move |tx| {
            let mut counters = Vec::new();
            for applied in &limits {
                counters.push(lock(tx, &applied.subject).await?);
            }
            // After the locks: the statement that waited for one may be old.
            let now = tx.now().await?;
            let reserved = match reserve_all(&limits, &counters, now) {
                Ok(reserved) => reserved,
                Err(refused) => return Ok(Undo(Err(refused))),
            };
            for (applied, counter) in limits.iter().zip(reserved) {
                write(tx, &applied.subject, counter).await?;
            }
            Ok(Keep(Ok(now), Vec::new()))
        })
        .await
    }

    /// Whether a try could be reserved now. Writes nothing.
    pub async fn may_reserve(&self, limits: &[Applied]) -> Result<Result<(), Refused>, StoreError> {
        let limits = limits.to_vec();
        let places: Vec<String> = (2..limits.len() + 2).map(|place| format!("${place}")).collect();
        let sql = format!(
            "SELECT {{now}} AS now, {COLUMNS} FROM key_ring LEFT JOIN login_failures ON subject IN ({})",
            places.join(", ")
        );
        let subjects = limits.iter().map(|applied| applied.subject.as_str().into()).collect();
        self.read(sql, subjects, move |rows| {
            let now = rows.first().ok_or_else(|| unreadable("the key_ring row is missing"))?.time("now")?;
            let mut counters = vec![Counter::default(); limits.len()];
            for row in rows {
                let Some(subject) = row.text_if_any("subject")? else { continue };
                let place = limits.iter().position(|applied| applied.subject == subject);
                if let Some(counter) = place.and_then(|place| counters.get_mut(place)) {
                    *counter = read(&row)?;
                }
            }
            Ok(reserve_all(&limits, &counters, now).map(drop))
        })
        .await
    }

    /// Gives a reservation back, as if the try had not been made.
    pub async fn give_back(&self, limits: &[Applied], reserved_at: UnixTime) -> Result<(), StoreError> {
        self.settle(limits, None, move |limit, counter, _| limit.give_back(counter, reserved_at)).await
    }

    /// Turns a reservation into a success.
    pub async fn succeed(&self, limits: &[Applied], reserved_at: UnixTime) -> Result<(), StoreError> {
        self.settle(limits, None, move |limit, counter, _| limit.succeed(counter, reserved_at)).await
    }

    /// Turns a reservation into a counted failure, and records `event`.
    pub async fn fail(
        &self,
        limits: &[Applied],
        reserved_at: UnixTime,
        event: AuditEvent,
    ) -> Result<(), StoreError> {
        let fail = move |limit: Limit, counter, now| limit.fail(counter, reserved_at, now);
        self.settle(limits, Some(event), fail).await
    }

    async fn settle(
        &self,
        limits: &[Applied],
        event: Option<AuditEvent>,
        change: impl Fn(Limit, Counter, UnixTime) -> Counter + Send + Sync + 'static,
    ) -> Result<(), StoreError> {
        let limits = sorted(limits);
        self.transaction(async move |tx| {
            let mut counters = Vec::new();
            for applied in &limits {
                counters.push(lock(tx, &applied.subject).await?);
            }
            let now = tx.now().await?;
            for (Applied { subject, limit }, before) in limits.iter().zip(counters) {
                let after = change(*limit, before, now);
                if after != before {
                    write(tx, subject, after).await?;
                }
            }
            Ok(Keep((), event.clone().map(|event| event.at(now)).into_iter().collect()))
        })
        .await
    }

    /// Deletes counters without open reservations that are idle for `forget_after`, and those whose subject begins with `kept` only after `keep_for`; at most `limit` of them.
    /// Returns how many.
    pub async fn purge_counters(
        &self,
        forget_after: Seconds,
        (kept, keep_for): (&str, Seconds),
        limit: u32,
    ) -> Result<u64, StoreError> {
        let sql = "DELETE FROM login_failures WHERE subject IN
            (SELECT subject FROM login_failures WHERE last_at < {now} - $2
                AND (last_at < {now} - $4 OR substr(subject, 1, length($3)) <> $3)
                AND (reserved_now + reserved_before = 0 OR reserved_interval < {now} / 10 - 1) LIMIT $5) RETURNING subject";
        self.write_and_count(sql, arguments![forget_after.0, kept, keep_for.0, i64::from(limit)]).await
    }

    /// Forgets the counters with these subjects and those whose subjects begin with one of `prefixes`, and records `event` if there were
    /// any. Returns whether there were.
    pub async fn forget_counters(
        &self,
        subjects: Vec<String>,
        prefix: String,
        event: AuditEvent,
    ) -> Result<bool, StoreError> {
        self.transaction(async move |tx| {
            let mut now = None;
            let sql =
                "DELETE FROM login_failures WHERE substr(subject, 1, length($2)) = $2 RETURNING {now} AS now";
            for row in tx.fetch(sql, arguments![prefix.as_str()]).await? {
                now = Some(row.time("now")?);
            }
            for subject in &subjects {
                let sql = "DELETE FROM login_failures WHERE subject = $2 RETURNING {now} AS now";
                for row in tx.fetch(sql, arguments![subject.as_str()]).await? {
                    now = Some(row.time("now")?);
                }
            }
            Ok(match now {
                Some(now) => Keep(true, vec![event.at(now)]),
                None => Undo(false),
            })
        })
        .await
    }
}

/// In one order, so that two tries never wait for each other.
fn sorted(limits: &[Applied]) -> Vec<Applied> {
    let mut sorted = limits.to_vec();
    sorted.sort_by(|a, b| a.subject.cmp(&b.subject));
    sorted
}

fn reserve_all(limits: &[Applied], counters: &[Counter], now: UnixTime) -> Result<Vec<Counter>, Refused> {
    let (mut reserved, mut refused) = (Vec::new(), None::<Refused>);
    for (applied, counter) in limits.iter().zip(counters) {
        match applied.limit.reserve(*counter, now) {
            Ok(counter) => reserved.push(counter),
            Err(refusal) => {
                let next =
                    Refused { by: applied.clone(), wait: refusal.wait(), is_busy: refusal == Refusal::Busy };
                // A wait counts for more than other tries, and the longest for the most.
                let weight = |refused: &Refused| (!refused.is_busy, refused.wait);
                if refused.as_ref().is_none_or(|refused| weight(refused) < weight(&next)) {
                    refused = Some(next);
                }
            }
        }
    }
    refused.map_or(Ok(reserved), Err)
}

/// Reads a counter, which is made if it is missing, and keeps others from changing it until the transaction ends.
async fn lock(tx: &mut Transaction, subject: &str) -> Result<Counter, StoreError> {
    let sql = format!(
        "INSERT INTO login_failures (subject, failures, last_at) VALUES ($1, 0, 0)
         ON CONFLICT (subject) DO UPDATE SET subject = excluded.subject RETURNING {COLUMNS}"
    );
    read(&only(tx.fetch(&sql, arguments![subject]).await?, "login_failures")?)
}

async fn write(tx: &mut Transaction, subject: &str, counter: Counter) -> Result<(), StoreError> {
    let sql = "UPDATE login_failures SET failures = $2, last_at = $3, reserved_interval = $4, reserved_now = $5, reserved_before = $6
                WHERE subject = $1";
    let Reserved { interval, now, before } = counter.reserved;
    tx.fetch(sql, arguments![subject, counter.count, counter.last_at, interval, now, before]).await.map(drop)
}

fn read(row: &Row) -> Result<Counter, StoreError> {
    Ok(Counter {
        count: row.int("failures")?,
        last_at: row.time("last_at")?,
        reserved: Reserved {
            interval: row.int("reserved_interval")?,
            now: row.int("reserved_now")?,
            before: row.int("reserved_before")?,
        },
    })
}

fn unreadable(what: &str) -> StoreError {
    StoreError::Unreadable { table: "login_failures", what: what.to_owned() }
}
