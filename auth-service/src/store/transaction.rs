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
    tries: F,
}

impl<T, F> IntoFuture for Pending<F>
where
    T: Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    type Output = Result<T, StoreError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.store.run(self.tries).await })
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
        let tries = async move {
            loop {
                let outcome = store.try_once(&work).await;
                if !tries.another_after(&outcome) {
                    return outcome;
                }
            }
        };
        Pending { store: self.clone(), tries }
    }

    async fn try_once<T>(
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
