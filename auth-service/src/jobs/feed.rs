//! Keeps the revocation feed going: reads new revocations, and sends a heartbeat to the streams.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::outage::Outage;
use crate::runtime::feed::Feed;
use crate::store::SqlStore;

/// Poll interval: the longest wait for a revocation of which no notification arrives.
const POLL_INTERVAL: Duration = Duration::from_millis(400);
/// Notifications within this time cause one read: at most 20 reads a second.
const GAP: Duration = Duration::from_millis(50);
/// After a failure, poll less often: each unanswered read leaves a connection open on a hung server.
const POLL_AFTER_FAILURE: Duration = Duration::from_secs(2);
/// Verifiers expect a document every 2 s.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Runs until the task is aborted.
pub async fn run(feed: Arc<Feed>, store: SqlStore) {
    tokio::join!(follow(&feed, &store), send_heartbeats(&feed), store.listen());
}

async fn follow(feed: &Feed, store: &SqlStore) {
    let mut outage =
        Outage::new("revocations cannot be read; the feed goes on from memory", "revocations are read again");
    loop {
        if outage.record(feed.poll().await) {
            sleep(POLL_AFTER_FAILURE).await;
        } else {
            sleep(GAP).await;
            // A notification that arrived meanwhile is kept.
            let _ = timeout(POLL_INTERVAL.saturating_sub(GAP), store.revoked().notified()).await;
        }
    }
}

async fn send_heartbeats(feed: &Feed) {
    let mut due = interval(HEARTBEAT_INTERVAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        feed.heartbeat().await;
    }
}
