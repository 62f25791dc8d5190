//! Chains of keys go on: by the clock, by an operator, after a compromise. Any replica may do any of it.

use std::sync::Arc;

use verifier::{Algorithm, UnixTime};

use crate::config::{Settings, rotation_policy};
use crate::domain::key::{self, Chain, ChainKey, Change, NewKey, RotationError, RotationPolicy};
use crate::entropy::{Entropy, EntropyError};
use crate::keys::keyring::RingError;
use crate::keys::material::{self, KeyMaterialError};
use crate::keys::sealing::MasterKeys;
use crate::runtime::app::App;
use crate::store::{KeyRow, Resealed, SqlStore, StoreError};

/// Why a key was not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// A successor is already announced.
    #[error("a successor is already announced; another may follow once it signs")]
    Pending(UnixTime),
    /// No chain of this algorithm is kept.
    #[error("the algorithm {0} is not among `signing_algorithms`")]
    AlgorithmNotEnabled(Algorithm),
    /// There is no such key.
    #[error("there is no such key")]
    NotFound,
    /// No key could be made.
    #[error(transparent)]
    Material(#[from] KeyMaterialError),
    /// The thread that makes keys crashed.
    #[error("making a key crashed")]
    Crashed,
    /// The key table cannot be taken over.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// A key that was announced, and the one that retires when it activates.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// The new key.
    pub key: KeyRow,
    /// Its predecessor.
    pub retiring: Option<KeyRow>,
}

/// Announces a successor now, as an operator asks for it.
pub async fn rotate(app: &App, actor: &str, algorithm: Option<Algorithm>) -> Result<Rotated, RotateError> {
    let settings = app.settings();
    let algorithm = algorithm.unwrap_or(settings.signing_algorithm);
    if !settings.signing_algorithms.contains(&algorithm) {
        return Err(RotateError::AlgorithmNotEnabled(algorithm));
    }
    let chain = Chain::Signing(algorithm);
    let policy = rotation_policy(&app.config, &settings, chain);
    // Refused before a key is made: an RSA key costs seconds.
    still_pending(&app.keyring.snapshot().chain_keys(chain), &policy, app.clock.now())?;
    let candidate = candidate(app, chain).await?;
    let kid = candidate.kid.clone();
    let decide = move |keys: &[ChainKey], _: bool, now| key::announce(keys, &policy, now);
    match app.store.change_keys(chain, Some(candidate), actor.to_owned(), decide).await? {
        Ok(_) => {}
        Err(RotationError::Pending { earliest_at }) => return Err(RotateError::Pending(earliest_at)),
    }
    read_back(app).await?;
    let snapshot = app.keyring.snapshot();
    let key = snapshot.find(kid.as_str()).ok_or(RotateError::NotFound)?.row.clone();
    let before = |other: &&crate::keys::keyring::RingKey| {
        other.row.chain == chain && other.row.key.generation == key.key.generation - 1
    };
    let retiring = snapshot.keys().iter().find(before).map(|other| other.row.clone());
    Ok(Rotated { key, retiring })
}

/// Takes a key out of use at once (rule K6). Answers the key and, if one was needed, the key that takes its place.
/// Repeating it changes nothing.
pub async fn compromise(app: &App, actor: &str, kid: &str) -> Result<(KeyRow, Option<KeyRow>), RotateError> {
    read_back(app).await?;
    let snapshot = app.keyring.snapshot();
    let found = snapshot.find(kid).ok_or(RotateError::NotFound)?;
    let (chain, generation) = (found.row.chain, found.row.key.generation);
    if chain == Chain::RefreshMac {
        return Err(RotateError::NotFound);
    }
    let policy = rotation_policy(&app.config, &app.settings(), chain);
    let candidate = candidate(app, chain).await?;
    let new_kid = candidate.kid.clone();
    let decide = move |keys: &[ChainKey], _: bool, now| Ok(key::compromise(keys, generation, &policy, now));
    let changes =
        app.store.change_keys(chain, Some(candidate), actor.to_owned(), decide).await?.unwrap_or_default();
    read_back(app).await?;
    let snapshot = app.keyring.snapshot();
    let key = snapshot.find(kid).ok_or(RotateError::NotFound)?.row.clone();
    let promoted = changes.iter().find_map(|change| match change {
        Change::Reschedule { generation: other, schedule }
            if *other > generation && schedule.end.is_none() =>
        {
            Some(*other)
        }
        _ => None,
    });
    let successor =
        snapshot.keys().iter().map(|key| &key.row).find(|row| {
            row.key.kid == new_kid || (row.chain == chain && Some(row.key.generation) == promoted)
        });
    Ok((key, successor.cloned()))
}

/// Announces every successor that is due, and winds down chains that are no longer configured. Cheap when nothing is due.
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
        read_back(app).await?;
    }
    for algorithm in Algorithm::ALL.into_iter().filter(|one| !kept.contains(one)) {
        wind_down(app, &settings, Chain::Signing(algorithm)).await?;
    }
    Ok(())
}

/// Retires the last key of a chain that is no longer configured, when it would have been due for rotation.
async fn wind_down(app: &App, settings: &Settings, chain: Chain) -> Result<(), RotateError> {
    let policy = rotation_policy(&app.config, settings, chain);
    if key::wind_down(&app.keyring.snapshot().chain_keys(chain), &policy, app.clock.now()).is_empty() {
        return Ok(());
    }
    let decide = move |keys: &[ChainKey], _: bool, now| Ok(key::wind_down(keys, &policy, now));
    // There is no successor to wait for, so this is never "pending".
    let _ = app.store.change_keys(chain, None, "system".to_owned(), decide).await?;
    read_back(app).await
}

/// Starts or continues a chain as far as it is due; of any number of replicas one does it.
pub(crate) async fn continue_chain(
    store: &SqlStore,
    chain: Chain,
    candidate: NewKey,
    policy: RotationPolicy,
) -> Result<(), StoreError> {
    let decide =
        move |keys: &[ChainKey], founding: bool, now| Ok(key::successor_if_due(keys, &policy, founding, now));
    store.change_keys(chain, Some(candidate), "system".to_owned(), decide).await.map(drop)
}

/// Seals every key under the first master key. Answers how many were moved.
pub async fn reseal(app: &App, actor: &str) -> Result<u64, RotateError> {
    let master = app.keyring.master();
    let table = app.store.key_table().await?;
    let mut values = Vec::new();
    for row in &table.rows {
        let Some(from) = row.sealed.clone().filter(|sealed| !master.is_current(sealed)) else { continue };
        let (name, purpose) = (material::row(&row.key.kid), material::purpose(row.chain));
        let secret = master
            .open(&from, &name, purpose)
            .map_err(|cause| RingError::Open { kid: row.key.kid.clone(), cause })?;
        let to = master.seal(&secret, &name, purpose, &*app.entropy)?;
        values.push(Resealed { kid: row.key.kid.clone(), from, to });
    }
    if values.is_empty() {
        return Ok(0);
    }
    Ok(app.store.reseal(values, actor.to_owned()).await?)
}

fn still_pending(keys: &[ChainKey], policy: &RotationPolicy, now: UnixTime) -> Result<(), RotateError> {
    match key::announce(keys, policy, now) {
        Err(RotationError::Pending { earliest_at }) => Err(RotateError::Pending(earliest_at)),
        Ok(_) => Ok(()),
    }
}

async fn candidate(app: &App, chain: Chain) -> Result<NewKey, RotateError> {
    make_key(chain, Arc::clone(app.keyring.master()), Arc::clone(&app.entropy)).await
}

/// Makes a key on a blocking thread.
pub(crate) async fn make_key(
    chain: Chain,
    master: Arc<MasterKeys>,
    entropy: Arc<dyn Entropy>,
) -> Result<NewKey, RotateError> {
    let made = tokio::task::spawn_blocking(move || material::generate(chain, &master, &*entropy)).await;
    Ok(made.map_err(|_| RotateError::Crashed)??)
}

async fn read_back(app: &App) -> Result<(), RotateError> {
    let seen = app.store.confirmation().await?;
    app.keyring.catch_up(&app.store, &seen).await?;
    Ok(())
}
