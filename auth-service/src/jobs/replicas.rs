//! Keeps this replica's row in the list of replicas up to date.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::outage::Outage;
use crate::flows::heartbeat::beat;
use crate::runtime::app::App;
use crate::store::Deadline;

const INTERVAL: Duration = Duration::from_secs(2);

/// Sends a heartbeat at each interval and immediately when the drain state changes, until the task is
/// aborted. Heartbeats never overlap.
pub(super) async fn run(app: App) {
    let mut drain = app.drain.watch();
    let mut outage = Outage::new(
        "this replica cannot update its row in the list of replicas; it continues to serve",
        "this replica can update its row in the list of replicas again",
    );
    loop {
        if outage.record(&beat(&app.within(Deadline::of_background_work())).await) {
            sleep(INTERVAL).await;
        } else {
            // A change of the drain state ends the wait early.
            let _ = timeout(INTERVAL, drain.changed()).await;
        }
    }
}
