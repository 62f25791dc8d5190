//! Polls the key table, and rotates keys when they are due.

use std::time::Duration;

use tokio::time::sleep;
use tracing::info;

use super::jittered;
use super::outage::Outage;
use crate::flows::rotate_keys::{self, RotateError};
use crate::runtime::app::App;
use crate::store::Deadline;

/// Deadline for one read. It is short because the next poll follows soon.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// Maximum poll interval while the key table cannot be read, even if `key_poll_interval` is longer.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Confirms or reloads the key ring every `key_poll_interval` and announces successors that are due, until
/// the task is aborted.
pub(super) async fn run(app: App) {
    let mut outage = Outage::new("the key table cannot be read", "the key table can be read again");
    let mut pause = app.config.key_poll_interval;
    loop {
        sleep(jittered(&*app.entropy, pause)).await;
        let has_failed = outage.record(&poll(&app).await);
        pause = app.config.key_poll_interval;
        if has_failed {
            pause = pause.min(RETRY_INTERVAL);
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
