//! How long a statement may hold a connection without a response, and which connections are not used again.
//!
//! A network that loses packets, or a standby that took over, leaves connections that look good. Waiting until each of them fails
//! would keep a replica out of service long after its database is back.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::pool::PoolOptions;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use crate::store::StoreError;

/// How long a statement waits for a free connection, or for a new one.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// A connection that was idle for this long is pinged before it is used.
const PING_AFTER: Duration = Duration::from_secs(1);
/// Leaves time for a new connection.
const PING_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a statement may run after its caller has left. Together with the time that the caller waited, this is less than the 5 s in
/// which a replica must be back in service.
const LATE_RESPONSE: Duration = Duration::from_secs(3);
/// Opening a connection costs the server more than a statement: a server that refuses every statement must not be flooded with new
/// connections.
const RETIRE_INTERVAL: Duration = Duration::from_secs(1);
/// A hung server keeps the connections of statements that were given up, and accepts new ones: if this were shorter, three replicas
/// would use up its 100 connections within a minute. The price: if packets are lost twice within this time, statements of the second
/// loss may hold their connections until this time has passed for those of the first.
const GIVEN_UP_FOR: Duration = Duration::from_secs(30);

/// Which connections of a pool may be used, and how many statements may be given up.
#[derive(Clone, Debug)]
pub(in crate::store) struct ConnectionHealth {
    /// Connections opened before this are closed instead of used.
    opened_after: Arc<Mutex<Option<Instant>>>,
    /// How many more statements may be given up within [`GIVEN_UP_FOR`].
    to_give_up: Arc<Semaphore>,
}

impl ConnectionHealth {
    /// At most `to_give_up` statements are given up in [`GIVEN_UP_FOR`], because each may leave a connection open at the server while
    /// another is opened in its place. Statements beyond that wait longer.
    pub(in crate::store) fn new(to_give_up: u32) -> Self {
        Self { opened_after: Arc::default(), to_give_up: Arc::new(Semaphore::new(to_give_up as usize)) }
    }

    /// Connections that are open now are not used again, except those opened since the last call, if that was less than a second ago.
    pub(in crate::store) fn retire_open(&self) {
        let mut opened_after = self.lock();
        if opened_after.is_none_or(|at| at.elapsed() >= RETIRE_INTERVAL) {
            *opened_after = Some(Instant::now());
        }
    }

    fn allows(&self, age: Duration) -> bool {
        self.lock().is_none_or(|at| at.elapsed() > age)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.opened_after.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pool whose connections are checked before they are used.
    ///
    /// A ping before each statement would double its time, and on a hung server use up the whole deadline. But a restart of the server
    /// may have closed a connection that was idle for a while; a busy one shows that with its next statement.
    pub(in crate::store) fn pool<DB: sqlx::Database>(&self) -> PoolOptions<DB> {
        let health = self.clone();
        PoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT).test_before_acquire(false).before_acquire(
            move |connection: &mut DB::Connection, metadata| {
                let health = health.clone();
                Box::pin(async move {
                    if !health.allows(metadata.age) {
                        return Ok(false);
                    }
                    if metadata.idle_for < PING_AFTER {
                        return Ok(true);
                    }
                    let is_alive = matches!(timeout(PING_TIMEOUT, connection.ping()).await, Ok(Ok(())));
                    if !is_alive {
                        health.retire_open();
                    }
                    Ok(is_alive)
                })
            },
        )
    }

    /// Runs `operation`, and returns within `deadline`.
    ///
    /// An operation that outlives its caller goes on for a while: its statement was sent, and keeps its connection until the server
    /// responds. If each deadline closed a connection, a hung server would collect more and more of them. Any other operation is given
    /// up at the deadline.
    pub(in crate::store) async fn run<T: Send + 'static>(
        &self,
        deadline: Duration,
        outlives_caller: bool,
        operation: Pin<Box<impl Future<Output = Result<T, StoreError>> + Send + 'static>>,
    ) -> Result<T, StoreError> {
        let operation = Unfinished { operation: Some(operation), outlives_caller, health: self.clone() };
        timeout(deadline, operation).await.unwrap_or(Err(StoreError::Timeout))
    }

    /// Waits for the response to an operation whose caller has left, and closes the connection if there is none.
    async fn finish<F: Future>(self, mut operation: Pin<Box<F>>) {
        if timeout(LATE_RESPONSE, &mut operation).await.is_ok() {
            return;
        }
        // If too many were given up already, wait until one of them no longer counts.
        let given_up = tokio::select! {
            biased;
            given_up = self.to_give_up.acquire() => given_up,
            _ = &mut operation => return,
            () = sleep(GIVEN_UP_FOR) => return,
        };
        drop(operation);
        self.retire_open();
        sleep(GIVEN_UP_FOR).await;
        drop(given_up);
    }
}

/// An operation that moves to a task of its own when its caller drops it. It does not start there: a task for every statement would
/// cost the hot path two switches of threads.
struct Unfinished<F: Future<Output: Send> + Send + 'static> {
    operation: Option<Pin<Box<F>>>,
    outlives_caller: bool,
    health: ConnectionHealth,
}

impl<F: Future<Output: Send> + Send + 'static> Future for Unfinished<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let operation = self.operation.as_mut().expect("a future is not polled after it is ready");
        let answer = std::task::ready!(operation.as_mut().poll(context));
        self.operation = None;
        Poll::Ready(answer)
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Unfinished<F> {
    fn drop(&mut self) {
        let Some(operation) = self.operation.take() else { return };
        if !self.outlives_caller {
            self.health.retire_open();
        } else if let Ok(runtime) = Handle::try_current() {
            // Without a runtime the process is ending, and so is the connection.
            runtime.spawn(self.health.clone().finish(operation));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER_WAITS: Duration = Duration::from_millis(1_500);

    /// An operation that never ends; it drops its mark when it is given up.
    fn unanswered(mark: &Arc<()>) -> Pin<Box<impl Future<Output = Result<(), StoreError>> + Send + 'static>> {
        let mark = Arc::clone(mark);
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(mark);
            Ok(())
        })
    }

    #[tokio::test(start_paused = true)]
    async fn unanswered_statement_gives_its_connection_up_within_5_s() {
        let (health, mark, asked_at) = (ConnectionHealth::new(1), Arc::new(()), Instant::now());
        assert!(health.run(CALLER_WAITS, true, unanswered(&mark)).await.is_err());
        let connection_age = || asked_at.elapsed() + Duration::from_secs(1);
        sleep(LATE_RESPONSE.mul_f64(0.99)).await;
        assert_eq!((Arc::strong_count(&mark), health.allows(connection_age())), (2, true), "still awaited");
        sleep(LATE_RESPONSE.mul_f64(0.02)).await;
        assert_eq!((Arc::strong_count(&mark), health.allows(connection_age())), (1, false), "given up");
        assert!(asked_at.elapsed() < Duration::from_secs(5));
        sleep(Duration::from_millis(1)).await;
        assert!(health.allows(Duration::ZERO), "connections opened afterwards are used");
    }

    #[tokio::test(start_paused = true)]
    async fn open_connections_are_retired_once_a_second() {
        let (health, opened_at) = (ConnectionHealth::new(1), Instant::now());
        sleep(Duration::from_millis(1)).await;
        health.retire_open();
        assert!(!health.allows(opened_at.elapsed()));
        let opened_at = Instant::now() + Duration::from_millis(1);
        sleep(RETIRE_INTERVAL.mul_f64(0.9)).await;
        health.retire_open();
        assert!(health.allows(opened_at.elapsed()), "it was opened since");
        sleep(RETIRE_INTERVAL.mul_f64(0.2)).await;
        health.retire_open();
        assert!(!health.allows(opened_at.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_outage_lasts_until_the_first_is_forgotten() {
        let (health, mark) = (ConnectionHealth::new(1), Arc::new(()));
        assert!(health.run(CALLER_WAITS, true, unanswered(&mark)).await.is_err());
        sleep(GIVEN_UP_FOR.mul_f64(0.8)).await;
        assert!(health.run(CALLER_WAITS, true, unanswered(&mark)).await.is_err());
        sleep(LATE_RESPONSE).await;
        assert_eq!(Arc::strong_count(&mark), 2, "one was given up already");
        sleep(GIVEN_UP_FOR.mul_f64(0.2)).await;
        assert_eq!(Arc::strong_count(&mark), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_statements_than_allowed_are_given_up_in_30_s() {
        let (health, mark) = (ConnectionHealth::new(2), Arc::new(()));
        for _ in 0..5 {
            assert!(health.run(CALLER_WAITS, true, unanswered(&mark)).await.is_err());
        }
        sleep(LATE_RESPONSE * 2).await;
        assert_eq!(Arc::strong_count(&mark), 1 + 3, "two of five");
        sleep(GIVEN_UP_FOR).await;
        assert_eq!(Arc::strong_count(&mark), 1, "every wait ends");
    }
}
