//! The three ways to the database, each within a deadline: a statement that reads, a statement that writes, and a transaction that
//! records what it did.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::audit_chain::Entry;
use super::engine::database::Transaction;
use super::engine::row::{Argument, Row};
use super::{SqlStore, StoreError};

/// How often a transaction is started when the database asks to run it again.
const TRIES: usize = 4;

/// What becomes of a transaction; see [`SqlStore::transaction`].
pub(super) enum Outcome<T> {
    /// Append these entries to the audit log, commit, and return the value.
    Keep(T, Vec<Entry>),
    /// Roll back, and return the value.
    Undo(T),
}

/// A transaction that starts when it is awaited.
///
/// `AsyncFn` cannot promise that its future is `Send`. The compiler sees it only where the closure is written, which is where this is
/// awaited.
#[must_use = "it runs when it is awaited"]
pub(super) struct Pending<F> {
    store: SqlStore,
    attempts: F,
}

impl<T, F> IntoFuture for Pending<F>
where
    T: Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    type Output = Result<T, StoreError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.store.run(self.attempts).await })
    }
}

impl SqlStore {
    /// Runs `work` in a transaction. `work` runs again if the database asks for it, so it must have no other effects.
    ///
    /// An error leaves no trace in the database, except that the outcome of a commit that fails is unknown.
    pub(super) fn transaction<T, W>(
        &self,
        work: W,
    ) -> Pending<impl Future<Output = Result<T, StoreError>> + use<T, W>>
    where
        W: AsyncFn(&mut Transaction) -> Result<Outcome<T>, StoreError>,
    {
        let (store, mut tries) = (self.clone(), Tries::default());
        let attempts = async move {
            loop {
                let outcome = store.attempt(&work).await;
                if !tries.another_after(&outcome) {
                    return outcome;
                }
            }
        };
        Pending { store: self.clone(), attempts }
    }

    async fn attempt<T>(
        &self,
        work: &impl AsyncFn(&mut Transaction) -> Result<Outcome<T>, StoreError>,
    ) -> Result<T, StoreError> {
        // Before the transaction begins, so that two tasks cannot wait for each other.
        let mut audit = self.audit.lock().await?;
        let mut tx = self.db.begin().await?;
        match work(&mut tx).await? {
            Outcome::Keep(value, entries) => {
                for entry in &entries {
                    audit.append(&mut tx, entry).await?;
                }
                tx.commit().await?;
                audit.keep();
                Ok(value)
            }
            Outcome::Undo(value) => {
                tx.rollback().await?;
                audit.undo();
                Ok(value)
            }
        }
    }

    /// Runs one statement that only reads, and `parse` on its rows.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        sql: impl Into<Cow<'static, str>>,
        arguments: Vec<Argument>,
        parse: impl FnOnce(Vec<Row>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.statement(Access::Read, sql.into(), arguments, parse).await
    }

    /// Runs one statement that writes, and `parse` on the rows that it returns.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        sql: impl Into<Cow<'static, str>>,
        arguments: Vec<Argument>,
        parse: impl FnOnce(Vec<Row>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.statement(Access::Write, sql.into(), arguments, parse).await
    }

    /// Runs one statement that writes, and counts the rows that it returns.
    pub(super) async fn write_and_count(
        &self,
        sql: impl Into<Cow<'static, str>>,
        arguments: Vec<Argument>,
    ) -> Result<u64, StoreError> {
        self.write(sql, arguments, |rows| Ok(rows.len() as u64)).await
    }

    async fn statement<T: Send + 'static>(
        &self,
        access: Access,
        sql: Cow<'static, str>,
        arguments: Vec<Argument>,
        parse: impl FnOnce(Vec<Row>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (db, mut tries) = (Arc::clone(&self.db), Tries::default());
        let work = async move {
            loop {
                let rows = match access {
                    Access::Read => db.read(&sql, &arguments).await,
                    Access::Write => db.write(&sql, &arguments).await,
                };
                if !tries.another_after(&rows) {
                    return parse(rows?);
                }
            }
        };
        self.run(work).await
    }
}

enum Access {
    Read,
    Write,
}

/// Counts how often the same work was tried.
#[derive(Default)]
struct Tries {
    failed: usize,
}

impl Tries {
    /// Whether to try again: the database asks for it, and the limit has not been reached.
    fn another_after<T>(&mut self, outcome: &Result<T, StoreError>) -> bool {
        self.failed += 1;
        self.failed < TRIES && outcome.as_ref().is_err_and(StoreError::is_transient)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use sqlx::error::{DatabaseError, ErrorKind};
    use verifier::{ManualClock, Seconds, UnixTime};

    use super::Outcome::{Keep, Undo};
    use super::*;
    use crate::domain::audit::{AuditEvent, EventKind};
    use crate::store::AuditFilter;

    /// The error after which a database asks to run the transaction again.
    #[derive(Debug, thiserror::Error)]
    #[error("could not serialize access")]
    struct SerialisationFailure;

    impl DatabaseError for SerialisationFailure {
        fn message(&self) -> &'static str {
            "could not serialize access"
        }
        fn code(&self) -> Option<Cow<'_, str>> {
            Some("40001".into())
        }
        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }
    }

    async fn store() -> (SqlStore, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(UnixTime(1_800_000_000)));
        let path = folder.path().join("auth.db");
        let store = SqlStore::open_sqlite(&path, clock, "replica", Seconds(1)).await.unwrap();
        store.migrate().await.unwrap();
        (store, folder)
    }

    /// Adds a role, and ends as `end` says for this try.
    async fn add_role<T: Send + 'static>(
        store: &SqlStore,
        end: impl Fn(usize, Entry) -> Result<Outcome<T>, StoreError> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let tries = AtomicUsize::new(0);
        let transaction = store.transaction(async move |tx| {
            tx.command("INSERT INTO roles (name, permissions) VALUES ('role', '')").await?;
            let entry = AuditEvent::new(EventKind::RoleChanged).at(tx.now().await?);
            end(tries.fetch_add(1, Ordering::Relaxed) + 1, entry)
        });
        transaction.await
    }

    /// Whether the role exists, and how many events were recorded.
    async fn stored(store: &SqlStore) -> (bool, usize) {
        let role = store.find_role("role").await.unwrap();
        (role.is_some(), store.audit_page(&AuditFilter::default(), None, 10).await.unwrap().len())
    }

    #[tokio::test]
    async fn a_transaction_runs_again_after_a_serialisation_failure_and_is_kept_once() {
        let (store, _folder) = store().await;
        let tries =
            add_role(
                &store,
                |tries, entry| {
                    if tries < TRIES { Err(failure()) } else { Ok(Keep(tries, vec![entry])) }
                },
            );
        assert_eq!(tries.await.unwrap(), TRIES);
        assert_eq!(stored(&store).await, (true, 1));
    }

    #[tokio::test]
    async fn a_transaction_that_always_fails_is_given_up_and_leaves_nothing() {
        let (store, _folder) = store().await;
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let outcome = add_role::<()>(&store, move |tries, _| {
            counted.store(tries, Ordering::Relaxed);
            Err(failure())
        });
        assert!(outcome.await.unwrap_err().is_transient());
        assert_eq!((tries.load(Ordering::Relaxed), stored(&store).await), (TRIES, (false, 0)));
    }

    #[tokio::test]
    async fn any_other_error_ends_a_transaction_at_the_first_try() {
        let (store, _folder) = store().await;
        let outcome =
            add_role(
                &store,
                |tries, entry| {
                    if tries == 1 { Err(StoreError::ReadOnly) } else { Ok(Keep((), vec![entry])) }
                },
            );
        assert!(matches!(outcome.await, Err(StoreError::ReadOnly)));
        assert_eq!(stored(&store).await, (false, 0));
    }

    #[tokio::test]
    async fn an_undone_transaction_leaves_nothing_and_the_audit_chain_continues() {
        let (store, _folder) = store().await;
        let record = async || store.record(AuditEvent::new(EventKind::Login)).await.unwrap();
        record().await;
        assert_eq!(add_role(&store, |tries, _| Ok(Undo(tries))).await.unwrap(), 1);
        assert_eq!(stored(&store).await, (false, 1));
        record().await;
        let rows = store.audit_page(&AuditFilter::default(), None, 10).await.unwrap();
        assert_eq!((rows[1].place.seq, &rows[1].prev), (2, &rows[0].hash));
    }

    fn failure() -> StoreError {
        StoreError::Database(sqlx::Error::Database(Box::new(SerialisationFailure)))
    }
}
