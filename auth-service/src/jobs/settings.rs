//! Applies stored settings after a change.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::outage::Outage;
use crate::runtime::settings::LiveSettings;
use crate::store::{Deadline, SqlStore};

const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// Applies the stored settings whenever a version is reported, until the task is aborted. Each read of
/// revocations reports a version and does not wait until it is applied: the settings table may be locked, or
/// unreadable for this replica.
pub async fn run(settings: Arc<LiveSettings>, store: SqlStore) {
    let mut reports = settings.reports();
    let mut outage = Outage::new(
        "changed settings cannot be read; the last valid settings stay in use",
        "changed settings can be read again",
    );
    // Every report counts, not only a new version: the previous attempt may have failed.
    while reports.changed().await.is_ok() {
        let version = *reports.borrow_and_update();
        let store = store.within(Deadline::of_background_work());
        if outage.record(&settings.catch_up(&store, version).await) {
            sleep(RETRY_INTERVAL).await;
        }
    }
}
