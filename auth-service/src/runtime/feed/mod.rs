//! The revocation feed: tells resource servers which sessions have ended and which keys are compromised.
//!
//! - [`publisher`]: what this replica knows, and what the next document must say;
//! - [`stream`]: the subscribers;
//! - this file: reading the table, signing, and the loops that do it.
//!
//! Everything is served from memory. While the database is away the last document is repeated; its `as_of` says how old the
//! knowledge is. `docs/protocols.md` describes the documents.

pub mod publisher;
pub mod stream;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, error, info, warn};
use verifier::{Kid, Seconds};

use crate::domain::revocation::Revocation;
use crate::domain::session::SessionId;
use crate::keys::keyring::{LeaseError, RingError};
use crate::keys::signer::{Kind, SignatureError};
use crate::runtime::app::App;
use crate::store::{Confirmation, with_one_connection};
use publisher::{Draft, Publisher};
use stream::Event;

/// Someone waits for the end of a session to be known for this long, where no nudge arrives.
const POLL: Duration = Duration::from_millis(400);
/// Nudges within this time cause one read: at most 20 reads a second.
const GAP: Duration = Duration::from_millis(50);
/// The read of what is new. Behind one that is not answered nothing new is heard, so it is soon given up.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// The read of everything may be a large one: some 50 MB where a document is at its limit. PostgreSQL itself allows it as much.
const READ_ALL_LIMIT: Duration = Duration::from_secs(5);
/// Who needs the new keys waits for us.
const KEYS_LIMIT: Duration = Duration::from_millis(1_800);
/// Each read that a frozen database does not answer leaves a connection there.
const POLL_AFTER_FAILURE: Duration = Duration::from_secs(2);
/// Verifiers count on a document every 2 s.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Streams at once: half of the connections that a listener has, so that the other half is left for requests.
const MOST_STREAMS: usize = 2048;
/// Events that a subscriber may lag behind before it gets a snapshot instead. All subscribers share them.
const BACKLOG: usize = 64;
/// Larger documents are signed on a blocking thread.
const SIGNED_IN_PLACE: usize = 1_000;

/// The feed of one replica.
#[derive(Debug)]
pub struct Feed {
    state: Mutex<State>,
    /// Deltas are signed one after another, each knowing what the one before said.
    publishing: tokio::sync::Mutex<()>,
    /// Of those who need a snapshot one signs it.
    snapshotting: tokio::sync::Mutex<()>,
    /// The change counter of the key table that subscribers were told of.
    announced_keys: AtomicI64,
    room: Arc<Semaphore>,
}

#[derive(Debug)]
struct State {
    publisher: Publisher,
    snapshot: Option<Arc<Snapshot>>,
    /// The last document of the stream.
    last: Option<Bytes>,
    /// `None` while the replica drains.
    events: Option<broadcast::Sender<Bytes>>,
    /// The read that the key ring has followed.
    followed: Option<Confirmation>,
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

/// Why this replica has nothing to say. Another one may; the caller tries again.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Nothing has been read yet.
    #[error("no revocations have been read yet")]
    NotRead,
    /// The replica may not sign now, and has signed no snapshot before.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The signature failed.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// There are as many subscribers as there may be.
    #[error("there are {MOST_STREAMS} streams already")]
    Full,
    /// The replica drains.
    #[error("the replica drains")]
    Closed,
}

impl Feed {
    /// A feed that knows nothing yet. `keys` is the change counter of the key ring that verifiers will find.
    pub fn new(keys: i64) -> Self {
        let state = State {
            publisher: Publisher::default(),
            snapshot: None,
            last: None,
            events: Some(broadcast::Sender::new(BACKLOG)),
            followed: None,
        };
        Self {
            state: Mutex::new(state),
            publishing: tokio::sync::Mutex::default(),
            snapshotting: tokio::sync::Mutex::default(),
            announced_keys: AtomicI64::new(keys),
            room: Arc::new(Semaphore::new(MOST_STREAMS)),
        }
    }

    /// Ends all streams and refuses new ones, so that verifiers go to another replica.
    pub fn close(&self) {
        self.lock().events = None;
    }

    /// Lets streams begin again.
    pub fn open(&self) {
        self.lock().events.get_or_insert_with(|| broadcast::Sender::new(BACKLOG));
    }

    /// How many subscribers there are.
    pub fn streams(&self) -> usize {
        MOST_STREAMS - self.room.available_permits()
    }

    /// How many sessions and keys are remembered.
    pub fn entries(&self) -> usize {
        self.lock().publisher.entries()
    }

    /// Whether revocations have been read.
    pub fn is_read(&self) -> bool {
        self.lock().publisher.seen().is_some()
    }

    /// Whether this session is known to have ended, or this key to be compromised. `None` before the first read: nobody can tell.
    pub fn is_revoked(&self, session: SessionId, kid: &Kid) -> Option<bool> {
        let (session, key) = (Revocation::Session(session), Revocation::Key(kid.clone()));
        let publisher = &self.lock().publisher;
        Some(publisher.is_revoked(&session)? || publisher.is_revoked(&key)?)
    }

    /// The monotonic clock when the last read that was answered was sent.
    pub fn read_at(&self) -> Option<Duration> {
        self.lock().publisher.seen().map(|seen| seen.asked_at)
    }

    /// Unix milliseconds before which every revocation is known. `None` before the first read.
    pub fn as_of(&self) -> Option<i64> {
        self.lock().publisher.as_of()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn send(&self, event: Bytes) {
        // Without subscribers there is nobody to tell.
        let _ = self.events.as_ref().map(|events| events.send(event));
    }

    /// The last read, if the key ring has followed it.
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

/// Follows the table and keeps the streams going, until the task is aborted.
pub async fn run(app: &App) {
    tokio::join!(follow(app), keep_beating(app), app.store.listen());
}

async fn follow(app: &App) {
    let mut was_wrong = false;
    loop {
        let outcome = poll(app).await;
        match &outcome {
            Err(error) if !was_wrong => {
                warn!(%error, "revocations cannot be read; the feed goes on from memory");
            }
            Ok(()) if was_wrong => info!("revocations are read again"),
            _ => {}
        }
        was_wrong = outcome.is_err();
        if was_wrong {
            sleep(POLL_AFTER_FAILURE).await;
        } else {
            sleep(GAP).await;
            // A nudge that came meanwhile is waiting already.
            let _ = timeout(POLL.saturating_sub(GAP), app.store.revoked().notified()).await;
        }
    }
}

async fn keep_beating(app: &App) {
    let mut due = interval(HEARTBEAT);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        beat(app).await;
    }
}

/// Reads what is new, and tells the subscribers.
///
/// What is revoked counts here from the read on, whether or not the keys can be followed. To sign, the key ring must have followed the
/// same read: so no document is signed by a key that was compromised by then, and who subscribes hears of a new key before the
/// first document that it signs.
pub async fn poll(app: &App) -> Result<(), RingError> {
    let feed = &app.feed;
    let from = feed.lock().publisher.read_from(app.clock.monotonic());
    let asked_at = app.clock.unix_millis();
    let limit = if from.is_some() { READ_LIMIT } else { READ_ALL_LIMIT };
    let table = with_one_connection(limit, app.store.revocations(from)).await?;
    app.clock_guard.observe(&table.seen, &*app.clock);
    let (seen, version) = (table.seen, table.settings);
    let clock_is_right = app.clock_guard.off_by(app.config.clock_bound).is_none();
    let (has_news, outgrew, entries) = {
        let publisher = &mut feed.lock().publisher;
        publisher.learn(table, clock_is_right.then_some(asked_at));
        (publisher.has_news(), publisher.outgrew(), publisher.entries())
    };
    match outgrew {
        Some(true) => error!(entries, "too many revocations for one document: verifiers refuse the snapshot"),
        Some(false) => info!(entries, "the revocations fit into one document again"),
        None => {}
    }
    // The same read tells of changed settings, so that they need no poll of their own; also a replica that cannot use the keys follows.
    app.settings.hear(version);
    with_one_connection(KEYS_LIMIT, app.keyring.catch_up(&app.store, &seen)).await?;
    announce_keys(app);
    feed.lock().followed = Some(seen);
    if has_news {
        publish(app).await;
    }
    Ok(())
}

/// Tells the subscribers that nothing has changed, or whatever has. With nothing newer to sign, or no right to sign, the last document
/// is repeated as it was, and verifiers see its age.
pub async fn beat(app: &App) {
    if !publish(app).await {
        let state = app.feed.lock();
        if let Some(last) = state.last.clone() {
            state.send(last);
        }
    }
}

async fn publish(app: &App) -> bool {
    let feed = &app.feed;
    let _turn = feed.publishing.lock().await;
    let Some(draft) = feed.lock().publisher.delta() else { return false };
    let document = match sign(app, draft.clone()).await {
        Ok(document) => document,
        Err(error) => {
            debug!(%error, "no delta was signed");
            return false;
        }
    };
    announce_keys(app);
    let event = Event::Delta(&document).render();
    let mut state = feed.lock();
    state.publisher.sent(&draft);
    state.last = Some(event.clone());
    state.send(event);
    true
}

/// The snapshot at hand if it is complete and of the last two seconds, else a new one.
///
/// A replica that may not sign gives the last one that it signed, however old, but none that lacks something: a later delta would not
/// say it again, and a reader with an `as_of` from elsewhere might not notice.
pub async fn snapshot(app: &App) -> Result<Arc<Snapshot>, FeedError> {
    let feed = &app.feed;
    if let Some(current) = feed.lock().current_snapshot() {
        return Ok(current);
    }
    let _turn = feed.snapshotting.lock().await;
    let draft = {
        let state = feed.lock();
        if let Some(current) = state.current_snapshot() {
            return Ok(current);
        }
        state.publisher.snapshot().ok_or(FeedError::NotRead)?
    };
    match sign(app, draft.clone()).await {
        Ok(document) => {
            let event = Event::Snapshot(&document).render();
            let document = Event::data(&event);
            let snapshot = Arc::new(Snapshot { event, document, draft });
            let mut state = feed.lock();
            state.snapshot = Some(Arc::clone(&snapshot));
            state.last.get_or_insert_with(|| snapshot.event.clone());
            Ok(snapshot)
        }
        Err(error) => feed.lock().complete_snapshot().ok_or(error),
    }
}

async fn sign(app: &App, draft: Draft) -> Result<String, FeedError> {
    let seen = app.feed.lock().followed().ok_or(LeaseError::Expired)?;
    let key = app.keyring.active(&[app.settings().signing_algorithm], &seen)?;
    let passed = app.clock.monotonic().saturating_sub(seen.asked_at);
    let iat = seen.now + Seconds(i64::try_from(passed.as_secs()).unwrap_or(i64::MAX));
    let (issuer, keep_for) = (app.config.issuer.clone(), app.config.keep_revocations_for());
    let is_large = draft.entries() > SIGNED_IN_PLACE;
    let work = move || key.signer.sign(Kind::Revocations, &draft.claims(&issuer, iat, keep_for));
    let document = if is_large {
        tokio::task::spawn_blocking(work).await.map_err(|_| SignatureError::Sign)?
    } else {
        work()
    };
    Ok(document?)
}

/// Tells the subscribers that the key set has changed, once for each change.
fn announce_keys(app: &App) {
    let keys = app.keyring.snapshot().changes();
    if app.feed.announced_keys.swap(keys, Ordering::AcqRel) != keys {
        app.feed.lock().send(Event::Jwks(keys).render());
    }
}
