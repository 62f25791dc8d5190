//! How long a statement may keep its connection unanswered, and which connections are not used again.
//!
//! A network that loses packets, or a standby that took over, leaves connections that look sound. Waiting for each of them to fail
//! would keep a replica out of service long after its database is back.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
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
/// A connection idle for this long is asked whether it still stands before it is used.
const PING_AFTER: Duration = Duration::from_secs(1);
/// Leaves time for a new connection.
const PING_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the answer to a statement is waited for when its caller has left. With the time that the caller waited it is less than
/// the 5 s in which a replica must be back in service.
const LATE_ANSWER: Duration = Duration::from_secs(3);
/// To open connections costs the server more than to answer: a server that refuses all that is asked must not be flooded with them.
const WITHDRAWN_EVERY: Duration = Duration::from_secs(1);
/// A server whose disk or processes stand still goes on holding what was given up, and lets others in: were this shorter, three replicas
/// would use up its 100 connections within a minute. The price: a second loss of packets soon after a first one may keep the pool's
/// connections until the statements of the first one are forgotten.
const GIVEN_UP_FOR: Duration = Duration::from_secs(30);

/// What a pool knows of its connections beyond what each of them shows.
#[derive(Clone, Debug)]
pub(in crate::store) struct ConnectionHealth {
    /// Connections opened before this are closed rather than used.
    since: Arc<Mutex<Option<Instant>>>,
    /// How many more statements may be given up within [`GIVEN_UP_FOR`].
    to_give_up: Arc<Semaphore>,
}

impl ConnectionHealth {
    /// `to_give_up`: each statement that is given up may leave a connection at the server, and another is opened in its place. So there
    /// is a limit; statements beyond it wait longer.
    pub(in crate::store) fn new(to_give_up: u32) -> Self {
        Self { since: Arc::default(), to_give_up: Arc::new(Semaphore::new(to_give_up as usize)) }
    }

    /// Connections that are open now are not used again. Those opened since this was last said, less than a second ago, are.
    pub(in crate::store) fn withdraw(&self) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none_or(|since| since.elapsed() >= WITHDRAWN_EVERY) {
            *since = Some(Instant::now());
        }
    }

    fn holds_for(&self, age: Duration) -> bool {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|since| since.elapsed() > age)
    }

    /// A pool of connections that are trusted when they are lent.
    ///
    /// A ping for each statement would double its time, and on a frozen server eat the whole deadline. But a connection that was idle
    /// for a while may have been closed by a restart of the server; a busy one shows that with its next statement.
    pub(in crate::store) fn pool<DB: sqlx::Database>(&self) -> PoolOptions<DB> {
        let health = self.clone();
        PoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT).test_before_acquire(false).before_acquire(
            move |connection: &mut DB::Connection, metadata| {
                let health = health.clone();
                Box::pin(async move {
                    if !health.holds_for(metadata.age) {
                        return Ok(false);
                    }
                    if metadata.idle_for < PING_AFTER {
                        return Ok(true);
                    }
                    let stands = matches!(timeout(PING_TIMEOUT, connection.ping()).await, Ok(Ok(())));
                    if !stands {
                        health.withdraw();
                    }
                    Ok(stands)
                })
            },
        )
    }

    /// Runs `operation` to its end even if the caller leaves, and answers the caller within `deadline`.
    ///
    /// A statement that was sent keeps its connection until the server answers, for a while: to give up on the connection at once would
    /// let a frozen server collect ever more of them. With `is_seen_through` false it is given up at the deadline.
    pub(in crate::store) async fn detached<T: Send + 'static>(
        &self,
        deadline: Duration,
        is_seen_through: bool,
        operation: Pin<Box<impl Future<Output = Result<T, StoreError>> + Send + 'static>>,
    ) -> Result<T, StoreError> {
        let operation = Unfinished { operation: Some(operation), is_seen_through, health: self.clone() };
        timeout(deadline, operation).await.unwrap_or(Err(StoreError::Timeout))
    }

    /// Waits for an answer that nobody else waits for, and closes the connection if it does not come.
    async fn see_through<F: Future>(self, mut operation: Pin<Box<F>>) {
        if timeout(LATE_ANSWER, &mut operation).await.is_ok() {
            return;
        }
        // Where too many were given up already, it is waited for until the first of those is forgotten.
        let given_up = tokio::select! {
            biased;
            given_up = self.to_give_up.acquire() => given_up,
            _ = &mut operation => return,
            () = sleep(GIVEN_UP_FOR) => return,
        };
        drop(operation);
        self.withdraw();
        sleep(GIVEN_UP_FOR).await;
        drop(given_up);
    }
}

/// An operation that goes on in a task of its own when its caller drops it. Not from the start: a task for every statement
/// would cost the hot path two switches of threads.
struct Unfinished<F: Future<Output: Send> + Send + 'static> {
    operation: Option<Pin<Box<F>>>,
    is_seen_through: bool,
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
        if !self.is_seen_through {
            self.health.withdraw();
        } else if let Ok(runtime) = Handle::try_current() {
            // Without a runtime the process is ending, and so is the connection.
            runtime.spawn(self.health.clone().see_through(operation));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER_WAITS: Duration = Duration::from_millis(1_500);

    /// Something that never answers; dropped when it is given up.
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
        assert!(health.detached(CALLER_WAITS, true, unanswered(&mark)).await.is_err());
        let connection_age = || asked_at.elapsed() + Duration::from_secs(1);
        sleep(LATE_ANSWER.mul_f64(0.99)).await;
        assert_eq!(
            (Arc::strong_count(&mark), health.holds_for(connection_age())),
            (2, true),
            "still awaited"
        );
        sleep(LATE_ANSWER.mul_f64(0.02)).await;
        assert_eq!((Arc::strong_count(&mark), health.holds_for(connection_age())), (1, false), "given up");
        assert!(asked_at.elapsed() < Duration::from_secs(5));
        sleep(Duration::from_millis(1)).await;
        assert!(health.holds_for(Duration::ZERO), "what is opened afterwards is trusted");
    }

    #[tokio::test(start_paused = true)]
    async fn trust_is_withdrawn_once_a_second() {
        let (health, opened_at) = (ConnectionHealth::new(1), Instant::now());
        sleep(Duration::from_millis(1)).await;
        health.withdraw();
        assert!(!health.holds_for(opened_at.elapsed()));
        let opened_at = Instant::now() + Duration::from_millis(1);
        sleep(WITHDRAWN_EVERY.mul_f64(0.9)).await;
        health.withdraw();
        assert!(health.holds_for(opened_at.elapsed()), "it was opened since");
        sleep(WITHDRAWN_EVERY.mul_f64(0.2)).await;
        health.withdraw();
        assert!(!health.holds_for(opened_at.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_outage_lasts_until_the_first_is_forgotten() {
        let (health, mark) = (ConnectionHealth::new(1), Arc::new(()));
        assert!(health.detached(CALLER_WAITS, true, unanswered(&mark)).await.is_err());
        sleep(GIVEN_UP_FOR.mul_f64(0.8)).await;
        assert!(health.detached(CALLER_WAITS, true, unanswered(&mark)).await.is_err());
        sleep(LATE_ANSWER).await;
        assert_eq!(Arc::strong_count(&mark), 2, "one was given up already");
        sleep(GIVEN_UP_FOR.mul_f64(0.2)).await;
        assert_eq!(Arc::strong_count(&mark), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_statements_than_allowed_are_given_up_in_30_s() {
        let (health, mark) = (ConnectionHealth::new(2), Arc::new(()));
        for _ in 0..5 {
            assert!(health.detached(CALLER_WAITS, true, unanswered(&mark)).await.is_err());
        }
        sleep(LATE_ANSWER * 2).await;
        assert_eq!(Arc::strong_count(&mark), 1 + 3, "two of five");
        sleep(GIVEN_UP_FOR).await;
        assert_eq!(Arc::strong_count(&mark), 1, "nothing waits for ever");
    }
}
