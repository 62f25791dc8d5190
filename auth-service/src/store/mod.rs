//! All SQL of the service. Every public method is one transaction, retried when the database asks for it.
//!
//! One text serves SQLite and PostgreSQL; the file `database` hides what differs. A method that authorises a token also returns a
//! [`Confirmation`]: the instant on the shared clock and the state of the key table that it saw.

mod audit;
mod audit_chain;
mod bootstrap;
mod confirmation;
mod engine;
mod error;
mod keys;
mod login;
mod replicas;
mod revocations;
mod roles;
mod sessions;
mod settings;
mod transaction;
mod transfer;
mod users;

use std::cell::Cell;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use verifier::{Clock, Seconds};

pub use audit::{AuditCursor, AuditRow};
pub use bootstrap::Bootstrap;
pub use confirmation::Confirmation;
pub use error::StoreError;
pub use keys::{KeyRow, KeyTable, Resealed};
pub use login::{LoginAttempt, LoginSubject};
pub use revocations::RevocationTable;
pub use roles::RoleWrite;
pub use sessions::{Advance, LiveSession, NewSession, SessionUser};
pub use settings::{SettingRow, SettingsChange, SettingsTable, SettingsWrite};
pub use transfer::{Compared, CopyError, Progress};
pub use users::{NewUser, UserChange, UserPage, UserRow, UserWrite};

use audit_chain::AuditLog;
use engine::database::Database;

/// The time a request may spend on its database work altogether.
const REQUEST_BUDGET: Duration = Duration::from_millis(1_500);
/// A request that had to wait for something else, such as a password hash, spends less on the database: whoever is told to come back later
/// must hear it within 2 s.
const REQUEST_SPAN: Duration = Duration::from_millis(1_900);
/// Left to the database in any case, so that a long hash is not in vain.
const LEAST_BUDGET: Duration = Duration::from_millis(400);
/// Longer than PostgreSQL lets a statement take, and than SQLite waits for its lock.
const PATIENCE: Duration = Duration::from_secs(6);

/// Users, sessions, keys and the audit log in one shared database.
#[derive(Clone, Debug)]
pub struct SqlStore {
    db: Database,
    audit: Arc<AuditLog>,
}

tokio::task_local! {
    static BUDGET: Cell<Budget>;
}

#[derive(Clone, Copy)]
struct Budget {
    /// For all further work.
    left: Duration,
    /// When the request should be answered.
    answer_at: Option<Instant>,
    /// Whether work goes on when its caller has left.
    is_seen_through: bool,
}

/// Runs a request's future so that all its database work together takes at most 1.5 s, and less if something else took long.
pub async fn with_budget<T>(request: impl Future<Output = T>) -> T {
    let budget = Budget { answer_at: Some(Instant::now() + REQUEST_SPAN), ..Budget::default() };
    BUDGET.scope(Cell::new(budget), request).await
}

/// Says that the request has arrived as a whole: the time that its client took to send it is not the request's.
pub fn restart_span() {
    let _ = BUDGET.try_with(|it| {
        let budget = it.get();
        let answer_at = budget.answer_at.map(|_| Instant::now() + REQUEST_SPAN);
        it.set(Budget { answer_at, ..budget });
    });
}

/// Runs what a background task does again and again, so that it never has more than one connection: what did not answer within
/// `limit` is given up, and all connections are closed before they are used again. Only for reads, because nobody would know what
/// became of a write, and not of what may be locked for so long: see [`with_patience`].
pub async fn with_one_connection<T>(limit: Duration, reads: impl Future<Output = T>) -> T {
    let budget = Budget { left: limit, answer_at: None, is_seen_through: false };
    BUDGET.scope(Cell::new(budget), reads).await
}

/// Runs background work that nothing waits for, a write or what others may lock: the database itself says no after 5 s, and the
/// connection is kept. Only a database that says nothing at all loses it.
pub async fn with_patience<T>(work: impl Future<Output = T>) -> T {
    BUDGET.scope(Cell::new(Budget { left: PATIENCE, ..Budget::default() }), work).await
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: REQUEST_BUDGET, answer_at: None, is_seen_through: true }
    }
}

impl Budget {
    /// How long the next piece of work may take.
    fn now(&self) -> Duration {
        let until_answer = |at: Instant| at.saturating_duration_since(Instant::now()).max(LEAST_BUDGET);
        self.answer_at.map_or(self.left, |at| self.left.min(until_answer(at)))
    }
}

impl SqlStore {
    /// Opens a SQLite file, creating it if it is missing. `replica` names this process in the audit log; the end of a session is
    /// remembered for `keep_revocations_for`.
    pub async fn open_sqlite(
        path: &Path,
        clock: Arc<dyn Clock>,
        replica: &str,
        keep_revocations_for: Seconds,
    ) -> Result<Self, StoreError> {
        Ok(Self::new(Database::open_sqlite(path, clock, keep_revocations_for).await?, replica))
    }

    /// Opens a SQLite file that must exist, and never writes to it; the rest as for [`open_sqlite`](Self::open_sqlite).
    pub async fn open_sqlite_to_read(
        path: &Path,
        clock: Arc<dyn Clock>,
        replica: &str,
        keep_revocations_for: Seconds,
    ) -> Result<Self, StoreError> {
        Ok(Self::new(Database::open_sqlite_to_read(path, clock, keep_revocations_for).await?, replica))
    }

    /// Connects to PostgreSQL; the rest as for [`open_sqlite`](Self::open_sqlite).
    pub async fn connect_postgres(
        url: &str,
        clock: Arc<dyn Clock>,
        replica: &str,
        keep_revocations_for: Seconds,
    ) -> Result<Self, StoreError> {
        Ok(Self::new(Database::connect_postgres(url, clock, keep_revocations_for).await?, replica))
    }

    fn new(db: Database, replica: &str) -> Self {
        Self { db, audit: Arc::new(AuditLog::new(replica)) }
    }

    /// Moves PostgreSQL's clock as this store sees it, as a manual clock moves SQLite's.
    #[cfg(feature = "test-util")]
    pub fn shift_server_clock(&self, seconds: i64) {
        self.db.shift_server_clock(seconds);
    }

    /// How many connections are idle, and how many are lent.
    pub fn connections(&self) -> (usize, usize) {
        self.db.connections()
    }

    /// Closes all connections once they are idle.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// Runs database work within the request's budget, and to its end when the caller has left.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let db = self.db.clone();
        let work = Box::pin(async move {
            let outcome = work.await;
            if outcome.as_ref().is_err_and(StoreError::is_read_only) {
                db.leave_read_only_server();
            }
            outcome
        });
        self.charged(|budget| self.db.detached(budget.now(), budget.is_seen_through, work)).await
    }

    /// Waits for what another task's database work holds up, no longer than the request's budget allows.
    pub async fn wait_for<T>(&self, what: impl Future<Output = T>) -> Result<T, StoreError> {
        let wait = |budget: Budget| async move {
            tokio::time::timeout(budget.now(), what).await.map_err(|_| StoreError::Timeout)
        };
        self.charged(wait).await
    }

    /// Takes the time that `work` needs from what the request has left. Outside of a request each work has a budget of its own.
    async fn charged<T, F: Future<Output = T>>(&self, work: impl FnOnce(Budget) -> F) -> T {
        let budget = BUDGET.try_with(Cell::get).unwrap_or_default();
        let started = self.db.clock().monotonic();
        let answer = work(budget).await;
        let spent = self.db.clock().monotonic().saturating_sub(started);
        let _ = BUDGET.try_with(|it| it.set(Budget { left: budget.left.saturating_sub(spent), ..budget }));
        answer
    }
}

#[cfg(test)]
mod tests {
    use verifier::UnixTime;

    use super::*;

    #[tokio::test]
    async fn a_background_read_has_its_own_limit_and_nothing_of_it_goes_on_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(verifier::ManualClock::new(UnixTime(1_800_000_000)));
        let path = folder.path().join("auth.db");
        let store = SqlStore::open_sqlite(&path, clock, "replica", Seconds(1)).await.unwrap();
        tokio::time::pause();
        let running = Arc::new(());
        let read = |seconds| {
            let running = Arc::clone(&running);
            store.run(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                drop(running);
                Ok(())
            })
        };
        let limit = Duration::from_secs(10);
        with_one_connection(limit, read(9)).await.unwrap();
        assert!(matches!(with_one_connection(limit, read(11)).await, Err(StoreError::Timeout)));
        assert_eq!(Arc::strong_count(&running), 1, "it was given up");
        // A request's goes on: its outcome counts although nobody waits.
        assert!(matches!(with_budget(read(11)).await, Err(StoreError::Timeout)));
        assert!(Arc::strong_count(&running) > 1);
    }

    #[tokio::test]
    async fn a_slow_body_leaves_the_database_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(verifier::ManualClock::new(UnixTime(1_800_000_000)));
        let path = folder.path().join("auth.db");
        let store = SqlStore::open_sqlite(&path, clock, "replica", Seconds(1)).await.unwrap();
        tokio::time::pause();
        let request = async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            restart_span();
            let work = async {
                tokio::time::sleep(Duration::from_millis(1_400)).await;
                Ok(())
            };
            store.run(work).await
        };
        with_budget(request).await.unwrap();
    }

    #[tokio::test]
    async fn what_else_takes_long_leaves_less_for_the_database_but_never_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(verifier::ManualClock::new(UnixTime(1_800_000_000)));
        let path = folder.path().join("auth.db");
        let store = SqlStore::open_sqlite(&path, clock, "replica", Seconds(1)).await.unwrap();
        tokio::time::pause();
        for (hashing, answered) in [
            (Duration::ZERO, REQUEST_BUDGET),
            (Duration::from_secs(1), REQUEST_SPAN),
            (Duration::from_secs(3), Duration::from_secs(3) + LEAST_BUDGET),
        ] {
            let started = Instant::now();
            let request = async {
                tokio::time::sleep(hashing).await;
                store.run(std::future::pending::<Result<(), _>>()).await
            };
            assert!(matches!(with_budget(request).await, Err(StoreError::Timeout)));
            // Tokio's timer counts in milliseconds and rounds up.
            let late = started.elapsed().checked_sub(answered).unwrap();
            assert!(late <= Duration::from_millis(5), "{late:?}");
        }
    }
}
