//! What a replica does by itself: follow the key table, rotate keys, follow revocations and settings, tell of
//! itself, tidy up.

use std::time::Duration;

use tokio::task::JoinSet;
use tracing::{error, info, warn};
use verifier::Seconds;

use crate::domain::login::FORGET_AFTER;
use crate::domain::replica;
use crate::flows::rotate_keys;
use crate::runtime::app::App;
use crate::runtime::{feed, heartbeat, settings};
use crate::store::with_one_connection;

/// A loop that crashed begins anew after this long, so that one which crashes at once does not fill the log.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// A read that was not answered by then is given up; the next one comes soon.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// A database that was away is asked so often whether it is back, however rare the poll is.
const POLL_AFTER_FAILURE: Duration = Duration::from_secs(1);
const TIDY_INTERVAL: Duration = Duration::from_mins(1);
/// Ended sessions are kept this long after they could last be refreshed, for whoever investigates.
const KEEP_SESSIONS_FOR: Seconds = Seconds(86_400);
/// Rows deleted in one transaction, so that none of them is long.
const BATCH: u32 = 500;

/// Runs until it is dropped. A loop that panics is started again, and the others go on: without them the signing lease would
/// run out, or the feed fall silent.
pub async fn run(app: App) {
    tokio::join!(
        keep_alive("keys", &app, |app| async move { follow_keys(&app).await }),
        keep_alive("feed", &app, |app| async move { feed::run(&app).await }),
        keep_alive("settings", &app, |app| async move { settings::follow(&app).await }),
        keep_alive("replicas", &app, |app| async move { heartbeat::run(&app).await }),
        keep_alive("tidy", &app, |app| async move { tidy(&app).await }),
    );
}

async fn keep_alive<F: Future<Output = ()> + Send + 'static>(name: &str, app: &App, job: impl Fn(App) -> F) {
    loop {
        // A set of one: unlike a task by itself, it ends with us.
        let mut task = JoinSet::from_iter([job(app.clone())]);
        if let Some(Err(_)) = task.join_next().await {
            error!(job = name, "a background job crashed and is started again");
        }
        tokio::time::sleep(RESTART_DELAY).await;
    }
}

/// Confirms or reloads the key ring each `key_poll_interval`, and lets the chains go on when they are due.
async fn follow_keys(app: &App) {
    let mut was_wrong = false;
    loop {
        let pause = app.config.key_poll_interval;
        let pause = if was_wrong { pause.min(POLL_AFTER_FAILURE) } else { pause };
        tokio::time::sleep(jittered(app, pause)).await;
        let outcome = poll(app).await;
        match &outcome {
            Err(error) if !was_wrong => warn!(%error, "the key table cannot be followed"),
            Ok(()) if was_wrong => info!("the key table is followed again"),
            _ => {}
        }
        was_wrong = outcome.is_err();
    }
}

async fn poll(app: &App) -> Result<(), rotate_keys::RotateError> {
    let seen = with_one_connection(READ_LIMIT, app.store.confirmation()).await?;
    app.clock_guard.observe(&seen, &*app.clock);
    if with_one_connection(READ_LIMIT, app.keyring.catch_up(&app.store, &seen)).await? {
        info!(keys_version = seen.keys_version, "the key ring was reloaded");
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
/// failure counters, replicas that are gone. Nothing while the clocks differ: a wrong one would end what is still good for ever.
pub async fn tidy_once(app: &App) -> Result<(), crate::store::StoreError> {
    if app.clock_guard.off_by(app.config.clock_bound).is_some() {
        return Ok(());
    }
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
