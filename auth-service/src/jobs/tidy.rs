//! Deletes rows that are no longer needed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;
use verifier::Seconds;

use super::jittered;
use crate::domain::limit::{DEVICE_KEPT_FOR, FORGET_AFTER};
use crate::domain::replica;
use crate::domain::revocation;
use crate::entropy::Entropy;
use crate::flows::DEVICE_SUBJECT;
use crate::runtime::app::App;
use crate::runtime::clock_guard::ClockGuard;
use crate::store::{Deadline, SqlStore, StoreError};

const INTERVAL: Duration = Duration::from_mins(1);
/// Ended sessions are kept for investigations, for this long after their last possible refresh.
const KEEP_SESSIONS_FOR: Seconds = Seconds(86_400);
/// Rows deleted per transaction, so that transactions are short.
const BATCH: u32 = 500;

/// The job, with the parts that it uses.
#[derive(Clone, Debug)]
pub struct Tidy {
    store: SqlStore,
    /// Nothing is deleted while the clock differs by more than `clock_bound`.
    clock_guard: Arc<ClockGuard>,
    clock_bound: Seconds,
}

impl Tidy {
    /// The job of a replica.
    pub fn of(app: &App) -> Self {
        Self {
            store: app.store.clone(),
            clock_guard: Arc::clone(&app.clock_guard),
            clock_bound: app.config.clock_bound,
        }
    }

    /// Repeats [`once`](Self::once) every minute until the task is aborted.
    pub(super) async fn run(self, entropy: Arc<dyn Entropy>) {
        loop {
            sleep(jittered(&*entropy, INTERVAL)).await;
            if let Err(error) = self.once().await {
                warn!(%error, "old rows could not be deleted");
            }
        }
    }

    /// Deletes expired private keys, revocations whose tokens have expired, old ended sessions, old failure
    /// counters, and replicas that have stopped. Deletes nothing while the clocks differ: with a wrong clock,
    /// it would delete rows that are still needed.
    pub async fn once(&self) -> Result<(), StoreError> {
        if self.clock_guard.off_by(self.clock_bound).is_some() {
            return Ok(());
        }
        let store = || self.store.within(Deadline::of_background_work());
        store().adopt_revoked_keys().await?;
        store().adopt_announced_keys().await?;
        while store().purge_revocations(BATCH).await? == u64::from(BATCH) {}
        while store().purge_sessions(KEEP_SESSIONS_FOR, BATCH).await? == u64::from(BATCH) {}
        let ended = KEEP_SESSIONS_FOR + revocation::keep_for(self.clock_bound);
        while store().purge_ended_sessions(ended, BATCH).await? == u64::from(BATCH) {}
        let devices = (DEVICE_SUBJECT, DEVICE_KEPT_FOR);
        while store().purge_counters(FORGET_AFTER, devices, BATCH).await? == u64::from(BATCH) {}
        while store().purge_networks(BATCH).await? == u64::from(BATCH) {}
        store().purge_replicas(replica::FORGET_AFTER).await?;
        // Last, because it may read all sessions.
        store().erase_expired_keys().await.map(drop)
    }
}
