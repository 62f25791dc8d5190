//! Keeps this replica's row in the list of replicas up to date.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::outage::Outage;
use crate::flows::heartbeat::{beat, leave};
use crate::runtime::app::App;
use crate::store::Deadline;

const INTERVAL: Duration = Duration::from_secs(2);

/// Sends a heartbeat at each interval and immediately when the drain state changes, until the sender of `stopped` is dropped.
/// Then removes this replica from the list. Heartbeats never overlap, so none comes after that.
pub(super) async fn run(app: App, mut stopped: watch::Receiver<()>) {
    let mut drain = app.drain.watch();
    let mut outage = Outage::new(
        "this replica cannot update its row in the list of replicas; it continues to serve",
        "this replica can update its row in the list of replicas again",
    );
    loop {
        let is_away = outage.record(&beat(&app.within(Deadline::of_background_work())).await);
        let wait = async {
            if is_away {
                sleep(INTERVAL).await;
            } else {
                // A change of the drain state ends the wait early.
                let _ = timeout(INTERVAL, drain.changed()).await;
            }
        };
        tokio::select! {
            () = wait => {}
            _ = stopped.changed() => return leave(&app.store).await,
        }
    }
}
