//! The revocation feed, which tells resource servers which sessions have ended and which keys are
//! compromised.
//!
//! - [`publisher`]: the revocations that this replica knows, and the content of the next document;
//! - `event`: what is sent; [`stream`]: the subscribers;
//! - this file: reads the table and signs documents. `jobs/feed.rs` calls it in a loop.
//!
//! Everything is served from memory. While the database is unavailable, the last document is repeated; its
//! `as_of` shows its age. `docs/protocols.md` describes the documents.

mod event;
pub mod publisher;
pub mod stream;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, broadcast};
use tracing::{debug, error, info};
use verifier::{Clock, Kid, Seconds};

use super::clock_guard::ClockGuard;
use super::drain::DrainWatch;
use super::settings::LiveSettings;
use crate::config::Config;
use crate::domain::revocation::Revocation;
use crate::domain::session::SessionId;
use crate::keys::keyring::{KeyRing, LeaseError, RingError};
use crate::keys::signer::{Kind, SignatureError};
use crate::store::{Confirmation, Deadline, SqlStore};
use event::Event;
use publisher::{Draft, Publisher};

/// Deadline for reading new revocations. It is short because a read that hangs delays all later ones.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// Deadline for reading all revocations: about 50 MB if a document has its maximum size. Equals PostgreSQL's
/// `statement_timeout`.
const READ_ALL_LIMIT: Duration = Duration::from_secs(5);
/// Deadline for reloading keys; requests that need the new keys wait for it.
const KEYS_LIMIT: Duration = Duration::from_millis(1_800);
/// Maximum number of streams: half of a listener's connections. The other half is left for requests.
const MAX_STREAMS: usize = 2048;
/// Number of events that a subscriber may lag behind before it gets a snapshot instead. All subscribers share
/// the events.
const BACKLOG: usize = 64;
/// Documents with more entries are signed on a blocking thread.
const MAX_SIGNED_IN_PLACE: usize = 1_000;

/// The parts that a feed uses.
#[derive(Clone, Debug)]
pub struct FeedParts {
    /// Names the issuer and the clock bound.
    pub config: Arc<Config>,
    /// Holds the revocations.
    pub store: SqlStore,
    /// Signs the documents.
    pub keyring: Arc<KeyRing>,
    /// Dates them.
    pub clock: Arc<dyn Clock>,
    /// Says whether this clock may be used.
    pub clock_guard: Arc<ClockGuard>,
    /// Names the algorithm, and gets the version of the stored settings that each read returns.
    pub settings: Arc<LiveSettings>,
    /// Ends the streams.
    pub drain: DrainWatch,
}

/// The feed of one replica.
#[derive(Debug)]
pub struct Feed {
    parts: FeedParts,
    state: Mutex<State>,
    /// Events are sent while the state is locked, so that subscribers get them in the order in which the
    /// state changed.
    events: broadcast::Sender<Bytes>,
    /// Held while a delta is drafted, signed and sent: each delta continues the one before.
    publishing: tokio::sync::Mutex<()>,
    /// Held while a snapshot is signed, so that of all callers that need one, one signs it. A large snapshot must not delay a delta.
    snapshotting: tokio::sync::Mutex<()>,
    stream_permits: Arc<Semaphore>,
}

#[derive(Debug)]
struct State {
    publisher: Publisher,
    snapshot: Option<Arc<Snapshot>>,
    /// The last document that was sent, as an event.
    last: Option<Bytes>,
    /// The read that the key ring has caught up with.
    followed: Option<Confirmation>,
    /// The version of the key set that was last announced to subscribers.
    announced_keys: i64,
}

/// A signed snapshot.
#[derive(Debug)]
pub struct Snapshot {
    /// As an event of the stream.
    event: Bytes,
    /// Compact JWS.
    pub document: Bytes,
    draft: Draft,
}

/// An error because of which this replica returns no document. Another replica may have one, so the caller
/// should retry.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Nothing has been read yet.
    #[error("revocations have not been read yet")]
    NotRead,
    /// The replica may not sign now, and has signed no snapshot before.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The signature failed.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The number of streams has reached its limit.
    #[error("the limit of {MAX_STREAMS} streams is reached")]
    Full,
    /// The replica drains.
    #[error("the replica is draining")]
    Draining,
}

impl Feed {
    /// A feed that has read nothing yet.
    pub fn new(parts: FeedParts) -> Self {
        let state = State {
            publisher: Publisher::default(),
            snapshot: None,
            last: None,
            followed: None,
            announced_keys: parts.keyring.snapshot().keys_version(),
        };
        Self {
            parts,
            state: Mutex::new(state),
            events: broadcast::Sender::new(BACKLOG),
            publishing: tokio::sync::Mutex::default(),
            snapshotting: tokio::sync::Mutex::default(),
            stream_permits: Arc::new(Semaphore::new(MAX_STREAMS)),
        }
    }

    /// The number of subscribers.
    pub fn streams(&self) -> usize {
        MAX_STREAMS - self.stream_permits.available_permits()
    }

    /// The number of sessions and keys that are known to be revoked.
    pub fn entries(&self) -> usize {
        self.lock().publisher.entries()
    }

    /// Whether revocations have been read.
    pub fn is_read(&self) -> bool {
        self.lock().publisher.seen().is_some()
    }

    /// Whether this session is known to have ended, or this key to be compromised. `None` before the first
    /// read.
    pub fn is_revoked(&self, session: SessionId, kid: &Kid) -> Option<bool> {
        let (session, key) = (Revocation::Session(session), Revocation::Key(kid.clone()));
        let publisher = &self.lock().publisher;
        Some(publisher.is_revoked(&session)? || publisher.is_revoked(&key)?)
    }

    /// The monotonic clock just before the last successful read was sent.
    pub fn read_at(&self) -> Option<Duration> {
        self.lock().publisher.seen().map(|seen| seen.asked_at)
    }

    /// Every revocation committed before this instant is known; Unix milliseconds. `None` before the first
    /// read.
    pub fn as_of(&self) -> Option<i64> {
        self.lock().publisher.as_of()
    }

    /// Reads new revocations, and sends them to the subscribers.
    ///
    /// A revocation counts here as soon as it is read, whether or not the key ring catches up. A document is
    /// signed only after the key ring has caught up with the same read: no compromised key signs it, and
    /// subscribers learn of a new key before the first document that it signs.
    pub async fn poll(&self) -> Result<(), RingError> {
        let FeedParts { store, keyring, settings, .. } = &self.parts;
        let (seen, settings_version) = self.read(store).await?;
        // The same read returns the version of the settings, so they need no poll of their own. Report it
        // even if the keys cannot be used.
        settings.report(settings_version);
        keyring.catch_up(&store.within(Deadline::of_background_read(KEYS_LIMIT)), &seen).await?;
        self.announce_keys();
        let has_news = {
            let mut state = self.lock();
            state.followed = Some(seen);
            state.publisher.has_news()
        };
        if has_news {
            self.publish().await;
        }
        Ok(())
    }

    /// Reads revocations into the publisher. Returns the confirmation of the read, and the version of the
    /// stored settings.
    async fn read(&self, store: &SqlStore) -> Result<(Confirmation, i64), RingError> {
        let FeedParts { config, clock, clock_guard, .. } = &self.parts;
        let from = self.lock().publisher.read_from(clock.monotonic());
        let asked_at = clock.unix_millis();
        let limit = if from.is_some() { READ_LIMIT } else { READ_ALL_LIMIT };
        let table = store.within(Deadline::of_background_read(limit)).revocations(from).await?;
        clock_guard.observe(&table.seen, &**clock);
        let (seen, settings_version) = (table.seen, table.settings);
        let clock_is_right = clock_guard.off_by(config.clock_bound).is_none();
        let (is_now_too_large, entries) = {
            let publisher = &mut self.lock().publisher;
            publisher.learn(table, clock_is_right.then_some(asked_at));
            (publisher.update_size(), publisher.entries())
        };
        match is_now_too_large {
            Some(true) => {
                error!(entries, "too many revocations for one document; verifiers refuse the snapshot");
            }
            Some(false) => info!(entries, "the revocations fit into one document again"),
            None => {}
        }
        Ok((seen, settings_version))
    }

    /// Sends a delta, even if it only says that nothing has changed. If there is nothing newer to sign, or
    /// the replica may not sign, the last document is repeated unchanged, and verifiers see its age.
    pub async fn heartbeat(&self) {
        if !self.publish().await {
            let state = self.lock();
            if let Some(last) = state.last.clone() {
                self.send(&state, last);
            }
        }
    }

    /// Sends the next delta. Returns whether one was sent.
    async fn publish(&self) -> bool {
        let _guard = self.publishing.lock().await;
        let Some(draft) = self.lock().publisher.delta() else { return false };
        let document = match self.sign(draft.clone()).await {
            Ok(document) => document,
            Err(error) => {
                debug!(%error, "no delta was signed");
                return false;
            }
        };
        self.announce_keys();
        let event = Event::Delta(&document).render();
        let mut state = self.lock();
        state.publisher.sent(&draft);
        state.last = Some(event.clone());
        self.send(&state, event);
        true
    }

    /// The current snapshot if it is complete and less than two seconds old, otherwise a new one.
    ///
    /// A replica that may not sign returns the last snapshot that it signed, however old, unless an entry is
    /// missing in it: no later delta would contain that entry, and a verifier with an `as_of` from another
    /// replica might not notice.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, FeedError> {
        if let Some(current) = self.lock().current_snapshot() {
            return Ok(current);
        }
        let _guard = self.snapshotting.lock().await;
        let draft = {
            let state = self.lock();
            if let Some(current) = state.current_snapshot() {
                return Ok(current);
            }
            state.publisher.snapshot().ok_or(FeedError::NotRead)?
        };
        match self.sign(draft.clone()).await {
            Ok(document) => {
                let event = Event::Snapshot(&document).render();
                let document = Event::data(&event);
                let snapshot = Arc::new(Snapshot { event, document, draft });
                let mut state = self.lock();
                state.snapshot = Some(Arc::clone(&snapshot));
                state.last.get_or_insert_with(|| snapshot.event.clone());
                Ok(snapshot)
            }
            Err(error) => self.lock().complete_snapshot().ok_or(error),
        }
    }

    async fn sign(&self, draft: Draft) -> Result<String, FeedError> {
        let FeedParts { config, keyring, clock, settings, .. } = &self.parts;
        let seen = self.lock().followed().ok_or(LeaseError::Expired)?;
        let key = keyring.active(&[settings.now().signing_algorithm], &seen)?;
        let passed = clock.monotonic().saturating_sub(seen.asked_at);
        let iat = seen.now + Seconds(i64::try_from(passed.as_secs()).unwrap_or(i64::MAX));
        let (issuer, keep_for) = (config.issuer.clone(), config.keep_revocations_for());
        let is_large = draft.entries() > MAX_SIGNED_IN_PLACE;
        let work = move || key.signer.sign(Kind::Revocations, &draft.claims(&issuer, iat, keep_for));
        let document = if is_large {
            tokio::task::spawn_blocking(work).await.map_err(|_| SignatureError::Sign)?
        } else {
            work()
        };
        Ok(document?)
    }

    /// Tells the subscribers that the key set has changed, once for each change.
    fn announce_keys(&self) {
        let version = self.parts.keyring.snapshot().keys_version();
        let mut state = self.lock();
        if std::mem::replace(&mut state.announced_keys, version) != version {
            self.send(&state, Event::Jwks(version).render());
        }
    }

    fn send(&self, _: &State, event: Bytes) {
        // An error means that there are no subscribers.
        let _ = self.events.send(event);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The last read, if the key ring has caught up with it.
    fn followed(&self) -> Option<Confirmation> {
        self.publisher.seen().filter(|seen| self.followed == Some(*seen))
    }

    fn complete_snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.clone().filter(|snapshot| self.publisher.is_complete(&snapshot.draft))
    }

    fn current_snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.clone().filter(|snapshot| self.publisher.is_current(&snapshot.draft))
    }
}
