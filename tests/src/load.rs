//! Work that goes on in the background of a test until it is told to stop.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// A set of running jobs. A job that panics fails the test when the load is stopped.
#[derive(Debug, Default)]
pub struct Load {
    stopping: Arc<AtomicBool>,
    jobs: JoinSet<()>,
}

impl Load {
    /// Starts `job` once each `period`, whether or not earlier ones have finished: arrivals that do not wait, so that a
    /// stall shows as many late answers and not as one.
    pub fn every<F>(&mut self, period: Duration, mut job: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stopping = Arc::clone(&self.stopping);
        self.jobs.spawn(async move {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut running = JoinSet::new();
            while !stopping.load(Ordering::Relaxed) {
                ticks.tick().await;
                running.spawn(job());
                while let Some(finished) = running.try_join_next() {
                    finished.expect("a job does not panic");
                }
            }
            running.join_all().await;
        });
    }

    /// Runs `job` again and again, each time after it has finished, with `pause` between.
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

    /// Starts nothing more and waits for what runs.
    pub async fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.jobs.join_all().await;
    }
}
