//! The key table. Every change of it happens under the lock of the one row of `key_ring`, which also counts the changes.

use verifier::{Jwk, Kid, Seconds, UnixTime};

use super::engine::database::{Row, Transaction, arguments};
use super::revocations::revoke_key;
use super::{Confirmation, SqlStore, StoreError};
use crate::domain::audit::{AuditEvent, EventKind};
use crate::domain::key::{Chain, ChainKey, Change, KeyEnd, KeySchedule, NewKey, RotationError};

/// All keys, and what the statement that read them saw.
#[derive(Clone, Debug)]
pub struct KeyTable {
    /// By chain, then generation.
    pub rows: Vec<KeyRow>,
    /// The shared clock and the change counter.
    pub seen: Confirmation,
}

/// A row of the key table.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// Which chain it belongs to.
    pub chain: Chain,
    /// Its name, generation and schedule.
    pub key: ChainKey,
    /// The public half of a signing key.
    pub public_jwk: Option<Jwk>,
    /// The sealed private half, until it is erased.
    pub sealed: Option<String>,
    /// When it was announced.
    pub created_at: UnixTime,
}

/// A sealed value to replace with another one of the same secret.
#[derive(Clone, Debug)]
pub struct Resealed {
    /// The key.
    pub kid: Kid,
    /// What the row must hold now.
    pub from: String,
    /// What it shall hold.
    pub to: String,
}

/// Never less than the time: after a restored backup the next change counts higher than any that verifiers saw before.
const COUNT_CHANGE: &str =
    "UPDATE key_ring SET changes = CASE WHEN changes < {now} THEN {now} ELSE changes + 1 END";

const COLUMNS: &str = "kid, chain, generation, public_jwk, sealed_key, created_at, activates_at, retires_at, expires_at, compromised_at, life";

impl SqlStore {
    /// All keys in one snapshot.
    pub async fn key_table(&self) -> Result<KeyTable, StoreError> {
        self.run(|store| async move {
            let asked_at = store.db.clock().monotonic();
            let sql = format!(
                "SELECT {{now}}, {{changes}}, {COLUMNS} FROM key_ring LEFT JOIN keys ON 1 = 1
                  WHERE key_ring.id = 1 ORDER BY chain, generation"
            );
            let rows = store.db.read(&sql, Vec::new()).await?;
            let first = rows.first().ok_or_else(|| unreadable("the key_ring row is missing"))?;
            let seen = Confirmation::read(first, 0, asked_at)?;
            let rows = rows
                .iter()
                .filter(|row| row.text_if_any(2).is_ok_and(|kid| kid.is_some()))
                .map(|row| read_key(row, 2))
                .collect::<Result<_, _>>()?;
            Ok(KeyTable { rows, seen })
        })
        .await
    }

    /// What a key-table poll needs when nothing has changed: the shared clock and the change counter.
    pub async fn key_changes(&self) -> Result<Confirmation, StoreError> {
        self.run(|store| async move {
            let asked_at = store.db.clock().monotonic();
            let rows = store.db.read("SELECT {now}, {changes} FROM key_ring", Vec::new()).await?;
            Confirmation::read(&super::only(rows, "key_ring")?, 0, asked_at)
        })
        .await
    }

    /// Lets `decide` propose changes of one chain and applies them, in one transaction that no other key change overlaps.
    ///
    /// `decide` gets the chain as it is, whether the installation is only being founded (no cache can know any key yet), and the shared
    /// clock. `candidate` becomes the key that it announces. Each change is recorded as done by `actor`. Answers the changes that were made.
    pub async fn change_keys<D>(
        &self,
        chain: Chain,
        candidate: Option<NewKey>,
        actor: String,
        decide: D,
    ) -> Result<Result<Vec<Change>, RotationError>, StoreError>
    where
        D: Fn(&[ChainKey], bool, UnixTime) -> Result<Vec<Change>, RotationError>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.run(move |store| {
            let (candidate, actor, decide) = (candidate.clone(), actor.clone(), decide.clone());
            async move {
                let mut audit = store.audit.open().await?;
                let mut tx = store.db.begin().await?;
                count_change(&mut tx).await?;
                // A statement of its own: the one above may have waited for the lock, and its clock stood meanwhile.
                let row = super::only(tx.fetch("SELECT {now} FROM key_ring", Vec::new()).await?, "key_ring")?;
                let now = row.time(0)?;
                let keys = chain_keys(&mut tx, chain).await?;
                let founding = is_founding(&mut tx).await?;
                let changes = match decide(&keys, founding, now) {
                    Ok(changes) if !changes.is_empty() => changes,
                    nothing => {
                        audit.rollback(tx).await?;
                        return Ok(nothing);
                    }
                };
                for change in &changes {
                    apply(&mut tx, chain, &keys, change, candidate.as_ref(), now).await?;
                    if let Some(event) = event_for(chain, &keys, change, candidate.as_ref()) {
                        audit.append(&mut tx, now, &event.by(&actor)).await?;
                    }
                }
                audit.commit(tx).await?;
                Ok(Ok(changes))
            }
        })
        .await
    }

    /// Erases the private halves of keys that have expired. Answers how many.
    pub async fn erase_expired_keys(&self) -> Result<u64, StoreError> {
        self.run(|store| async move {
            let sql = "UPDATE keys SET sealed_key = NULL
                        WHERE sealed_key IS NOT NULL AND expires_at <= {now} RETURNING kid";
            Ok(store.db.write(sql, Vec::new()).await?.len() as u64)
        })
        .await
    }

    /// Replaces sealed values that still are as the caller saw them. Answers how many were replaced.
    pub async fn reseal(&self, values: Vec<Resealed>, actor: String) -> Result<u64, StoreError> {
        self.run(move |store| {
            let (values, actor) = (values.clone(), actor.clone());
            async move {
                let mut audit = store.audit.open().await?;
                let mut tx = store.db.begin().await?;
                let mut replaced = 0;
                let mut now = None;
                for value in values {
                    let sql =
                        "UPDATE keys SET sealed_key = $4 WHERE kid = $2 AND sealed_key = $3 RETURNING {now}";
                    let arguments = arguments![value.kid.as_str(), value.from, value.to];
                    if let Some(row) = tx.first(sql, arguments).await? {
                        replaced += 1;
                        now = Some(row.time(0)?);
                    }
                }
                if let Some(now) = now {
                    let event = AuditEvent::new(EventKind::KeysResealed).by(&actor).detail(replaced);
                    audit.append(&mut tx, now, &event).await?;
                }
                audit.commit(tx).await?;
                Ok(replaced)
            }
        })
        .await
    }
}

/// Counts a change of the key table, and takes its lock.
pub(super) async fn count_change(tx: &mut Transaction) -> Result<(), StoreError> {
    tx.fetch(COUNT_CHANGE, Vec::new()).await.map(drop)
}

/// The keys of a chain, by generation. The caller holds the lock.
pub(super) async fn chain_keys(tx: &mut Transaction, chain: Chain) -> Result<Vec<ChainKey>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM keys WHERE chain = $1 ORDER BY generation");
    let rows = tx.fetch(&sql, arguments![chain.as_str()]).await?;
    rows.iter().map(|row| read_key(row, 0).map(|row| row.key)).collect()
}

/// Before the bootstrap is done nobody has got a token; and without any key nobody can have got one that still verifies.
async fn is_founding(tx: &mut Transaction) -> Result<bool, StoreError> {
    let has_keys = tx.first("SELECT kid FROM keys LIMIT 1", Vec::new()).await?.is_some();
    let has_users = tx.first("SELECT id FROM installation", Vec::new()).await?.is_some();
    Ok(!has_keys || !has_users)
}

/// Makes one change of a chain that is as in `before`. The caller holds the lock.
pub(super) async fn apply(
    tx: &mut Transaction,
    chain: Chain,
    before: &[ChainKey],
    change: &Change,
    candidate: Option<&NewKey>,
    now: UnixTime,
) -> Result<(), StoreError> {
    let changed = match change {
        Change::Announce { generation, schedule } => {
            let candidate = candidate.ok_or_else(|| unreadable("a key was announced that nobody made"))?;
            let public_jwk = candidate.public_jwk.as_ref().map(serde_json::to_string).transpose();
            let sql = format!(
                "INSERT INTO keys ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULL, $10)
                 ON CONFLICT DO NOTHING RETURNING kid"
            );
            let arguments = arguments![
                candidate.kid.as_str(),
                chain.as_str(),
                *generation,
                public_jwk.map_err(|error| unreadable(&error.to_string()))?,
                candidate.sealed.as_str(),
                now,
                schedule.activates_at,
                schedule.end.map(|end| end.retires_at),
                schedule.end.map(|end| end.expires_at),
                schedule.life.map(|life| life.0),
            ];
            tx.first(&sql, arguments).await?
        }
        Change::Reschedule { generation, schedule } => {
            // Names the schedule it expects: a change that another path made in between must not be overwritten.
            let expected = before.iter().find(|key| key.generation == *generation);
            let sql = "UPDATE keys SET activates_at = $3, retires_at = $4, expires_at = $5, life = $6
                        WHERE chain = $1 AND generation = $2 AND COALESCE(retires_at, -1) = $7 RETURNING kid";
            let retires_at = expected.and_then(|key| key.schedule.end).map_or(-1, |end| end.retires_at.0);
            let arguments = arguments![
                chain.as_str(),
                *generation,
                schedule.activates_at,
                schedule.end.map(|end| end.retires_at),
                schedule.end.map(|end| end.expires_at),
                schedule.life.map(|life| life.0),
                retires_at,
            ];
            tx.first(sql, arguments).await?
        }
        Change::Compromise { generation } => {
            let sql = "UPDATE keys SET compromised_at = $3
                        WHERE chain = $1 AND generation = $2 AND compromised_at IS NULL RETURNING kid";
            let changed = tx.first(sql, arguments![chain.as_str(), *generation, now]).await?;
            if let (Some(row), Chain::Signing(_)) = (&changed, chain) {
                revoke_key(tx, &Kid::from(row.text(0)?)).await?;
            }
            changed
        }
    };
    changed.map(drop).ok_or_else(|| unreadable("a key changed although the key ring was locked"))
}

fn event_for(
    chain: Chain,
    before: &[ChainKey],
    change: &Change,
    candidate: Option<&NewKey>,
) -> Option<AuditEvent> {
    match change {
        Change::Announce { generation, schedule } => Some(
            AuditEvent::new(EventKind::KeyAnnounced)
                .on(&candidate?.kid)
                .detail(format!("{chain} generation {generation} signs from {}", schedule.activates_at.0)),
        ),
        Change::Compromise { generation } => {
            let key = before.iter().find(|key| key.generation == *generation)?;
            Some(AuditEvent::new(EventKind::KeyCompromised).on(&key.kid).detail(chain))
        }
        Change::Reschedule { .. } => None,
    }
}

fn read_key(row: &Row, from: usize) -> Result<KeyRow, StoreError> {
    let end = match (row.time_if_any(from + 7)?, row.time_if_any(from + 8)?) {
        (Some(retires_at), Some(expires_at)) => Some(KeyEnd { retires_at, expires_at }),
        _ => None,
    };
    let public_jwk = row.text_if_any(from + 3)?.map(|json| serde_json::from_str(&json)).transpose();
    Ok(KeyRow {
        chain: Chain::parse(&row.text(from + 1)?).ok_or_else(|| unreadable("unknown chain"))?,
        key: ChainKey {
            kid: Kid::from(row.text(from)?),
            generation: row.int(from + 2)?,
            schedule: KeySchedule {
                activates_at: row.time(from + 6)?,
                end,
                life: row.int_if_any(from + 10)?.map(Seconds),
            },
            compromised_at: row.time_if_any(from + 9)?,
        },
        public_jwk: public_jwk.map_err(|error| unreadable(&error.to_string()))?,
        sealed: row.text_if_any(from + 4)?,
        created_at: row.time(from + 5)?,
    })
}

fn unreadable(what: &str) -> StoreError {
    StoreError::Unreadable { table: "keys", what: what.to_owned() }
}
