//! How long database work may take.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What a request may spend on database work in all.
pub(super) const REQUEST_BUDGET: Duration = Duration::from_millis(1_500);
/// A request that also waits for something else, such as a password hash, spends less on the database: a client that is told to retry
/// hears it within 2 s.
pub(super) const RESPOND_WITHIN: Duration = Duration::from_millis(1_900);
/// Left to the database in any case, so that a slow hash is not wasted.
pub(super) const LEAST_BUDGET: Duration = Duration::from_millis(400);
/// Longer than PostgreSQL runs a statement, and than SQLite waits for its lock.
const BACKGROUND_LIMIT: Duration = Duration::from_secs(6);

/// The time that database work may take, shared by all work that is given a clone of it.
#[derive(Clone, Debug)]
pub struct Deadline(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    left: Mutex<Left>,
    /// Whether work goes on when nobody waits for it any longer.
    is_seen_through: bool,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    /// For all further work.
    budget: Duration,
    /// When the response is due.
    respond_by: Option<Instant>,
}

impl Deadline {
    /// For all database work of one request: 1.5 s, and less if something else takes long.
    pub fn of_request() -> Self {
        Self::new(REQUEST_BUDGET, Some(Instant::now() + RESPOND_WITHIN), true)
    }

    /// For one read in the background: what takes longer than `limit` is given up, and all connections are closed before they are used
    /// again. So a loop never has more than one connection. Not for writes, whose outcome would be unknown, and not for reads of tables
    /// that others may lock for longer.
    pub fn of_background_read(limit: Duration) -> Self {
        Self::new(limit, None, false)
    }

    /// For background work that nothing waits for, and that others may lock out: the database itself refuses after 5 s, and the
    /// connection is kept. Only a database that does not respond at all loses it.
    pub fn of_background_work() -> Self {
        Self::new(BACKGROUND_LIMIT, None, true)
    }

    /// For one piece of work outside of requests.
    pub(super) fn of_one_piece() -> Self {
        Self::new(REQUEST_BUDGET, None, true)
    }

    fn new(budget: Duration, respond_by: Option<Instant>, is_seen_through: bool) -> Self {
        Self(Arc::new(Shared { left: Mutex::new(Left { budget, respond_by }), is_seen_through }))
    }

    /// Restarts the time within which the request is to be answered, once its body has been read; upload time does not count.
    pub fn restart(&self) {
        let mut left = self.lock();
        left.respond_by = left.respond_by.map(|_| Instant::now() + RESPOND_WITHIN);
    }

    pub(super) fn is_seen_through(&self) -> bool {
        self.0.is_seen_through
    }

    /// Runs `work`, which is given the time that is left, and takes the time that it needed from what is left.
    pub(super) async fn charge<T, F: Future<Output = T>>(&self, work: impl FnOnce(Duration) -> F) -> T {
        let started = Instant::now();
        let outcome = work(self.left()).await;
        let mut left = self.lock();
        left.budget = left.budget.saturating_sub(started.elapsed());
        outcome
    }

    fn left(&self) -> Duration {
        let Left { budget, respond_by } = *self.lock();
        let until_response = |at: Instant| at.saturating_duration_since(Instant::now()).max(LEAST_BUDGET);
        respond_by.map_or(budget, |at| budget.min(until_response(at)))
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.0.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
