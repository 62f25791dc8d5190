//! Background work of a test that runs until it is stopped.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::arrivals::{Schedule, Tally};

/// A set of running jobs. A job that panics fails the test when the load is stopped.
#[derive(Debug, Default)]
pub struct Load {
    stopping: Arc<AtomicBool>,
    jobs: JoinSet<()>,
}

impl Load {
    /// Makes a call whenever one is due, whether or not earlier ones have finished. See [`Schedule::run`].
    pub fn arrive<F>(
        &mut self,
        schedule: Schedule,
        tally: &Arc<Tally>,
        call: impl FnMut() -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let (stopping, tally) = (Arc::clone(&self.stopping), Arc::clone(tally));
        self.jobs.spawn(async move {
            schedule.run(&tally, || !stopping.load(Ordering::Relaxed), call).await;
        });
    }

    /// Runs `job` repeatedly, with `pause` between two runs.
    pub fn repeat<F>(&mut self, pause: Duration, mut job: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stopping = Arc::clone(&self.stopping);
        self.jobs.spawn(async move {
            while !stopping.load(Ordering::Relaxed) {
                job().await;
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// Starts no further work and waits for running work.
    pub async fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.jobs.join_all().await;
    }
}
