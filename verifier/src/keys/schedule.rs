//! Which fetch may start when.

use std::time::Duration;

use tokio::sync::watch;

use crate::keys::freshness::{FORCED_COOLDOWN, REFRESH_COOLDOWN};

/// Why the key set is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The schedule: the first fetch, a refresh before the keys become stale, or a retry.
    Due,
    /// A token names a key that is not in the set. These fetches have a limit of their own, so a flood of
    /// made-up key ids neither delays nor multiplies the scheduled ones.
    UnknownKey,
    /// The revocation feed says that the key set has changed.
    Changed,
}

/// A fetch in progress. Its task holds the sender and drops it at its end, however it ends: neither a panic
/// nor a runtime that shuts down leaves a fetch behind that seems to be in progress.
#[derive(Clone, Debug)]
pub(crate) struct Fetch(watch::Receiver<()>);

impl Fetch {
    /// A fetch that ends when the sender is dropped.
    pub(super) fn new() -> (watch::Sender<()>, Self) {
        let (sender, receiver) = watch::channel(());
        (sender, Self(receiver))
    }

    /// Waits for the end of the fetch.
    pub(crate) async fn ended(mut self) {
        while self.0.changed().await.is_ok() {}
    }

    fn is_running(&self) -> bool {
        self.0.has_changed().is_ok()
    }
}

/// What was fetched and requested so far. Times are those of `Clock::monotonic`.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    pub(super) fetch: Option<Fetch>,
    /// When the last fetch for an unknown key began.
    pub(super) forced_at: Option<Duration>,
    /// When the last fetch for a changed key set began.
    pub(super) refreshed_at: Option<Duration>,
    /// The number of refreshes requested so far.
    pub(super) requested: u64,
    /// How many of them were requested before the last uncached fetch began, which serves them.
    pub(super) served: u64,
    /// Scheduled fetches since the last success.
    pub(super) attempts: u32,
    /// Fetches that have ended.
    pub(super) fetches: u64,
    /// Fetches that have failed.
    pub(super) failures: u64,
}

impl Schedule {
    /// The fetch in progress.
    pub(super) fn running(&self) -> Option<Fetch> {
        self.fetch.clone().filter(Fetch::is_running)
    }

    /// Returns whether a fetch may start. `due_at` is the time of the next scheduled one.
    pub(super) fn allows(&self, why: Why, now: Duration, due_at: Duration) -> bool {
        match why {
            Why::Due => now >= due_at,
            Why::UnknownKey => !self.is_cooling_down(now),
            Why::Changed => self.refresh_due_at().is_some_and(|at| now >= at),
        }
    }

    /// Returns whether fetches for unknown keys are suspended.
    pub(super) fn is_cooling_down(&self, now: Duration) -> bool {
        self.forced_at.is_some_and(|at| now < at + FORCED_COOLDOWN)
    }

    /// When a requested refresh may start; `None` if none is pending.
    pub(super) fn refresh_due_at(&self) -> Option<Duration> {
        let is_pending = self.served < self.requested;
        is_pending.then(|| self.refreshed_at.map_or(Duration::ZERO, |at| at + REFRESH_COOLDOWN))
    }
}
