//! The start of a replica, before it serves: master key, schema, keys, first administrator. Commands open what a
//! replica has created.

pub mod breached_passwords;
pub mod database;
mod error;
pub mod files;
mod first_admin;
mod master_key;

use std::sync::Arc;

use verifier::Clock;

use crate::config::{Config, Layers, Loaded, rotation_policy};
use crate::domain::breached::BreachedPasswords;
use crate::domain::key::{Chain, RotationPolicy};
use crate::entropy::Entropy;
use crate::flows::rotate_keys::{continue_chain, make_key};
use crate::keys::keyring::KeyRing;
use crate::keys::sealing::MasterKeys;
use crate::runtime::app::App;
use crate::runtime::clock_guard::ClockGuard;
use crate::runtime::drain::Drain;
use crate::runtime::feed::{Feed, FeedParts};
use crate::runtime::hashing::HashPool;
use crate::runtime::settings::LiveSettings;
use crate::runtime::waiting_room::WaitingRoom;
use crate::store::{KeyTable, SqlStore};

pub use error::StartError;
pub use first_admin::{ADMIN_USERNAME, FirstPassword, bootstrap, judge_configured_password};
use master_key::MasterKeySource;

/// Builds the parts of a replica: opens the database, creates what is missing, and opens every key.
pub async fn start(
    loaded: Loaded,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<App, StartError> {
    // Before the database, so that a configuration mistake does not leave an empty database behind.
    let master = master_key::find(&loaded.config)?;
    let breached = breached_passwords::read(&loaded.config)?;
    first_admin::check_configured_password(&loaded, &breached, &clock, &*entropy).await?;
    let (store, _) = database::create(&loaded.config, Arc::clone(&clock), &*entropy).await?;
    let table = store.key_table().await?;
    let master = match master {
        MasterKeySource::Found(keys) => Arc::new(keys),
        MasterKeySource::Missing(path) if table.rows.is_empty() => {
            Arc::new(master_key::create(path, &*entropy)?)
        }
        // A new master key could not open the existing keys.
        MasterKeySource::Missing(path) => return Err(StartError::MissingMasterKey(path)),
    };
    // Checks that the existing keys can be opened, before any is added.
    KeyRing::new(&table, Arc::clone(&master), Arc::clone(&clock), loaded.config.key_publish_ahead)?;
    let settings = live_settings(&loaded, &store).await?;
    let policies = {
        let settings = settings.now();
        let chains =
            settings.signing_algorithms.iter().copied().map(Chain::Signing).chain([Chain::RefreshMac]);
        chains.map(|chain| (chain, rotation_policy(&loaded.config, &settings, chain))).collect()
    };
    start_missing_chains(&store, &table, policies, &master, &entropy).await?;
    assemble(Parts { loaded, store, settings, master, breached, clock, entropy }).await
}

/// Builds the parts of an installation that exists, for a command. Creates nothing. `store` is open with
/// [`Access::Change`](database::Access::Change).
pub async fn open(
    loaded: Loaded,
    store: SqlStore,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<App, StartError> {
    let master = master_key::existing(&loaded.config)?;
    let breached = breached_passwords::read(&loaded.config)?;
    let settings = live_settings(&loaded, &store).await?;
    assemble(Parts { loaded, store, settings, master, breached, clock, entropy }).await
}

/// Checks that the master keys of this machine open every key. Creates nothing.
pub async fn check_master_key(
    config: &Config,
    store: &SqlStore,
    clock: Arc<dyn Clock>,
) -> Result<(), StartError> {
    let master = master_key::existing(config)?;
    KeyRing::new(&store.key_table().await?, master, clock, config.key_publish_ahead)?;
    Ok(())
}

/// The settings that apply: stored ones, overridden by file and environment.
pub async fn live_settings(loaded: &Loaded, store: &SqlStore) -> Result<LiveSettings, StartError> {
    let layers = Layers::new(Arc::new(loaded.config.clone()), loaded.clone());
    Ok(LiveSettings::new(layers, &store.settings().await?))
}

/// What a replica and a command open before they build the rest.
struct Parts {
    loaded: Loaded,
    store: SqlStore,
    settings: LiveSettings,
    master: Arc<MasterKeys>,
    breached: BreachedPasswords,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

async fn assemble(parts: Parts) -> Result<App, StartError> {
    let Parts { loaded, store, settings, master, breached, clock, entropy } = parts;
    let config = Arc::new(loaded.config);
    let table = store.key_table().await?;
    let keyring = KeyRing::new(&table, master, Arc::clone(&clock), config.key_publish_ahead)?;
    let (permits, queue) = (config.hash_permits, config.hash_queue);
    let hashing = HashPool::start(config.hash_policy(), permits, queue, Arc::clone(&entropy))
        .map_err(StartError::Threads)?;
    let clock_guard = ClockGuard::default();
    clock_guard.observe(&table.seen, &*clock);
    let drain = Drain::default();
    let parts = FeedParts {
        config,
        store,
        keyring: Arc::new(keyring),
        clock,
        clock_guard: Arc::new(clock_guard),
        settings: Arc::new(settings),
        drain: drain.watch(),
    };
    Ok(App {
        config: Arc::clone(&parts.config),
        settings: Arc::clone(&parts.settings),
        store: parts.store.clone(),
        keyring: Arc::clone(&parts.keyring),
        clock: Arc::clone(&parts.clock),
        waiting_room: Arc::new(WaitingRoom::new(Arc::clone(&entropy))),
        entropy,
        hashing: Arc::new(hashing),
        breached_passwords: Arc::new(breached),
        clock_guard: Arc::clone(&parts.clock_guard),
        feed: Arc::new(Feed::new(parts)),
        drain: Arc::new(drain),
    })
}

/// Creates the first key of each chain in `policies` that has none. If several replicas try, one of them does
/// it.
async fn start_missing_chains(
    store: &SqlStore,
    table: &KeyTable,
    policies: Vec<(Chain, RotationPolicy)>,
    master: &Arc<MasterKeys>,
    entropy: &Arc<dyn Entropy>,
) -> Result<(), StartError> {
    let is_missing = |chain| table.rows.iter().all(|row| row.chain != chain);
    for (chain, policy) in policies.into_iter().filter(|(chain, _)| is_missing(*chain)) {
        let candidate = make_key(chain, Arc::clone(master), Arc::clone(entropy)).await?;
        continue_chain(store, chain, candidate, policy).await?;
    }
    Ok(())
}
