//! Updates the revocation feed: reads new revocations, and sends heartbeats to the streams.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::outage::Outage;
use crate::runtime::feed::Feed;
use crate::store::SqlStore;

/// Poll interval: the maximum delay of a revocation whose notification is lost.
const POLL_INTERVAL: Duration = Duration::from_millis(400);
/// Notifications within this time cause one read: at most 20 reads a second.
const MIN_INTERVAL: Duration = Duration::from_millis(50);
/// After a failure, poll less often: each unanswered read leaves a connection open on a hung server.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// Verifiers expect a document every 2 s.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Runs until the task is aborted.
pub async fn run(feed: Arc<Feed>, store: SqlStore) {
    tokio::join!(follow(&feed, &store), send_heartbeats(&feed), store.listen());
}

async fn follow(feed: &Feed, store: &SqlStore) {
    let mut outage = Outage::new(
        "revocations cannot be read; the feed continues from memory",
        "revocations can be read again",
    );
    loop {
        if outage.record(&feed.poll().await) {
            sleep(RETRY_INTERVAL).await;
        } else {
            sleep(MIN_INTERVAL).await;
            // A notification that arrived during the sleep is not lost.
            let _ = timeout(POLL_INTERVAL.saturating_sub(MIN_INTERVAL), store.revoked().notified()).await;
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
