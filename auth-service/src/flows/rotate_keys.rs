//! Adds keys to the chains: on schedule, for an operator, after a compromise. Any replica may do it.

use std::sync::Arc;

use verifier::Algorithm;

use crate::config::rotation_policy;
use crate::domain::authority::Actor;
use crate::domain::key::{self, Chain, ChainKey, NewKey, RotationError, RotationPolicy};
use crate::entropy::{Entropy, EntropyError};
use crate::keys::keyring::{KeyRing, RingError};
use crate::keys::material::{self, KeyMaterialError};
use crate::keys::sealing::MasterKeys;
use crate::runtime::app::App;
use crate::store::{KeyRow, Resealed, SqlStore, StoreError};

/// Why a key was not rotated or taken out of use.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// A successor is already announced.
    #[error(transparent)]
    Pending(#[from] RotationError),
    /// The algorithm is not enabled.
    #[error("the algorithm {0} is not among `signing_algorithms`")]
    AlgorithmNotEnabled(Algorithm),
    /// There is no such key.
    #[error("no such key")]
    NotFound,
    /// No key could be made.
    #[error(transparent)]
    Material(#[from] KeyMaterialError),
    /// The thread that generates keys panicked.
    #[error("key generation crashed")]
    Crashed,
    /// The key ring could not load the key table.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// An announced key, and the key that retires when it activates.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// The new key.
    pub key: KeyRow,
    /// Its predecessor.
    pub retiring: Option<KeyRow>,
}

/// Announces a successor now, for an operator.
pub async fn rotate(app: &App, actor: &Actor, algorithm: Option<Algorithm>) -> Result<Rotated, RotateError> {
    let settings = app.settings();
    let algorithm = algorithm.unwrap_or(settings.signing_algorithm);
    if !settings.signing_algorithms.contains(&algorithm) {
        return Err(RotateError::AlgorithmNotEnabled(algorithm));
    }
    let chain = Chain::Signing(algorithm);
    let policy = rotation_policy(&app.config, &settings, chain);
    // Checked before a key is generated: an RSA key takes seconds.
    key::announce(&app.keyring.snapshot().chain_keys(chain), &policy, app.clock.now())?;
    let candidate = candidate(app, chain).await?;
    let decide = move |keys: &[ChainKey], _: bool, now| key::announce(keys, &policy, now);
    let written = app.store.change_keys(chain, Some(candidate), actor, decide).await??;
    catch_up(&app.store, &app.keyring).await?;
    let key = written.successor().ok_or(RotateError::NotFound)?.clone();
    let retiring = written.find(key.key.generation - 1).cloned();
    Ok(Rotated { key, retiring })
}

/// A compromised key, and its successor.
#[derive(Clone, Debug)]
pub struct Compromised {
    /// The key.
    pub key: KeyRow,
    /// Its successor, if this call made or promoted one.
    pub successor: Option<KeyRow>,
}

/// Marks a key as compromised and ends its use immediately (rule K6). Repeating it changes nothing.
pub async fn compromise(app: &App, actor: &Actor, kid: &str) -> Result<Compromised, RotateError> {
    catch_up(&app.store, &app.keyring).await?;
    let row = app.keyring.snapshot().find(kid).ok_or(RotateError::NotFound)?.row.clone();
    let (chain, generation) = (row.chain, row.key.generation);
    if chain == Chain::RefreshMac {
        return Err(RotateError::NotFound);
    }
    let policy = rotation_policy(&app.config, &app.settings(), chain);
    let candidate = candidate(app, chain).await?;
    let decide = move |keys: &[ChainKey], _: bool, now| Ok(key::compromise(keys, generation, &policy, now));
    let written = app.store.change_keys(chain, Some(candidate), actor, decide).await??;
    catch_up(&app.store, &app.keyring).await?;
    let key = written.find(generation).cloned().unwrap_or(row);
    Ok(Compromised { key, successor: written.successor().cloned() })
}

/// Announces every successor that is due, and winds down chains that are no longer configured. Cheap when
/// nothing is due.
pub async fn rotate_if_due(app: &App) -> Result<(), RotateError> {
    let (now, settings) = (app.clock.now(), app.settings());
    let kept = &settings.signing_algorithms;
    for chain in kept.iter().copied().map(Chain::Signing).chain([Chain::RefreshMac]) {
        let policy = rotation_policy(&app.config, &settings, chain);
        if key::successor_if_due(&app.keyring.snapshot().chain_keys(chain), &policy, false, now).is_empty() {
            continue;
        }
        let candidate = candidate(app, chain).await?;
        continue_chain(&app.store, chain, candidate, policy).await?;
        catch_up(&app.store, &app.keyring).await?;
    }
    for chain in Algorithm::ALL.into_iter().filter(|one| !kept.contains(one)).map(Chain::Signing) {
        let policy = rotation_policy(&app.config, &settings, chain);
        if key::wind_down(&app.keyring.snapshot().chain_keys(chain), &policy, now).is_empty() {
            continue;
        }
        let decide = move |keys: &[ChainKey], _: bool, now| Ok(key::wind_down(keys, &policy, now));
        app.store.change_keys(chain, None, &Actor::system(), decide).await??;
        catch_up(&app.store, &app.keyring).await?;
    }
    Ok(())
}

/// Starts a chain or announces its due successor. Only one of several replicas does it.
pub(crate) async fn continue_chain(
    store: &SqlStore,
    chain: Chain,
    candidate: NewKey,
    policy: RotationPolicy,
) -> Result<(), StoreError> {
    let decide =
        move |keys: &[ChainKey], founding: bool, now| Ok(key::successor_if_due(keys, &policy, founding, now));
    store.change_keys(chain, Some(candidate), &Actor::system(), decide).await.map(drop)
}

/// Reseals every key under the first master key. Returns the number of keys that were resealed.
pub async fn reseal(
    store: &SqlStore,
    keyring: &KeyRing,
    entropy: &dyn Entropy,
    actor: &Actor,
) -> Result<u64, RotateError> {
    let master = keyring.master();
    let table = store.key_table().await?;
    let mut values = Vec::new();
    for row in &table.rows {
        let Some(from) = row.sealed.clone().filter(|sealed| !master.is_current(sealed)) else { continue };
        let (name, purpose) = (material::row(&row.key.kid), material::purpose(row.chain));
        let secret = master
            .open(&from, &name, purpose)
            .map_err(|cause| RingError::Open { kid: row.key.kid.clone(), cause })?;
        let to = master.seal(&secret, &name, purpose, entropy)?;
        values.push(Resealed { kid: row.key.kid.clone(), from, to });
    }
    if values.is_empty() {
        return Ok(0);
    }
    Ok(store.reseal(values, actor).await?)
}

async fn candidate(app: &App, chain: Chain) -> Result<NewKey, RotateError> {
    make_key(chain, Arc::clone(app.keyring.master()), Arc::clone(&app.entropy)).await
}

/// Generates a key on a blocking thread.
pub(crate) async fn make_key(
    chain: Chain,
    master: Arc<MasterKeys>,
    entropy: Arc<dyn Entropy>,
) -> Result<NewKey, RotateError> {
    let made = tokio::task::spawn_blocking(move || material::generate(chain, &master, &*entropy)).await;
    Ok(made.map_err(|_| RotateError::Crashed)??)
}

/// Loads the current key table into the key ring.
async fn catch_up(store: &SqlStore, keyring: &KeyRing) -> Result<(), RotateError> {
    let seen = store.confirmation().await?;
    keyring.catch_up(store, &seen).await?;
    Ok(())
}
