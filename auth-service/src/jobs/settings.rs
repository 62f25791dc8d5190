//! Applies stored settings when they change.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::outage::Outage;
use crate::runtime::settings::LiveSettings;
use crate::store::{Deadline, SqlStore};

const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(2);

/// Applies the stored settings whenever a version is reported, until the task is aborted. Each read of revocations reports one; it does
/// not wait here, because the table of settings may be locked, or unreadable for this replica.
pub async fn run(settings: Arc<LiveSettings>, store: SqlStore) {
    let mut heard = settings.heard();
    let mut outage = Outage::new(
        "changed settings cannot be read; the last valid ones go on",
        "changed settings are read again",
    );
    // For every report, not only for a new version: the last one may not have been applied.
    while heard.changed().await.is_ok() {
        let version = *heard.borrow_and_update();
        let store = store.within(Deadline::of_background_work());
        if outage.record(settings.catch_up(&store, version).await) {
            sleep(RETRY_AFTER_FAILURE).await;
        }
    }
}
