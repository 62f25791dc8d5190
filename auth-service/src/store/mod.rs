//! All SQL of the service. Every public method is one transaction, which runs again after a serialisation failure or a deadlock.
//!
//! SQLite and PostgreSQL share the text of every statement; `engine/` hides the differences. A method that authorises a token also
//! returns a [`Confirmation`]: the time on the shared clock and the version of the key table that the statement saw.

mod administrators;
mod audit;
mod audit_chain;
mod bootstrap;
mod confirmation;
mod deadline;
mod engine;
mod error;
mod keys;
mod limits;
mod login;
mod replicas;
mod revocations;
mod roles;
mod server;
mod sessions;
mod settings;
mod transaction;
mod transfer;
mod users;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use tokio::time::timeout;
use verifier::{Clock, Seconds};

pub use audit::{AuditCursor, AuditFilter, AuditRow};
pub use bootstrap::Bootstrap;
pub use confirmation::Confirmation;
pub use deadline::Deadline;
pub use error::StoreError;
pub use keys::{KeyRow, KeyTable, KeyWrite, Resealed};
pub use limits::{Applied, Refused};
pub use login::{LoginAttempt, LoginSubject};
pub use revocations::RevocationTable;
pub use roles::RoleWrite;
pub use server::Server;
pub use sessions::{Advance, EndedBatch, LiveSession, NewSession, SessionCursor, SessionUser};
pub use settings::{SettingRow, SettingsChange, SettingsTable, SettingsWrite};
pub use transfer::{Compared, CopyError, Progress};
pub use users::{NewUser, UserChange, UserPage, UserRow, UserWrite};

use audit_chain::AuditLog;
use engine::database::Database;

/// Users, sessions, keys and the audit log in one shared database.
#[derive(Clone, Debug)]
pub struct SqlStore {
    db: Arc<Database>,
    audit: Arc<AuditLog>,
    /// `None`: each piece of work has a deadline of its own.
    deadline: Option<Deadline>,
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
        Self { db: Arc::new(db), audit: Arc::new(AuditLog::new(replica)), deadline: None }
    }

    /// The same store, for work that shares `deadline`.
    #[must_use]
    pub fn within(&self, deadline: Deadline) -> Self {
        Self { deadline: Some(deadline), ..self.clone() }
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

    /// Runs database work within the deadline. Work may go on for a while when its caller has left.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let db = Arc::clone(&self.db);
        let work = Box::pin(async move {
            let outcome = work.await;
            if outcome.as_ref().is_err_and(StoreError::is_read_only) {
                db.leave_read_only_server();
            }
            outcome
        });
        let deadline = self.deadline();
        deadline.charge(|left| self.db.run(left, deadline.outlives_caller(), work)).await
    }

    /// Waits for `what`, such as a lock that other work holds, no longer than the deadline allows.
    pub async fn wait_for<T>(&self, what: impl Future<Output = T>) -> Result<T, StoreError> {
        let wait = async |left| timeout(left, what).await.map_err(|_| StoreError::Timeout);
        self.deadline().charge(wait).await
    }

    fn deadline(&self) -> Deadline {
        self.deadline.clone().unwrap_or_else(Deadline::of_one_piece)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};
    use verifier::{ManualClock, UnixTime};

    use super::deadline::{LEAST_BUDGET, REQUEST_BUDGET, RESPOND_WITHIN};
    use super::*;

    /// A store, and its folder, which the test keeps. Time is paused only when the file is open.
    async fn store() -> (SqlStore, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(UnixTime(1_800_000_000)));
        let path = folder.path().join("auth.db");
        let store = SqlStore::open_sqlite(&path, clock, "replica", Seconds(1)).await.unwrap();
        tokio::time::pause();
        (store, folder)
    }

    async fn work_for(time: Duration) -> Result<(), StoreError> {
        sleep(time).await;
        Ok(())
    }

    #[tokio::test]
    async fn a_background_read_is_given_up_at_its_limit_and_work_of_a_request_goes_on() {
        let (store, _folder) = store().await;
        let running = Arc::new(());
        let read = async |deadline: Deadline, seconds| {
            let running = Arc::clone(&running);
            let work = async move {
                work_for(Duration::from_secs(seconds)).await?;
                drop(running);
                Ok(())
            };
            store.within(deadline).run(work).await
        };
        let limit = || Deadline::of_background_read(Duration::from_secs(10));
        read(limit(), 9).await.unwrap();
        assert!(matches!(read(limit(), 11).await, Err(StoreError::Timeout)));
        assert_eq!(Arc::strong_count(&running), 1, "it was given up");
        // The outcome of a request's write counts, although its caller has left.
        assert!(matches!(read(Deadline::of_request(), 11).await, Err(StoreError::Timeout)));
        assert!(Arc::strong_count(&running) > 1);
    }

    #[tokio::test]
    async fn all_work_of_a_request_shares_its_budget() {
        let (store, _folder) = store().await;
        let store = store.within(Deadline::of_request());
        let half = REQUEST_BUDGET / 2;
        store.run(work_for(half)).await.unwrap();
        store.clone().wait_for(sleep(half / 2)).await.unwrap();
        assert!(matches!(store.run(work_for(half)).await, Err(StoreError::Timeout)));
    }

    #[tokio::test]
    async fn a_slow_upload_leaves_the_database_its_time() {
        let (store, _folder) = store().await;
        let deadline = Deadline::of_request();
        sleep(Duration::from_secs(9)).await;
        deadline.restart();
        store.within(deadline).run(work_for(Duration::from_millis(1_400))).await.unwrap();
    }

    #[tokio::test]
    async fn slow_hashing_shrinks_the_database_budget_but_never_to_nothing() {
        let (store, _folder) = store().await;
        for (hashing, answered) in [
            (Duration::ZERO, REQUEST_BUDGET),
            (Duration::from_secs(1), RESPOND_WITHIN),
            (Duration::from_secs(3), Duration::from_secs(3) + LEAST_BUDGET),
        ] {
            let (started, store) = (Instant::now(), store.within(Deadline::of_request()));
            sleep(hashing).await;
            let pending = store.run(std::future::pending::<Result<(), _>>());
            assert!(matches!(pending.await, Err(StoreError::Timeout)));
            // Tokio's timer counts in milliseconds and rounds up.
            let late = started.elapsed().checked_sub(answered).unwrap();
            assert!(late <= Duration::from_millis(5), "{late:?}");
        }
    }
}
