//! How long database work may take.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The time that all database work of a request may take together.
pub(super) const REQUEST_BUDGET: Duration = Duration::from_millis(1_500);
/// A request that also waits for something else, such as a password hash, spends less on the database: a client must be told within 2 s
/// that it should retry.
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
    /// Whether work goes on for a while when its caller has left.
    outlives_caller: bool,
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

    /// For reads in the background: at `limit` they are given up, and all open connections are closed before they are used again. So a
    /// loop never holds more than one connection. Not for writes, whose outcome would be unknown, and not for tables that others may lock
    /// for longer: see [`of_background_work`](Self::of_background_work).
    pub fn of_background_read(limit: Duration) -> Self {
        Self::new(limit, None, false)
    }

    /// For writes in the background, and for reads of tables that others may lock: the database itself fails the statement after 5 s,
    /// and the connection is kept. It is closed only if the database does not respond at all.
    pub fn of_background_work() -> Self {
        Self::new(BACKGROUND_LIMIT, None, true)
    }

    /// For one piece of work outside of requests.
    pub(super) fn of_one_piece() -> Self {
        Self::new(REQUEST_BUDGET, None, true)
    }

    fn new(budget: Duration, respond_by: Option<Instant>, outlives_caller: bool) -> Self {
        Self(Arc::new(Shared { left: Mutex::new(Left { budget, respond_by }), outlives_caller }))
    }

    /// Restarts the time until the response is due, once the body has been read; upload time does not count.
    pub fn restart(&self) {
        let mut left = self.lock();
        left.respond_by = left.respond_by.map(|_| Instant::now() + RESPOND_WITHIN);
    }

    pub(super) fn outlives_caller(&self) -> bool {
        self.0.outlives_caller
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
