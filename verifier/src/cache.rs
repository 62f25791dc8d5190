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
//! Checking a token reads an `ArcSwap` and two numbers. The mutex is for those who may have to fetch.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::error::FetchError;
use crate::freshness::{self, FORCED_COOLDOWN, KEPT_ON_ERRORS};
use crate::key_set::KeySet;
use crate::source::{Fetched, JwksRequest, JwksSource};
use crate::time::Clock;

/// One fetch may take this long, from connecting to the last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The background task looks at the clock at least this often, and at most ten times a second.
const TEND_INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

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
    is_tended: Arc<AtomicBool>,
    tender: Mutex<Option<AbortHandle>>,
}

/// The key set in hand, and what is known about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    keys: Arc<KeySet>,
    etag: Option<String>,
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

    /// What is held after an answer to a request sent at `asked_at`, and how long it is fresh. The answer is
    /// read as a whole before it replaces anything.
    fn after(&self, answer: Fetched, asked_at: Duration) -> Result<(Self, Duration), FetchError> {
        let fresh = freshness::fresh_for(answer.max_age, answer.age);
        let expires_at = asked_at + KEPT_ON_ERRORS;
        let Some(document) = answer.document else {
            // A 304 confirms what we named by its ETag, and nothing else.
            return match &self.etag {
                Some(_) => Ok((Self { expires_at, last_error: None, ..self.clone() }, fresh)),
                None => Err(FetchError::Unexpected),
            };
        };
        let keys = KeySet::parse(&document)?;
        if keys.is_empty() {
            return Err(FetchError::NoUsableKey);
        }
        // A set that has expired is not in hand any more: an issuer restored from a backup is accepted then.
        if asked_at < self.expires_at && keys.auth_ring() < self.keys.auth_ring() {
            return Err(FetchError::RolledBack { held: self.keys.auth_ring(), offered: keys.auth_ring() });
        }
        Ok((Self { keys: Arc::new(keys), etag: answer.etag, expires_at, last_error: None }, fresh))
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
}

#[derive(Debug, Default)]
struct Turn {
    flight: Option<Flight>,
    /// When the last fetch for an unknown key began.
    forced_at: Option<Duration>,
    /// Scheduled fetches since the last good answer.
    attempts: u32,
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
        if self.source.is_none() || self.is_tended.load(Ordering::Relaxed) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        if self.is_tended.swap(true, Ordering::Relaxed) {
            return;
        }
        let tended = Tended(Arc::clone(&self.is_tended));
        let task = runtime.spawn(tend(Arc::downgrade(self), tended));
        *self.tender.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
    }

    /// Joins the fetch that is under way or starts one. `None`: it is too early for another.
    pub(crate) fn begin(self: &Arc<Self>, why: Why, now: Duration) -> Result<Option<Flight>, FetchError> {
        let Some(source) = &self.source else { return Ok(None) };
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = turn.flight.as_ref().filter(|flight| flight.is_airborne()) {
            return Ok(Some(flight.clone()));
        }
        let is_time = match why {
            Why::Due => now >= self.due_at(),
            Why::UnknownKey => turn.forced_at.is_none_or(|at| now >= at + FORCED_COOLDOWN),
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
        }
        let (landing, flight) = watch::channel(());
        let flight = Flight(flight);
        turn.flight = Some(flight.clone());
        let (cache, source) = (Arc::clone(self), Arc::clone(source));
        // Detached: a caller that gives up takes nobody else's fetch with it.
        runtime.spawn(async move {
            cache.fetch(&*source, why).await;
            drop(landing);
        });
        Ok(Some(flight))
    }

    /// From `now` to the next scheduled fetch.
    pub(crate) fn due_in(&self, now: Duration) -> Duration {
        self.due_at().saturating_sub(now)
    }

    fn starting_with(held: Held, source: Option<Arc<dyn JwksSource>>, clock: Arc<dyn Clock>) -> Self {
        Self {
            source,
            clock,
            held: ArcSwap::from_pointee(held),
            due_at: AtomicU64::new(0),
            turn: Mutex::default(),
            is_tended: Arc::default(),
            tender: Mutex::default(),
        }
    }

    async fn fetch(&self, source: &dyn JwksSource, why: Why) {
        let held = self.held.load_full();
        let request = JwksRequest { etag: held.etag.clone(), no_cache: why == Why::UnknownKey };
        let asked_at = self.clock.monotonic();
        let outcome = match tokio::time::timeout(FETCH_TIMEOUT, source.fetch(&request)).await {
            Ok(answer) => answer.and_then(|answer| held.after(answer, asked_at)),
            Err(_) => Err(FetchError::TimedOut),
        };
        match outcome {
            Ok((next, fresh)) => {
                self.held.store(Arc::new(next));
                self.turn.lock().unwrap_or_else(PoisonError::into_inner).attempts = 0;
                self.set_due_at(asked_at + freshness::refresh_after(fresh, freshness::spread()));
            }
            Err(error) => {
                tracing::warn!(%error, "key set could not be fetched; going on with what there is");
                self.held.store(Arc::new(Held { last_error: Some(error), ..(*held).clone() }));
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

impl Drop for JwksCache {
    fn drop(&mut self) {
        if let Some(tender) = self.tender.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            tender.abort();
        }
    }
}

/// Held by the background task. When the task ends, be it with its runtime, the next caller may start
/// another.
struct Tended(Arc<AtomicBool>);

impl Drop for Tended {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// The background task. Holds the cache only for moments, so that it does not keep it alive.
async fn tend(cache: Weak<JwksCache>, _tended: Tended) {
    while let Some(held) = cache.upgrade() {
        let now = held.clock.monotonic();
        let flight = held.begin(Why::Due, now);
        let pause = held.due_in(now).clamp(TEND_INTERVALS.0, TEND_INTERVALS.1);
        drop(held);
        match flight {
            Ok(Some(flight)) => flight.landed().await,
            _ => tokio::time::sleep(pause).await,
        }
    }
}
