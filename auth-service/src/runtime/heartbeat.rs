//! What this replica tells the others, and hears of what operators want of it. Nothing else waits for it.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use verifier::{Algorithm, Seconds};

use crate::domain::key::Chain;
use crate::domain::replica::{KeyGenerations, ReplicaReport, ReplicaState};
use crate::runtime::app::App;
use crate::store::{StoreError, with_patience};

const BEAT: Duration = Duration::from_secs(2);
/// Nobody waits longer for a replica that ends.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// Beats until the task is aborted, at once after a change of ours. The next beat waits for the one before, and makes up for it.
pub async fn run(app: &App) {
    let mut was_wrong = false;
    loop {
        let outcome = with_patience(beat(app)).await;
        match &outcome {
            Err(error) if !was_wrong => {
                warn!(%error, "the list of replicas cannot be written; this one goes on");
            }
            Ok(()) if was_wrong => info!("the list of replicas is written again"),
            _ => {}
        }
        was_wrong = outcome.is_err();
        if was_wrong {
            sleep(BEAT).await;
        } else {
            // The time is what matters; a change only shortens it.
            let _ = timeout(BEAT, app.drain.changed()).await;
        }
    }
}

/// Tells once, and does what an operator wants.
pub async fn beat(app: &App) -> Result<(), StoreError> {
    let before = app.drain.decisions();
    let is_drain_wanted = app.store.beat(report(app)).await?;
    app.drain.follow(is_drain_wanted, before);
    Ok(())
}

/// Takes this replica off the list, as well as that can be done.
pub async fn leave(app: &App) {
    let forgotten = timeout(LEAVE_LIMIT, app.store.forget_replica(app.store.replica())).await;
    if let Err(error) = forgotten.unwrap_or(Err(StoreError::Timeout)) {
        warn!(%error, "this replica stays on the list until it is forgotten");
    }
}

fn report(app: &App) -> ReplicaReport {
    let (snapshot, now) = (app.keyring.snapshot(), app.clock.now());
    let signing = |algorithm| {
        let keys = snapshot.chain_keys(Chain::Signing(algorithm));
        let active = keys.iter().find(|key| key.schedule.phase(now).may_sign())?;
        Some((algorithm, active.generation))
    };
    let lease_left = Duration::from(app.config.key_publish_ahead).saturating_sub(app.keyring.confirmed_for());
    let settings = app.settings.applied();
    ReplicaReport {
        id: app.store.replica().to_owned(),
        name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        public_addr: app.config.public_addr.to_string(),
        admin_addr: app.config.admin_addr.to_string(),
        state: state(app),
        key_changes: snapshot.changes(),
        key_generations: KeyGenerations(Algorithm::ALL.into_iter().filter_map(signing).collect()),
        lease_left: Seconds(i64::try_from(lease_left.as_secs()).unwrap_or(i64::MAX)),
        feed_lag_ms: app.feed.as_of().map(|as_of| (app.clock.unix_millis() - as_of).max(0)),
        settings_version: settings.version,
        is_refusing_settings: settings.refused.is_some(),
        is_drain_wanted: app.drain.is_maintenance(),
    }
}

fn state(app: &App) -> ReplicaState {
    if app.drain.stops() {
        ReplicaState::Stopping
    } else if app.drain.is_on() {
        ReplicaState::Draining
    } else if app.reasons_not_ready().is_empty() {
        ReplicaState::Ready
    } else {
        ReplicaState::NotReady
    }
}
