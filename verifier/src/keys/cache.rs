//! Fetches the key set, and decides how long it is trusted.
//!
//! ```text
//!            first call             response is good            80 % of its freshness, in the background
//!  (no keys) ─────────▶ fetching ──────────────────▶ (keys) ◀──────────────────────────────────────┐
//!      ▲                   │ fails: retry after 1, 2, 4 s │ ─────────────▶ fetching ── good ─────────┤
//!      └───────────────────┘                              │ unknown kid,      │ fails, is empty,      │
//!      ▲                                                  │ once in 10 s      │ or is older: old keys ┘
//!      └──────────────── 24 h without a good response ────┘
//! ```
//!
//! The feed can request a refresh. Only a fetch that begins after the request serves it: one in progress may
//! have been answered before the key set changed.
//!
//! Checking a token reads an `ArcSwap` and two numbers. The mutex is only for fetches.

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
use crate::keys::freshness::{self, KEPT_ON_ERRORS};
use crate::keys::held::Held;
use crate::keys::saved::SavedKeys;
use crate::keys::schedule::{Fetch, Schedule, Why};
use crate::keys::source::{JwksRequest, JwksSource};
use crate::status::{KeysState, KeysStatus};

/// The timeout of a fetch, from connecting to the last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Bounds of the polling interval of the background task.
const POLL_INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// The polling interval of a call that waits for the first keys.
const WAIT_INTERVAL: Duration = Duration::from_millis(100);
/// The timeout of a requested refresh; a fetch in progress may have to end before it begins.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(10);

/// The key set of one issuer, kept current. Times are those of `Clock::monotonic`.
#[derive(Debug)]
pub(crate) struct JwksCache {
    /// `None`: the keys were given and never change.
    source: Option<Arc<dyn JwksSource>>,
    clock: Arc<dyn Clock>,
    held: ArcSwap<Held>,
    /// When the next scheduled fetch is due, in milliseconds.
    due_at: AtomicU64,
    schedule: Mutex<Schedule>,
    /// The number of requested refreshes that have ended, successfully or not.
    completed: watch::Sender<u64>,
    requested: Arc<Notify>,
    kept_for: Duration,
    task: Background,
}

impl JwksCache {
    /// Keys from `source`. Does not fetch yet.
    pub(crate) fn new(source: Arc<dyn JwksSource>, clock: Arc<dyn Clock>) -> Self {
        Self::starting_with(Held::default(), Some(source), clock)
    }

    /// Keys that never change.
    pub(crate) fn fixed(keys: KeySet, clock: Arc<dyn Clock>) -> Self {
        let held = Held { keys: Arc::new(keys), expires_at: Duration::MAX, ..Held::default() };
        let cache = Self::starting_with(held, None, clock);
        cache.set_due_at(Duration::MAX);
        cache
    }

    /// The key set in use. Does not wait.
    pub(crate) fn held(&self) -> Guard<Arc<Held>> {
        self.held.load()
    }

    /// Sets how long keys are used without confirmation by the issuer, within bounds.
    pub(crate) fn keeping_for(self, kept_for: Seconds) -> Self {
        let (least, most) = freshness::KEPT_ON_ERRORS_BOUNDS;
        Self { kept_for: kept_for.clamp(least, most).into(), ..self }
    }

    /// The version of the key set in use.
    pub(crate) fn keys_version(&self) -> Option<u64> {
        self.held().keys.keys_version()
    }

    /// Takes over saved keys, unless they are too old. They are due to be fetched again immediately.
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
                    age_when_confirmed: age,
                    fresh_until: now,
                    expires_at: now + left,
                    last_error: None,
                }));
            }
            _ => tracing::info!("saved keys are too old to be used"),
        }
    }

    /// When the keys in use were confirmed, or read from a file; `None` for keys that never change.
    pub(crate) fn confirmed_at(&self) -> Option<Duration> {
        let held = self.held();
        (!held.document.is_empty()).then_some(held.confirmed_at)
    }

    /// The keys in use, to be saved; `None` if there are none from the issuer.
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

    /// The state of the key set.
    pub(crate) fn status(&self) -> KeysStatus {
        let (now, held) = (self.clock.monotonic(), self.held());
        let (fetches, failures, is_cooling_down) = {
            let schedule = self.schedule();
            (schedule.fetches, schedule.failures, schedule.is_cooling_down(now))
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
            is_cooling_down,
        }
    }

    /// Starts a fetch if one is due, without waiting for it.
    pub(crate) fn fetch_if_due(self: &Arc<Self>, now: Duration) {
        self.keep_current();
        if now >= self.due_at() {
            // Fails outside a runtime; a call that has to wait for the fetch gets that error.
            let _ = self.begin(Why::Due, now);
        }
    }

    /// Starts the background task unless it runs already, if called inside a runtime.
    pub(crate) fn keep_current(self: &Arc<Self>) {
        if self.source.is_some() {
            self.task.start(|| keep_current(Arc::downgrade(self), Arc::clone(&self.requested)));
        }
    }

    /// Makes the background task fetch the key set past all caches, at most once a second. Returns a number
    /// for [`refreshed`](Self::refreshed).
    pub(crate) fn request_refresh(&self) -> u64 {
        let mut schedule = self.schedule();
        schedule.requested += 1;
        self.requested.notify_one();
        schedule.requested
    }

    /// The latest requested refresh, if it has not ended yet.
    pub(crate) fn pending_refresh(&self) -> Option<u64> {
        let requested = self.schedule().requested;
        (*self.completed.borrow() < requested).then_some(requested)
    }

    /// Waits until the refresh has ended, successfully or not, with a timeout. Returns immediately if there
    /// is no source.
    pub(crate) async fn refreshed(&self, request: u64) {
        if self.source.is_some() {
            let mut completed = self.completed.subscribe();
            let _ =
                tokio::time::timeout(REFRESH_TIMEOUT, completed.wait_for(|count| *count >= request)).await;
        }
    }

    /// Waits until there are usable keys.
    ///
    /// # Errors
    /// Only outside a runtime.
    pub(crate) async fn wait_for_keys(self: &Arc<Self>) -> Result<(), FetchError> {
        while self.held().usable(self.clock.monotonic()).is_err() {
            match self.begin(Why::Due, self.clock.monotonic())? {
                Some(fetch) => fetch.ended().await,
                None => tokio::time::sleep(WAIT_INTERVAL).await,
            }
        }
        Ok(())
    }

    /// Joins the fetch in progress or starts one; `None` if it is too early for another.
    pub(crate) fn begin(self: &Arc<Self>, why: Why, now: Duration) -> Result<Option<Fetch>, FetchError> {
        let Some(source) = &self.source else { return Ok(None) };
        let mut schedule = self.schedule();
        if let Some(fetch) = schedule.running() {
            return Ok(Some(fetch));
        }
        if !schedule.allows(why, now, self.due_at()) {
            return Ok(None);
        }
        let runtime = Handle::try_current().map_err(|_| FetchError::NoRuntime)?;
        // Recorded before the fetch, so that one that never ends counts as well.
        match why {
            Why::Due => {
                let has_keys = self.held().usable(now).is_ok();
                schedule.attempts += 1;
                let retry_after = freshness::retry_after(schedule.attempts, has_keys, freshness::spread());
                self.set_due_at(now + retry_after);
            }
            Why::UnknownKey => schedule.forced_at = Some(now),
            Why::Changed => schedule.refreshed_at = Some(now),
        }
        if why != Why::Due {
            // Any fetch past the caches serves all earlier requests.
            schedule.served = schedule.requested;
        }
        let served = schedule.served;
        let (running, fetch) = Fetch::new();
        schedule.fetch = Some(fetch.clone());
        let (cache, source) = (Arc::clone(self), Arc::clone(source));
        // Detached: others may wait for the same fetch when this caller is dropped.
        runtime.spawn(async move {
            cache.fetch(&*source, why).await;
            cache.completed.send_if_modified(|count| std::mem::replace(count, served) != served);
            drop(running);
        });
        Ok(Some(fetch))
    }

    /// From `now` to the next fetch of the background task.
    fn due_in(&self, now: Duration) -> Duration {
        let refresh_due_at = self.schedule().refresh_due_at().unwrap_or(Duration::MAX);
        self.due_at().min(refresh_due_at).saturating_sub(now)
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn starting_with(held: Held, source: Option<Arc<dyn JwksSource>>, clock: Arc<dyn Clock>) -> Self {
        Self {
            source,
            clock,
            held: ArcSwap::from_pointee(held),
            due_at: AtomicU64::new(0),
            schedule: Mutex::default(),
            completed: watch::Sender::new(0),
            requested: Arc::default(),
            kept_for: KEPT_ON_ERRORS,
            task: Background::default(),
        }
    }

    async fn fetch(&self, source: &dyn JwksSource, why: Why) {
        let held = self.held.load_full();
        let request = JwksRequest { etag: held.etag.clone(), no_cache: why != Why::Due };
        let asked_at = self.clock.monotonic();
        let outcome = match tokio::time::timeout(FETCH_TIMEOUT, source.fetch(&request)).await {
            Ok(response) => response.and_then(|response| held.after(response, asked_at, self.kept_for)),
            Err(_) => Err(FetchError::TimedOut),
        };
        {
            let mut schedule = self.schedule();
            schedule.fetches += 1;
            schedule.failures += u64::from(outcome.is_err());
        }
        match outcome {
            Ok(next) => {
                let fresh = next.fresh_until.saturating_sub(asked_at);
                self.held.store(Arc::new(next));
                self.schedule().attempts = 0;
                self.set_due_at(asked_at + freshness::refresh_after(fresh, freshness::spread()));
            }
            Err(error) => {
                tracing::warn!(%error, "key set could not be fetched; the previous one stays in use");
                self.held.store(Arc::new(Held { last_error: Some(error), ..(*held).clone() }));
                if why == Why::Changed {
                    // The changed key set must not wait for the end of the freshness of the old one.
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

/// The background task. Between polls it holds only a weak reference, so it does not keep the cache alive.
async fn keep_current(cache: Weak<JwksCache>, requested: Arc<Notify>) {
    while let Some(cache) = cache.upgrade() {
        let now = cache.clock.monotonic();
        let fetch = match cache.begin(Why::Changed, now) {
            Ok(None) => cache.begin(Why::Due, now),
            begun => begun,
        };
        let pause = cache.due_in(now).clamp(POLL_INTERVALS.0, POLL_INTERVALS.1);
        drop(cache);
        match fetch {
            Ok(Some(fetch)) => fetch.ended().await,
            _ => drop(tokio::time::timeout(pause, requested.notified()).await),
        }
    }
}
