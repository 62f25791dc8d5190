//! The keys of this replica: a snapshot of the key table, and the lease that allows their use.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use ring::{digest, hmac};
use tokio::sync::Mutex;
use verifier::{Algorithm, Clock, JwkSet, KeySet, Kid, Seconds, UnixTime};

use super::material::purpose;
use super::sealing::{MasterKeys, OpenError};
use super::signer::Signer;
use crate::domain::hex;
use crate::domain::key::{Chain, ChainKey, KeyPhase, KeySchedule};
use crate::store::{Confirmation, KeyRow, KeyTable, SqlStore, StoreError};

/// The minimum interval between two lookups of unknown keys in the database.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(1);

/// The keys of this replica, and the time of their last confirmation.
#[derive(Debug)]
pub struct KeyRing {
    snapshot: ArcSwap<Snapshot>,
    document: ArcSwapOption<Document>,
    /// The last confirmation of the snapshot. Its time may be earlier than that of the one before, because
    /// the shared clock can be set back.
    confirmed: ArcSwap<Confirmation>,
    lookups: [Lookup; 2],
    problem: ArcSwapOption<String>,
    reloading: Mutex<()>,
    master: Arc<MasterKeys>,
    clock: Arc<dyn Clock>,
    publish_ahead: Duration,
}

/// When the last lookup of an unknown key was sent. The holder of the lock sends it; other requests wait.
type Lookup = Mutex<Option<Duration>>;

/// The kind of id of an unknown key. Each kind has its own limit, so that invented ids of one kind do not
/// delay lookups of the other.
#[derive(Clone, Copy, Debug)]
pub enum LookupBy {
    /// The `kid` of an access token.
    Kid,
    /// The id of a refresh token's key.
    MacKey,
}

/// The key table as it was read at one instant.
#[derive(Debug)]
pub struct Snapshot {
    keys_version: i64,
    keys: Vec<RingKey>,
    key_set: KeySet,
}

/// A key of the ring.
#[derive(Debug)]
pub struct RingKey {
    /// The row in the key table.
    pub row: KeyRow,
    use_: KeyUse,
}

#[derive(Clone, Debug)]
enum KeyUse {
    Sign(Arc<Signer>),
    Mac(hmac::Key),
    /// Expired and erased.
    None,
}

/// A key that may sign now.
#[derive(Clone, Debug)]
pub struct ActiveKey {
    /// The signer of tokens.
    pub signer: Arc<Signer>,
    /// The schedule of the key, whose end limits the expiry of tokens.
    pub schedule: KeySchedule,
}

/// Why this replica must not sign.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The last confirmation of the key table is too old (rule K4).
    #[error("the signing lease has expired")]
    Expired,
    /// No signing key is active.
    #[error("no signing key is active")]
    NoActiveKey,
    /// No key for refresh tokens is loaded.
    #[error("no refresh token key is loaded")]
    NoMacKey,
    /// A key cannot be opened.
    #[error("{0}")]
    Unusable(#[from] RingError),
}

/// Why the key table could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A sealed key cannot be opened with the master keys of this replica.
    #[error("key {kid} cannot be opened: {cause}")]
    Open {
        /// The key.
        kid: Kid,
        /// The reason.
        cause: OpenError,
    },
    /// An opened secret is not a valid key of its algorithm.
    #[error("key {0} is damaged")]
    Damaged(Kid),
    /// The last lookup of an unknown key, less than a second ago, did not succeed.
    #[error("the key table was not read within the last second")]
    NotConfirmed,
}

/// The served JWKS, rendered once per change.
#[derive(Debug)]
pub struct Document {
    /// The JSON document.
    pub body: bytes::Bytes,
    /// The strong entity tag, with quotes.
    pub etag: String,
    keys_version: i64,
    /// The time range in which this document is valid.
    valid: Range<UnixTime>,
}

/// How long a cache may keep a JWKS response, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLife {
    /// `max-age`.
    pub max_age: i64,
    /// `stale-while-revalidate`.
    pub stale_while_revalidate: i64,
}

impl KeyRing {
    /// Loads a key table. Fails if a key in use cannot be opened.
    pub fn new(
        table: &KeyTable,
        master: Arc<MasterKeys>,
        clock: Arc<dyn Clock>,
        publish_ahead: Seconds,
    ) -> Result<Self, RingError> {
        let snapshot = Snapshot::open(table, &master, None)?;
        Ok(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            document: ArcSwapOption::empty(),
            confirmed: ArcSwap::from_pointee(table.seen),
            lookups: <[Lookup; 2]>::default(),
            problem: ArcSwapOption::empty(),
            reloading: Mutex::new(()),
            master,
            clock,
            publish_ahead: publish_ahead.into(),
        })
    }

    /// The keys as last read.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The master keys that open and seal this ring.
    pub fn master(&self) -> &Arc<MasterKeys> {
        &self.master
    }

    /// Makes the snapshot at least as new as the key table that a statement saw (rule K4): the same version
    /// confirms the snapshot, another version reloads it. Returns whether it was reloaded.
    pub async fn catch_up(&self, store: &SqlStore, seen: &Confirmation) -> Result<bool, RingError> {
        if self.snapshot.load().keys_version == seen.keys_version {
            self.confirm(seen);
            return Ok(false);
        }
        let _turn = store.wait_for(self.reloading.lock()).await?;
        // Another request has loaded the same version in the meantime.
        if self.snapshot.load().keys_version == seen.keys_version {
            return Ok(true);
        }
        self.reload(store).await.map(|()| true)
    }

    fn confirm(&self, seen: &Confirmation) {
        self.confirmed
            .rcu(|last| if last.asked_at <= seen.asked_at { Arc::new(*seen) } else { Arc::clone(last) });
    }

    async fn reload(&self, store: &SqlStore) -> Result<(), RingError> {
        let table = store.key_table().await?;
        match Snapshot::open(&table, &self.master, Some(&self.snapshot.load())) {
            Ok(snapshot) => {
                self.snapshot.store(Arc::new(snapshot));
                self.confirm(&table.seen);
                self.problem.store(None);
                Ok(())
            }
            Err(error) => {
                self.problem.store(Some(Arc::new(error.to_string())));
                Err(error)
            }
        }
    }

    /// The key that may sign now, after [`catch_up`](Self::catch_up) with the same statement.
    ///
    /// Takes the first algorithm of `preferred` with an active key, or else any other with one: until the key
    /// of a newly configured algorithm is active, its audiences get tokens of another algorithm.
    ///
    /// Measures the time since the statement was sent: a replica that was paused in between must not sign
    /// with outdated keys.
    pub fn active(&self, preferred: &[Algorithm], seen: &Confirmation) -> Result<ActiveKey, LeaseError> {
        let paused_for = self.clock.monotonic().saturating_sub(seen.asked_at);
        if paused_for >= self.publish_ahead {
            return Err(LeaseError::Expired);
        }
        let now = seen.now + Seconds(i64::try_from(paused_for.as_secs()).unwrap_or(i64::MAX));
        let snapshot = self.snapshot.load();
        preferred
            .iter()
            .chain(&Algorithm::ALL)
            .find_map(|algorithm| snapshot.active(*algorithm, now))
            .ok_or(LeaseError::NoActiveKey)
    }

    /// The MAC key with this id.
    pub fn mac_key(&self, id: u32) -> Option<hmac::Key> {
        let snapshot = self.snapshot.load();
        let key = snapshot.chain(Chain::RefreshMac).find(|key| key.row.key.generation == i64::from(id))?;
        match &key.use_ {
            KeyUse::Mac(mac) => Some(mac.clone()),
            _ => None,
        }
    }

    /// As [`mac_key`](Self::mac_key), but looks up an unknown id in the database with
    /// [`look_up`](Self::look_up).
    pub async fn find_mac_key(&self, store: &SqlStore, id: u32) -> Result<Option<hmac::Key>, RingError> {
        if let Some(key) = self.mac_key(id) {
            return Ok(Some(key));
        }
        self.look_up(store, LookupBy::MacKey).await?;
        Ok(self.mac_key(id))
    }

    /// Looks up an unknown key in the database, at most once a second. Calls during a lookup wait for it.
    ///
    /// If the call succeeds and the key is still unknown, the key did not exist a second ago. If that is not
    /// certain, the call fails.
    pub async fn look_up(&self, store: &SqlStore, by: LookupBy) -> Result<(), RingError> {
        let mut asked_at = store.wait_for(self.lookups[by as usize].lock()).await?;
        let now = self.clock.monotonic();
        if asked_at.is_none_or(|at| now.saturating_sub(at) >= UNKNOWN_KEY_PAUSE) {
            *asked_at = Some(now);
            let seen = store.confirmation().await?;
            self.catch_up(store, &seen).await?;
            return Ok(());
        }
        if self.confirmed_for() > UNKNOWN_KEY_PAUSE {
            return Err(RingError::NotConfirmed);
        }
        Ok(())
    }

    /// The id of the MAC key for new refresh tokens. Any published key is acceptable: every replica has it or
    /// can read it.
    pub fn current_mac_key(&self, now: UnixTime) -> Option<u32> {
        let snapshot = self.snapshot.load();
        let newest_in = |phase| {
            snapshot
                .chain(Chain::RefreshMac)
                .filter(|key| key.row.key.phase(now) == phase)
                .filter_map(|key| u32::try_from(key.row.key.generation).ok())
                .max()
        };
        [KeyPhase::Active, KeyPhase::Pending, KeyPhase::Retiring].into_iter().find_map(newest_in)
    }

    /// The JWKS at the earlier of two times: the last confirmation by the shared clock, and this replica's
    /// clock. Either clock may be ahead, and would withdraw keys that still sign.
    ///
    /// The end of a key can move to a later time, if its successor is compromised before it signs (rule K6).
    /// So a replica withdraws a key only after a confirmation that its end has passed.
    pub fn document(&self) -> Arc<Document> {
        let now = self.confirmed.load().now.min(self.clock.now());
        let snapshot = self.snapshot.load();
        if let Some(document) = self.document.load_full()
            && document.keys_version == snapshot.keys_version
            && document.valid.contains(&now)
        {
            return document;
        }
        let document = Arc::new(snapshot.render(now));
        self.document.store(Some(Arc::clone(&document)));
        document
    }

    /// Whether tokens of this key are acceptable at `now`. `None`: unknown, because the key has ended by only
    /// one of the clocks, and its end may have moved since the last confirmation, as for
    /// [`document`](Self::document).
    pub fn counts(&self, kid: &Kid, now: UnixTime) -> Option<bool> {
        let snapshot = self.snapshot.load();
        let key = snapshot.find(kid.as_str());
        let counts_at = |at| key.is_some_and(|key| is_published(&key.row, at));
        let confirmed = self.confirmed.load().now;
        if !counts_at(now.min(confirmed)) {
            return Some(false);
        }
        counts_at(now.max(confirmed)).then_some(true)
    }

    /// How long a cache may keep the JWKS (rule K8): `longest`, but no longer than the lease.
    pub fn cache_life(&self, longest: Seconds, clock_bound: Seconds) -> CacheLife {
        let lease_left = seconds(self.publish_ahead.saturating_sub(self.confirmed_for())) - clock_bound * 2;
        // stale-while-revalidate adds a fifth of max-age, so both together must fit into the remaining lease.
        let max_age = longest.0.min(lease_left.0 * 5 / 6).max(0);
        CacheLife { max_age, stale_while_revalidate: max_age / 5 }
    }

    /// The time since the last successful confirmation of the ring was requested.
    pub fn confirmed_for(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.confirmed.load().asked_at)
    }

    /// Whether the last confirmation is recent enough for readiness (rule K8): within a quarter of
    /// `publish_ahead`.
    pub fn is_fresh(&self) -> bool {
        self.confirmed_for() < self.publish_ahead / 4
    }

    /// Why the current key table could not be loaded; `None` if it is loaded.
    pub fn problem(&self) -> Option<Arc<String>> {
        self.problem.load_full()
    }
}

impl Snapshot {
    fn open(table: &KeyTable, master: &MasterKeys, before: Option<&Self>) -> Result<Self, RingError> {
        let keys = table
            .rows
            .iter()
            .map(|row| Ok(RingKey { use_: open(row, master, before)?, row: row.clone() }))
            .collect::<Result<Vec<_>, RingError>>()?;
        let jwks = jwks(&table.rows, table.seen.keys_version, table.seen.now);
        let key_set = KeySet::from_jwks(&jwks).map_err(|_| {
            RingError::Damaged(keys.first().map_or_else(|| Kid::from("?"), |key| key.row.key.kid.clone()))
        })?;
        Ok(Self { keys_version: table.seen.keys_version, keys, key_set })
    }

    /// The version of the key table.
    pub fn keys_version(&self) -> i64 {
        self.keys_version
    }

    /// All keys, by chain and generation.
    pub fn keys(&self) -> &[RingKey] {
        &self.keys
    }

    /// The key with this name.
    pub fn find(&self, kid: &str) -> Option<&RingKey> {
        self.keys.iter().find(|key| key.row.key.kid.as_str() == kid)
    }

    /// The keys to verify the service's own tokens, at the time of the read. Some may have ended since.
    pub fn key_set(&self) -> &KeySet {
        &self.key_set
    }

    /// The keys of a chain, with their places.
    pub fn chain_keys(&self, chain: Chain) -> Vec<ChainKey> {
        self.chain(chain).map(|key| key.row.key.clone()).collect()
    }

    fn active(&self, algorithm: Algorithm, now: UnixTime) -> Option<ActiveKey> {
        let mut chain = self.chain(Chain::Signing(algorithm));
        let key = chain.find(|key| key.row.key.phase(now).may_sign())?;
        let KeyUse::Sign(signer) = &key.use_ else { return None };
        Some(ActiveKey { signer: Arc::clone(signer), schedule: key.row.key.schedule })
    }

    /// Whether any key signs at `now`.
    pub fn has_signer(&self, now: UnixTime) -> bool {
        Algorithm::ALL.into_iter().any(|algorithm| self.active(algorithm, now).is_some())
    }

    fn chain(&self, chain: Chain) -> impl Iterator<Item = &RingKey> {
        self.keys.iter().filter(move |key| key.row.chain == chain)
    }

    fn render(&self, now: UnixTime) -> Document {
        let rows = self.keys.iter().map(|key| &key.row);
        let body = serde_json::to_vec(&jwks(rows, self.keys_version, now)).expect("keys are plain strings");
        let hash = digest::digest(&digest::SHA256, &body);
        let until = self.keys.iter().filter_map(|key| key.row.key.schedule.next_change(now)).min();
        Document {
            body: body.into(),
            etag: format!("\"{}\"", hex(&hash.as_ref()[..16])),
            keys_version: self.keys_version,
            valid: now..until.unwrap_or(UnixTime(i64::MAX)),
        }
    }
}

/// The public keys that verifiers need at `now`.
pub fn jwks<'r>(rows: impl IntoIterator<Item = &'r KeyRow>, keys_version: i64, now: UnixTime) -> JwkSet {
    let published = rows.into_iter().filter(|row| is_published(row, now));
    JwkSet {
        keys: published.filter_map(|row| row.public_jwk.clone()).collect(),
        keys_version: u64::try_from(keys_version).ok(),
    }
}

fn is_published(row: &KeyRow, now: UnixTime) -> bool {
    // A compromised key is removed immediately, even if this replica's clock is behind the database clock.
    row.key.compromised_at.is_none() && row.key.phase(now).is_published()
}

/// Parses a key, or reuses it from the previous snapshot.
fn open(row: &KeyRow, master: &MasterKeys, before: Option<&Snapshot>) -> Result<KeyUse, RingError> {
    let Some(sealed) = &row.sealed else { return Ok(KeyUse::None) };
    if let Some(known) = before.and_then(|before| before.find(row.key.kid.as_str())) {
        return Ok(known.use_.clone());
    }
    let kid = &row.key.kid;
    let secret = master
        .open(sealed, &super::material::row(kid), purpose(row.chain))
        .map_err(|cause| RingError::Open { kid: kid.clone(), cause })?;
    Ok(match row.chain {
        Chain::RefreshMac => KeyUse::Mac(hmac::Key::new(hmac::HMAC_SHA256, &secret)),
        Chain::Signing(algorithm) => {
            let signer = Signer::new(kid.clone(), algorithm, &secret);
            KeyUse::Sign(Arc::new(signer.map_err(|_| RingError::Damaged(kid.clone()))?))
        }
    })
}

fn seconds(duration: Duration) -> Seconds {
    Seconds(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
}
