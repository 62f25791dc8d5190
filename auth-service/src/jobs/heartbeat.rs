//! Keeps this replica's row in the list of replicas up to date.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::outage::Outage;
use crate::flows::heartbeat::beat;
use crate::runtime::app::App;
use crate::store::Deadline;

const INTERVAL: Duration = Duration::from_secs(2);

/// Beats until the task is aborted, and immediately when the drain state changes. Beats never overlap.
pub(super) async fn run(app: App) {
    let mut drain = app.drain.watch();
    let mut outage = Outage::new(
        "the list of replicas cannot be written; this replica goes on",
        "the list of replicas is written again",
    );
    loop {
        if outage.record(beat(&app.within(Deadline::of_background_work())).await) {
            sleep(INTERVAL).await;
        } else {
            // A change only shortens the wait.
            let _ = timeout(INTERVAL, drain.changed()).await;
        }
    }
}
