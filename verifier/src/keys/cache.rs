//! Who fetches the key set, when, and how long it stays trusted.
//!
//! ```text
//!            first call             answer is good              80 % of its freshness, in the background
//!  (no keys) ─────────▶ fetching ──────────────────▶ (keys) ◀──────────────────────────────────────┐
//!      ▲                   │ fails: retry after 1, 2, 4 s │ ─────────────▶ fetching ── good ─────────┤
//!      └───────────────────┘                              │ unknown kid,      │ fails, is empty,      │
//!      ▲                                                  │ once in 10 s      │ or is older: old keys ┘
//!      └──────────────── 24 h without a good answer ──────┘
//! ```
//!
//! A nudge by the feed is one more reason to fetch. It is answered by a fetch that leaves after it: one that is
//! under way may have been answered before the key set changed.
//!
//! Checking a token reads an `ArcSwap` and two numbers. The mutex is for those who may have to fetch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use crate::background::Background;
use crate::core::error::FetchError;
use crate::core::key_set::KeySet;
use crate::core::time::{Clock, Seconds};
use crate::keys::freshness::{self, FORCED_COOLDOWN, KEPT_ON_ERRORS, NUDGE_COOLDOWN};
use crate::keys::saved::SavedKeys;
use crate::keys::source::{Fetched, JwksRequest, JwksSource};
use crate::status::{KeysState, KeysStatus};

/// One fetch may take this long, from connecting to the last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The background task looks at the clock at least this often, and at most ten times a second.
const TEND_INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How often someone who waits for keys looks whether it is time for another attempt.
const WAIT_INTERVAL: Duration = Duration::from_millis(100);
/// How long someone waits for the answer to a nudge: one fetch may have to end before it leaves.
const NUDGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The key set of one issuer, kept current. Times are those of `Clock::monotonic`.
#[derive(Debug)]
pub(crate) struct JwksCache {
    /// `None`: the keys were given and never change.
    source: Option<Arc<dyn JwksSource>>,
    clock: Arc<dyn Clock>,
    held: ArcSwap<Held>,
    /// When the next scheduled fetch is due, in milliseconds.
    due_at: AtomicU64,
    turn: Mutex<Turn>,
    /// How many nudges have been answered, well or not.
    answered: watch::Sender<u64>,
    nudged: Arc<Notify>,
    kept_for: Duration,
    tender: Background,
}

/// The key set in hand, and what is known about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    keys: Arc<KeySet>,
    /// As the issuer sent them.
    document: Arc<[u8]>,
    etag: Option<String>,
    /// When the answer was asked for that said so last, or when the keys were read from a file.
    confirmed_at: Duration,
    /// How old they were then.
    older_by: Duration,
    /// From here on the issuer should have been asked again.
    fresh_until: Duration,
    /// From here on the keys are no longer trusted.
    expires_at: Duration,
    last_error: Option<FetchError>,
}

impl Held {
    /// The keys, while they may be trusted.
    pub(crate) fn usable(&self, now: Duration) -> Result<&KeySet, FetchError> {
        if now < self.expires_at {
            return Ok(&self.keys);
        }
        Err(self.last_error.clone().unwrap_or(FetchError::NotFetched))
    }

    /// What is held after an answer to a request sent at `asked_at`. The answer is read as a whole before it
    /// replaces anything.
    fn after(&self, answer: Fetched, asked_at: Duration, kept_for: Duration) -> Result<Self, FetchError> {
        let fresh = freshness::fresh_for(answer.max_age, answer.age);
        let confirmed = Self {
            confirmed_at: asked_at,
            older_by: Duration::ZERO,
            fresh_until: asked_at + fresh,
            // What the issuer itself calls fresh is good for that long in any case.
            expires_at: asked_at + kept_for.max(fresh),
            last_error: None,
            ..self.clone()
        };
        let Some(document) = answer.document else {
            // A 304 confirms what we named by its ETag, and nothing else.
            return if self.etag.is_some() { Ok(confirmed) } else { Err(FetchError::Unexpected) };
        };
        let keys = KeySet::parse(&document)?;
        if keys.is_empty() {
            return Err(FetchError::NoUsableKey);
        }
        // A set that has expired is not in hand any more: an issuer restored from a backup is accepted then.
        if asked_at < self.expires_at && keys.keys_version() < self.keys.keys_version() {
            return Err(FetchError::RolledBack {
                held: self.keys.keys_version(),
                offered: keys.keys_version(),
            });
        }
        Ok(Self { keys: Arc::new(keys), document: document.into(), etag: answer.etag, ..confirmed })
    }

    /// Since the issuer last confirmed the keys.
    fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.confirmed_at) + self.older_by
    }
}

/// Why the key set is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is time: the first fetch, one ahead of staleness, or one after a failure.
    Due,
    /// A token names a key that is not in the set. Has a budget of its own, so that a flood of made-up names
    /// can neither delay the scheduled fetches nor multiply them.
    UnknownKey,
    /// The issuer's feed says that the key set has changed.
    Nudged,
}

#[derive(Debug, Default)]
struct Turn {
    flight: Option<Flight>,
    /// When the last fetch for an unknown key began.
    forced_at: Option<Duration>,
    /// When the last fetch after a nudge began.
    nudged_at: Option<Duration>,
    /// Nudges so far, and how many of them came before the last fetch past the caches left.
    nudges: u64,
    departed: u64,
    /// Scheduled fetches since the last good answer.
    attempts: u32,
    /// Fetches that have ended, and how many of them badly.
    fetches: u64,
    failures: u64,
}

impl Turn {
    fn has_nudge(&self) -> bool {
        self.departed < self.nudges
    }

    fn nudge_due_at(&self) -> Duration {
        self.nudged_at.map_or(Duration::ZERO, |at| at + NUDGE_COOLDOWN)
    }
}

/// A fetch under way. Its task holds the sender and lets go of it when it ends, in whatever way: no flight
/// can be left behind by a panic or a runtime that shuts down.
#[derive(Clone, Debug)]
pub(crate) struct Flight(watch::Receiver<()>);

impl Flight {
    fn is_airborne(&self) -> bool {
        self.0.has_changed().is_ok()
    }

    pub(crate) async fn landed(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

impl JwksCache {
    /// Keys from `source`. Does not fetch yet.
    pub(crate) fn new(source: Arc<dyn JwksSource>, clock: Arc<dyn Clock>) -> Self {
        Self::starting_with(Held::default(), Some(source), clock)
    }

    /// These keys, for ever.
    pub(crate) fn fixed(keys: KeySet, clock: Arc<dyn Clock>) -> Self {
        let held = Held { keys: Arc::new(keys), expires_at: Duration::MAX, ..Held::default() };
        let cache = Self::starting_with(held, None, clock);
        cache.set_due_at(Duration::MAX);
        cache
    }

    /// The key set in hand. Does not wait.
    pub(crate) fn held(&self) -> Guard<Arc<Held>> {
        self.held.load()
    }

    /// Keys in hand are used for so long without the issuer confirming them.
    pub(crate) fn keeping_for(self, kept_for: Seconds) -> Self {
        let (least, most) = freshness::KEPT_ON_ERRORS_BOUNDS;
        Self { kept_for: kept_for.clamp(least, most).into(), ..self }
    }

    /// The version of the key set in hand.
    pub(crate) fn keys_version(&self) -> Option<u64> {
        self.held().keys.keys_version()
    }

    /// Takes over keys that were saved, if they may still be used: as keys to be fetched again at once.
    pub(crate) fn restore(&self, saved: &SavedKeys) {
        let (now, age) = (self.clock.monotonic(), saved.age(self.clock.now()));
        let keys = KeySet::parse(saved.document.as_bytes());
        match (keys, self.kept_for.checked_sub(age)) {
            (Ok(keys), Some(left)) if !keys.is_empty() && !left.is_zero() && self.source.is_some() => {
                self.held.store(Arc::new(Held {
                    keys: Arc::new(keys),
                    document: saved.document.as_bytes().into(),
                    etag: saved.etag.clone(),
                    confirmed_at: now,
                    older_by: age,
                    fresh_until: now,
                    expires_at: now + left,
                    last_error: None,
                }));
            }
            _ => tracing::info!("the saved keys are too old to be used"),
        }
    }

    /// When the keys in hand were confirmed, or read from a file; `None` for those that never change.
    pub(crate) fn confirmed_at(&self) -> Option<Duration> {
        let held = self.held();
        (!held.document.is_empty()).then_some(held.confirmed_at)
    }

    /// The keys in hand, for a file.
    pub(crate) fn saved(&self) -> Option<SavedKeys> {
        let held = self.held();
        let age = i64::try_from(held.age(self.clock.monotonic()).as_secs()).unwrap_or(i64::MAX);
        Some(SavedKeys {
            document: String::from_utf8(held.document.to_vec())
                .ok()
                .filter(|document| !document.is_empty())?,
            etag: held.etag.clone(),
            confirmed_at: self.clock.now() - Seconds(age),
        })
    }

    /// How the key set is doing.
    pub(crate) fn status(&self) -> KeysStatus {
        let (now, held) = (self.clock.monotonic(), self.held());
        let (fetches, failures, forced_at) = {
            let turn = self.turn();
            (turn.fetches, turn.failures, turn.forced_at)
        };
        let is_fetched = self.source.is_some() && !held.keys.is_empty();
        KeysStatus {
            state: match now {
                _ if self.source.is_none() => KeysState::Fixed,
                _ if held.keys.is_empty() => KeysState::None,
                now if now >= held.expires_at => KeysState::Expired,
                now if now >= held.fresh_until => KeysState::Stale,
                _ => KeysState::Fresh,
            },
            count: held.keys.len(),
            age: is_fetched.then(|| held.age(now)),
            keys_version: held.keys.keys_version(),
            last_error: held.last_error.clone(),
            fetches,
            failures,
            is_cooling_down: forced_at.is_some_and(|at| now < at + FORCED_COOLDOWN),
        }
    }

    /// Starts a fetch if one is due, without waiting for it.
    pub(crate) fn touch(self: &Arc<Self>, now: Duration) {
        self.tend();
        if now >= self.due_at() {
            // Outside a runtime nothing can be started; whoever has to wait for the fetch is told so.
            let _ = self.begin(Why::Due, now);
        }
    }

    /// Keeps the key set current in the background from now on, if called inside a runtime.
    pub(crate) fn tend(self: &Arc<Self>) {
        if self.source.is_some() {
            self.tender.start(|| tend(Arc::downgrade(self), Arc::clone(&self.nudged)));
        }
    }

    /// Has the tender fetch the key set past all caches, at most once a second. The number is for
    /// [`answer_to`](Self::answer_to).
    pub(crate) fn nudge(&self) -> u64 {
        let mut turn = self.turn();
        turn.nudges += 1;
        self.nudged.notify_one();
        turn.nudges
    }

    /// The latest nudge, if it has not been answered yet.
    pub(crate) fn open_nudge(&self) -> Option<u64> {
        let nudges = self.turn().nudges;
        (*self.answered.borrow() < nudges).then_some(nudges)
    }

    /// Waits until a fetch has ended that left after this nudge. Not for ever; without a source not at all.
    pub(crate) async fn answer_to(&self, nudge: u64) {
        if self.source.is_some() {
            let mut answered = self.answered.subscribe();
            let _ = tokio::time::timeout(NUDGE_TIMEOUT, answered.wait_for(|count| *count >= nudge)).await;
        }
    }

    /// Waits until there are usable keys.
    ///
    /// # Errors
    /// Only outside a runtime.
    pub(crate) async fn keys(self: &Arc<Self>) -> Result<(), FetchError> {
        while self.held().usable(self.clock.monotonic()).is_err() {
            match self.begin(Why::Due, self.clock.monotonic())? {
                Some(flight) => flight.landed().await,
                None => tokio::time::sleep(WAIT_INTERVAL).await,
            }
        }
        Ok(())
    }

    /// Joins the fetch that is under way or starts one. `None`: it is too early for another.
    pub(crate) fn begin(self: &Arc<Self>, why: Why, now: Duration) -> Result<Option<Flight>, FetchError> {
        let Some(source) = &self.source else { return Ok(None) };
        let mut turn = self.turn();
        if let Some(flight) = turn.flight.as_ref().filter(|flight| flight.is_airborne()) {
            return Ok(Some(flight.clone()));
        }
        let is_time = match why {
            Why::Due => now >= self.due_at(),
            Why::UnknownKey => turn.forced_at.is_none_or(|at| now >= at + FORCED_COOLDOWN),
            Why::Nudged => turn.has_nudge() && now >= turn.nudge_due_at(),
        };
        if !is_time {
            return Ok(None);
        }
        let runtime = Handle::try_current().map_err(|_| FetchError::NoRuntime)?;
        // Claimed before the fetch, so that one that never ends well counts as well.
        match why {
            Why::Due => {
                let has_keys = self.held().usable(now).is_ok();
                turn.attempts += 1;
                self.set_due_at(now + freshness::retry_after(turn.attempts, has_keys, freshness::spread()));
            }
            Why::UnknownKey => turn.forced_at = Some(now),
            Why::Nudged => turn.nudged_at = Some(now),
        }
        if why != Why::Due {
            // Whoever nudged before now is answered by any fetch past the caches.
            turn.departed = turn.nudges;
        }
        let answers = turn.departed;
        let (landing, flight) = watch::channel(());
        let flight = Flight(flight);
        turn.flight = Some(flight.clone());
        let (cache, source) = (Arc::clone(self), Arc::clone(source));
        // Detached: a caller that gives up takes nobody else's fetch with it.
        runtime.spawn(async move {
            cache.fetch(&*source, why).await;
            cache.answered.send_if_modified(|count| std::mem::replace(count, answers) != answers);
            drop(landing);
        });
        Ok(Some(flight))
    }

    /// From `now` to the next fetch of the tender.
    fn due_in(&self, now: Duration) -> Duration {
        let turn = self.turn();
        let nudge_due_at = if turn.has_nudge() { turn.nudge_due_at() } else { Duration::MAX };
        self.due_at().min(nudge_due_at).saturating_sub(now)
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn starting_with(held: Held, source: Option<Arc<dyn JwksSource>>, clock: Arc<dyn Clock>) -> Self {
        Self {
            source,
            clock,
            held: ArcSwap::from_pointee(held),
            due_at: AtomicU64::new(0),
            turn: Mutex::default(),
            answered: watch::Sender::new(0),
            nudged: Arc::default(),
            kept_for: KEPT_ON_ERRORS,
            tender: Background::default(),
        }
    }

    async fn fetch(&self, source: &dyn JwksSource, why: Why) {
        let held = self.held.load_full();
        let request = JwksRequest { etag: held.etag.clone(), no_cache: why != Why::Due };
        let asked_at = self.clock.monotonic();
        let outcome = match tokio::time::timeout(FETCH_TIMEOUT, source.fetch(&request)).await {
            Ok(answer) => answer.and_then(|answer| held.after(answer, asked_at, self.kept_for)),
            Err(_) => Err(FetchError::TimedOut),
        };
        {
            let mut turn = self.turn();
            turn.fetches += 1;
            turn.failures += u64::from(outcome.is_err());
        }
        match outcome {
            Ok(next) => {
                let fresh = next.fresh_until.saturating_sub(asked_at);
                self.held.store(Arc::new(next));
                self.turn().attempts = 0;
                self.set_due_at(asked_at + freshness::refresh_after(fresh, freshness::spread()));
            }
            Err(error) => {
                tracing::warn!(%error, "key set could not be fetched; going on with what there is");
                self.held.store(Arc::new(Held { last_error: Some(error), ..(*held).clone() }));
                if why == Why::Nudged {
                    // The news must not wait for the end of our freshness.
                    let retry_at = asked_at + freshness::retry_after(1, true, freshness::spread());
                    self.set_due_at(self.due_at().min(retry_at));
                }
            }
        }
    }

    fn due_at(&self) -> Duration {
        Duration::from_millis(self.due_at.load(Ordering::Relaxed))
    }

    fn set_due_at(&self, at: Duration) {
        self.due_at.store(u64::try_from(at.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// The background task. Holds the cache only for moments, so that it does not keep it alive.
async fn tend(cache: Weak<JwksCache>, nudged: Arc<Notify>) {
    while let Some(held) = cache.upgrade() {
        let now = held.clock.monotonic();
        let flight = match held.begin(Why::Nudged, now) {
            Ok(None) => held.begin(Why::Due, now),
            begun => begun,
        };
        let pause = held.due_in(now).clamp(TEND_INTERVALS.0, TEND_INTERVALS.1);
        drop(held);
        match flight {
            Ok(Some(flight)) => flight.landed().await,
            _ => drop(tokio::time::timeout(pause, nudged.notified()).await),
        }
    }
}
