//! Reports this replica in the list of replicas, and applies the operator's request found there. Runs outside
//! of requests.

use std::time::Duration;

use tokio::time::timeout;
use tracing::warn;
use verifier::{Algorithm, Seconds};

use crate::domain::key::Chain;
use crate::domain::replica::{KeyGenerations, ReplicaReport, ReplicaState};
use crate::runtime::app::App;
use crate::store::{SqlStore, StoreError};

/// Deadline for removing the row when the process stops.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// Writes this replica's row once, and applies the operator's request in it.
pub async fn beat(app: &App) -> Result<(), StoreError> {
    let before = app.drain.decisions();
    let is_drain_wanted = app.store.beat(report(app)).await?;
    app.drain.follow(is_drain_wanted, before);
    Ok(())
}

/// Removes this replica from the list. If that fails, the row is removed later, like that of any silent
/// replica.
pub async fn leave(store: &SqlStore) {
    let left = timeout(LEAVE_LIMIT, store.forget_replica(store.replica())).await;
    if let Err(error) = left.unwrap_or(Err(StoreError::Timeout)) {
        warn!(%error, "could not remove this replica from the list; it is removed later as silent");
    }
}

fn report(app: &App) -> ReplicaReport {
    let (snapshot, now) = (app.keyring.snapshot(), app.clock.now());
    let signing = |algorithm| {
        let keys = snapshot.chain_keys(Chain::Signing(algorithm));
        let active = keys.iter().find(|key| key.phase(now).may_sign())?;
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
        key_changes: snapshot.keys_version(),
        key_generations: KeyGenerations(Algorithm::ALL.into_iter().filter_map(signing).collect()),
        lease_left: Seconds(i64::try_from(lease_left.as_secs()).unwrap_or(i64::MAX)),
        feed_lag_ms: app.feed.as_of().map(|as_of| (app.clock.unix_millis() - as_of).max(0)),
        settings_version: settings.version,
        is_refusing_settings: settings.refused.is_some(),
        is_drain_wanted: app.drain.is_maintenance(),
    }
}

fn state(app: &App) -> ReplicaState {
    if app.drain.is_stopping() {
        ReplicaState::Stopping
    } else if app.drain.is_on() {
        ReplicaState::Draining
    } else if app.reasons_not_ready().is_empty() {
        ReplicaState::Ready
    } else {
        ReplicaState::NotReady
    }
}
