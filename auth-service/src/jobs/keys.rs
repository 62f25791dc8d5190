//! Follows the key table, and continues the chains.

use std::time::Duration;

use tokio::time::sleep;
use tracing::info;

use super::jittered;
use super::outage::Outage;
use crate::flows::rotate_keys::{self, RotateError};
use crate::runtime::app::App;
use crate::store::Deadline;

/// Deadline for one read; the next one comes soon.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// While the key table cannot be read, it is polled this often, however long `key_poll_interval` is.
const POLL_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Confirms or reloads the key ring every `key_poll_interval` and announces successors that are due, until the task is aborted.
pub(super) async fn run(app: App) {
    let mut outage = Outage::new("the key table cannot be followed", "the key table is followed again");
    let mut pause = app.config.key_poll_interval;
    loop {
        sleep(jittered(&*app.entropy, pause)).await;
        let has_failed = outage.record(poll(&app).await);
        pause = app.config.key_poll_interval;
        if has_failed {
            pause = pause.min(POLL_AFTER_FAILURE);
        }
    }
}

async fn poll(app: &App) -> Result<(), RotateError> {
    let store = || app.store.within(Deadline::of_background_read(READ_LIMIT));
    let seen = store().confirmation().await?;
    app.clock_guard.observe(&seen, &*app.clock);
    if app.keyring.catch_up(&store(), &seen).await? {
        info!(keys_version = seen.keys_version, "the key ring was reloaded");
    }
    rotate_keys::rotate_if_due(app).await
}
