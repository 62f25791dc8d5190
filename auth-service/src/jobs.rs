//! What a replica does by itself: follow the key table, rotate keys, follow revocations, tell of itself, tidy up.

use std::time::Duration;

use tracing::{info, warn};
use verifier::Seconds;

use crate::app::App;
use crate::domain::login::FORGET_AFTER;
use crate::domain::replica;
use crate::flows::rotate_keys;
use crate::{feed, replicas};

const TIDY_INTERVAL: Duration = Duration::from_mins(1);
/// Ended sessions are kept this long after they could last be refreshed, for whoever investigates.
const KEEP_SESSIONS_FOR: Seconds = Seconds(86_400);
/// Rows deleted in one transaction, so that none of them is long.
const BATCH: u32 = 500;

/// Runs until the task is aborted.
pub async fn run(app: App) {
    tokio::join!(follow_keys(&app), feed::run(&app), replicas::run(&app), tidy(&app));
}

/// Confirms or reloads the key ring each `key_poll_interval`, and lets the chains go on when they are due.
async fn follow_keys(app: &App) {
    let mut was_wrong = false;
    loop {
        tokio::time::sleep(jittered(app, app.config.key_poll_interval)).await;
        let outcome = poll(app).await;
        match &outcome {
            Err(error) => warn!(%error, "the key table could not be followed"),
            Ok(()) if was_wrong => info!("the key table is followed again"),
            Ok(()) => {}
        }
        was_wrong = outcome.is_err();
    }
}

async fn poll(app: &App) -> Result<(), rotate_keys::RotateError> {
    let seen = app.store.key_changes().await?;
    app.clock_guard.observe(&seen, &*app.clock);
    if app.keyring.catch_up(&app.store, &seen).await? {
        info!(changes = seen.changes, "the key ring was reloaded");
    }
    rotate_keys::rotate_if_due(app).await
}

async fn tidy(app: &App) {
    loop {
        tokio::time::sleep(jittered(app, TIDY_INTERVAL)).await;
        if let Err(error) = tidy_once(app).await {
            warn!(%error, "old rows could not be removed");
        }
    }
}

/// Removes what nobody needs any more: expired private keys, revocations that outlived their tokens, sessions long over, old
/// failure counters, replicas that are gone.
pub async fn tidy_once(app: &App) -> Result<(), crate::store::StoreError> {
    app.store.erase_expired_keys().await?;
    app.store.adopt_revoked_keys().await?;
    while app.store.purge_revocations(BATCH).await? == u64::from(BATCH) {}
    while app.store.purge_sessions(KEEP_SESSIONS_FOR, BATCH).await? == u64::from(BATCH) {}
    while app.store.purge_failures(FORGET_AFTER, BATCH).await? == u64::from(BATCH) {}
    app.store.purge_replicas(replica::FORGET_AFTER).await?;
    Ok(())
}

/// Within ±10 %, so that replicas started together do not ask together for ever.
fn jittered(app: &App, interval: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness there is no jitter, and that is all.
    let _ = app.entropy.fill(&mut byte);
    interval.mul_f64(0.9 + 0.2 * f64::from(byte[0]) / 255.0)
}
