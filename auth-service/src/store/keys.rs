//! The key table. Every change of it happens under the lock of the one row of `key_ring`, which holds the table's version.

use std::collections::BTreeMap;

use verifier::{Jwk, Kid, UnixTime};

use super::engine::database::Transaction;
use super::engine::row::{Row, arguments, only};
use super::revocations::revoke_key;
use super::sessions::ALIVE;
use super::transaction::Outcome::{Keep, Undo};
use super::{Confirmation, SqlStore, StoreError};
use crate::domain::audit::{AuditEvent, EventKind};
use crate::domain::authority::Actor;
use crate::domain::key::{Chain, ChainKey, Change, KeyEnd, KeySchedule, NewKey, Plan, RotationError};
use crate::domain::revocation::{LARGEST_LEEWAY, LONGEST_ACCESS_TOKEN};

/// All keys, and the confirmation of the statement that read them.
#[derive(Clone, Debug)]
pub struct KeyTable {
    /// By chain, then generation.
    pub rows: Vec<KeyRow>,
    /// The shared clock and the version of the table.
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

/// The rows that a [`Plan`] has written.
#[derive(Clone, Debug, Default)]
pub struct KeyWrite {
    /// By generation, as they are after the last change.
    rows: BTreeMap<i64, KeyRow>,
    successor: Option<i64>,
}

impl KeyWrite {
    /// The row of this generation, if it was written.
    pub fn find(&self, generation: i64) -> Option<&KeyRow> {
        self.rows.get(&generation)
    }

    /// The key that takes over.
    pub fn successor(&self) -> Option<&KeyRow> {
        self.find(self.successor?)
    }
}

/// A sealed value, to be replaced by one that seals the same secret.
#[derive(Clone, Debug)]
pub struct Resealed {
    /// The key.
    pub kid: Kid,
    /// The value that the row must have now.
    pub from: String,
    /// The value that replaces it.
    pub to: String,
}

/// Never less than the time: after a restored backup the next version is higher than any that verifiers saw before.
const RAISE_KEYS_VERSION: &str =
    "UPDATE key_ring SET changes = CASE WHEN changes < {now} THEN {now} ELSE changes + 1 END";

/// Without `life`: a column that only the release before reads. It takes an empty one for the longest life that is allowed.
const COLUMNS: &str = "kid, chain, generation, public_jwk, sealed_key, created_at, activates_at, retires_at, expires_at, compromised_at";

impl SqlStore {
    /// All keys in one snapshot.
    pub async fn key_table(&self) -> Result<KeyTable, StoreError> {
        let sql = format!(
            "SELECT {}, {COLUMNS} FROM key_ring LEFT JOIN keys ON 1 = 1
              WHERE key_ring.id = 1 ORDER BY chain, generation",
            Confirmation::COLUMNS
        );
        self.read(sql, Vec::new(), |rows| {
            let first = rows.first().ok_or_else(|| unreadable("the key_ring row is missing"))?;
            let seen = Confirmation::read(first)?;
            let keys = rows.iter().filter(|row| row.text_if_any("kid").is_ok_and(|kid| kid.is_some()));
            Ok(KeyTable { rows: keys.map(read_key).collect::<Result<_, _>>()?, seen })
        })
        .await
    }

    /// What a poll of the key table needs when nothing has changed.
    pub async fn confirmation(&self) -> Result<Confirmation, StoreError> {
        let sql = format!("SELECT {} FROM key_ring", Confirmation::COLUMNS);
        self.read(sql, Vec::new(), |rows| Confirmation::read(&only(rows, "key_ring")?)).await
    }

    /// Lets `decide` plan changes of one chain and applies them, in one transaction that no other key change overlaps.
    ///
    /// `decide` gets the chain as it is, whether the installation is only being founded (no cache can know any key yet), and the shared
    /// clock. `candidate` becomes the key that the plan announces. Each change is recorded as done by `actor`. Returns the rows that were
    /// written; none if the plan is empty.
    pub async fn change_keys<D>(
        &self,
        chain: Chain,
        candidate: Option<NewKey>,
        actor: &Actor,
        decide: D,
    ) -> Result<Result<KeyWrite, RotationError>, StoreError>
    where
        D: Fn(&[ChainKey], bool, UnixTime) -> Result<Plan, RotationError> + Send + Sync + 'static,
    {
        let actor = actor.clone();
        self.transaction(async move |tx| {
            raise_keys_version(tx).await?;
            // After the lock: the statement that waited for it may be old.
            let now = tx.now().await?;
            let keys = chain_keys(tx, chain).await?;
            let founding = is_founding(tx).await?;
            let plan = match decide(&keys, founding, now) {
                Ok(plan) if plan.is_empty() => return Ok(Undo(Ok(KeyWrite::default()))),
                Ok(plan) => plan,
                Err(refusal) => return Ok(Undo(Err(refusal))),
            };
            let (mut write, mut entries) =
                (KeyWrite { successor: plan.successor, ..KeyWrite::default() }, Vec::new());
            for change in &plan.changes {
                let row = match change {
                    Change::Announce { generation, schedule } => {
                        let key =
                            candidate.as_ref().ok_or_else(|| unreadable("no key was made for a plan"))?;
                        insert(tx, chain, key, (*generation, *schedule), now).await?
                    }
                    Change::Reschedule { generation, schedule } => {
                        let before = keys.iter().find(|key| key.generation == *generation);
                        reschedule(tx, chain, before.ok_or_else(lost)?, schedule).await?
                    }
                    Change::Compromise { generation } => {
                        mark_compromised(tx, chain, *generation, now).await?
                    }
                };
                entries.extend(event_for(change, &row).map(|event| event.by_actor(&actor).at(now)));
                write.rows.insert(row.key.generation, row);
            }
            Ok(Keep(Ok(write), entries))
        })
        .await
    }

    /// Erases the private halves of keys that have expired. Returns how many.
    ///
    /// A MAC key is kept while a session that began before it retired is alive: its client may hold a token that the key sealed, however
    /// long ago, because the responses to all later refreshes were lost (rule K2). A replica whose clock is behind may use the key for a
    /// little longer.
    pub async fn erase_expired_keys(&self) -> Result<u64, StoreError> {
        let sql = format!(
            "UPDATE keys SET sealed_key = NULL
              WHERE sealed_key IS NOT NULL AND expires_at <= {{now}}
                AND NOT (chain = '{}' AND EXISTS
                    (SELECT 1 FROM sessions WHERE {ALIVE} AND sessions.created_at < keys.retires_at + {}))
             RETURNING kid",
            Chain::RefreshMac,
            LARGEST_LEEWAY.0,
        );
        self.write_and_count(sql, Vec::new()).await
    }

    /// Corrects keys of the release before, which stores the life of its own tokens with a key and computes the key's end from it:
    /// empty is the longest life. Returns how many.
    ///
    /// TODO: remove when the release before need no longer run beside this one.
    pub async fn adopt_announced_keys(&self) -> Result<u64, StoreError> {
        let sql = "UPDATE keys SET life = NULL WHERE life < $1 AND chain <> 'refresh-mac' RETURNING kid";
        self.write_and_count(sql, arguments![LONGEST_ACCESS_TOKEN.0]).await
    }

    /// Replaces sealed values that still are as the caller saw them. Returns how many were replaced.
    pub async fn reseal(&self, values: Vec<Resealed>, actor: &Actor) -> Result<u64, StoreError> {
        let actor = actor.clone();
        self.transaction(async move |tx| {
            let (mut replaced, mut changed_at) = (0, None);
            for Resealed { kid, from, to } in &values {
                let sql = "UPDATE keys SET sealed_key = $4 WHERE kid = $2 AND sealed_key = $3 RETURNING {now} AS now";
                if let Some(row) = tx.first(sql, arguments![kid.as_str(), from.as_str(), to.as_str()]).await? {
                    replaced += 1;
                    changed_at = Some(row.time("now")?);
                }
            }
            let event = AuditEvent::new(EventKind::KeysResealed).by_actor(&actor).detail(replaced);
            Ok(Keep(replaced, changed_at.map(|now| event.at(now)).into_iter().collect()))
        })
        .await
    }
}

/// Raises the version of the key table, and takes its lock.
async fn raise_keys_version(tx: &mut Transaction) -> Result<(), StoreError> {
    tx.fetch(RAISE_KEYS_VERSION, Vec::new()).await.map(drop)
}

/// The keys of a chain, by generation. The caller holds the lock.
async fn chain_keys(tx: &mut Transaction, chain: Chain) -> Result<Vec<ChainKey>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM keys WHERE chain = $1 ORDER BY generation");
    let rows = tx.fetch(&sql, arguments![chain.as_str()]).await?;
    rows.iter().map(|row| read_key(row).map(|row| row.key)).collect()
}

/// Before the bootstrap no token was issued, and without any key no token verifies.
async fn is_founding(tx: &mut Transaction) -> Result<bool, StoreError> {
    let has_keys = tx.first("SELECT kid FROM keys LIMIT 1", Vec::new()).await?.is_some();
    let has_users = tx.first("SELECT id FROM installation", Vec::new()).await?.is_some();
    Ok(!has_keys || !has_users)
}

/// Adds the next key of a chain. The caller holds the lock.
async fn insert(
    tx: &mut Transaction,
    chain: Chain,
    key: &NewKey,
    (generation, schedule): (i64, KeySchedule),
    now: UnixTime,
) -> Result<KeyRow, StoreError> {
    let public_jwk = key.public_jwk.as_ref().map(serde_json::to_string).transpose();
    let sql = format!(
        "INSERT INTO keys ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULL)
         ON CONFLICT DO NOTHING RETURNING {COLUMNS}"
    );
    let arguments = arguments![
        key.kid.as_str(),
        chain.as_str(),
        generation,
        public_jwk.map_err(|error| unreadable(&error.to_string()))?,
        key.sealed.as_str(),
        now,
        schedule.activates_at,
        schedule.end.map(|end| end.retires_at),
        schedule.end.map(|end| end.expires_at),
    ];
    read_key(&tx.first(&sql, arguments).await?.ok_or_else(lost)?)
}

/// Moves the schedule of a key that is as in `before`. The caller holds the lock.
async fn reschedule(
    tx: &mut Transaction,
    chain: Chain,
    before: &ChainKey,
    schedule: &KeySchedule,
) -> Result<KeyRow, StoreError> {
    // Names the schedule that it expects: a change made in between must not be overwritten.
    let sql = format!(
        "UPDATE keys SET activates_at = $3, retires_at = $4, expires_at = $5
          WHERE chain = $1 AND generation = $2 AND COALESCE(retires_at, -1) = $6 RETURNING {COLUMNS}"
    );
    let arguments = arguments![
        chain.as_str(),
        before.generation,
        schedule.activates_at,
        schedule.end.map(|end| end.retires_at),
        schedule.end.map(|end| end.expires_at),
        before.schedule.end.map_or(-1, |end| end.retires_at.0),
    ];
    read_key(&tx.first(&sql, arguments).await?.ok_or_else(lost)?)
}

/// Marks a key, and revokes it if it signs tokens. The caller holds the lock.
async fn mark_compromised(
    tx: &mut Transaction,
    chain: Chain,
    generation: i64,
    now: UnixTime,
) -> Result<KeyRow, StoreError> {
    let sql = format!(
        "UPDATE keys SET compromised_at = $3
          WHERE chain = $1 AND generation = $2 AND compromised_at IS NULL RETURNING {COLUMNS}"
    );
    let row = tx.first(&sql, arguments![chain.as_str(), generation, now]).await?.ok_or_else(lost)?;
    let row = read_key(&row)?;
    if let Chain::Signing(_) = chain {
        revoke_key(tx, &row.key.kid).await?;
    }
    Ok(row)
}

fn event_for(change: &Change, KeyRow { chain, key, .. }: &KeyRow) -> Option<AuditEvent> {
    let event = match change {
        Change::Announce { generation, schedule } => AuditEvent::new(EventKind::KeyAnnounced)
            .detail(format!("{chain} generation {generation} signs from {}", schedule.activates_at.0)),
        Change::Compromise { .. } => AuditEvent::new(EventKind::KeyCompromised).detail(chain),
        Change::Reschedule { .. } => return None,
    };
    Some(event.on(&key.kid))
}

fn read_key(row: &Row) -> Result<KeyRow, StoreError> {
    let end = match (row.time_if_any("retires_at")?, row.time_if_any("expires_at")?) {
        (Some(retires_at), Some(expires_at)) => Some(KeyEnd { retires_at, expires_at }),
        _ => None,
    };
    let public_jwk = row.text_if_any("public_jwk")?.map(|json| serde_json::from_str(&json)).transpose();
    Ok(KeyRow {
        chain: Chain::parse(&row.text("chain")?).ok_or_else(|| unreadable("unknown chain"))?,
        key: ChainKey {
            kid: Kid::from(row.text("kid")?),
            generation: row.int("generation")?,
            schedule: KeySchedule { activates_at: row.time("activates_at")?, end },
            compromised_at: row.time_if_any("compromised_at")?,
        },
        public_jwk: public_jwk.map_err(|error| unreadable(&error.to_string()))?,
        sealed: row.text_if_any("sealed_key")?,
        created_at: row.time("created_at")?,
    })
}

fn lost() -> StoreError {
    unreadable("a key changed while the key ring was locked")
}

fn unreadable(what: &str) -> StoreError {
    StoreError::Unreadable { table: "keys", what: what.to_owned() }
}
