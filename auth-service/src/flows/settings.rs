//! Lists settings and changes them while the service runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{self, ConfigError, NewValue, Source, Stored};
use crate::domain::authority::Actor;
use crate::runtime::settings::LiveSettings;
use crate::store::{SettingRow, SettingsChange, SettingsWrite, SqlStore, StoreError};

/// All settings of this replica.
#[derive(Clone, Debug)]
pub struct AllSettings {
    /// The version of the stored settings.
    pub version: i64,
    /// Why this replica does not use that version; empty if it does.
    pub problems: Vec<String>,
    /// The settings, in the order of the documentation.
    pub settings: Vec<SettingState>,
}

/// One setting. Values are TOML; secrets are hidden.
#[derive(Clone, Debug)]
pub struct SettingState {
    /// Its name.
    pub name: &'static str,
    /// The value that this replica uses.
    pub value: Option<String>,
    /// The default value.
    pub default: Option<String>,
    /// The source of the value.
    pub source: Source,
    /// The stored value, also if file or environment override it.
    pub stored: Option<SettingRow>,
    /// Whether it can be changed while the service runs.
    pub is_live: bool,
}

impl SettingState {
    /// Whether file or environment override the stored value.
    pub fn is_overridden(&self) -> bool {
        self.stored.is_some() && self.source != Source::Database
    }
}

/// Setting names, each once, and their new values; `None` restores the default.
pub type SettingsPatch = Vec<(String, Option<NewValue>)>;

/// Why settings were not changed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The values cannot be used. Nothing was changed.
    #[error("{}", .0.join("; "))]
    Refused(Vec<String>),
    /// The stored settings are newer than the expected version.
    #[error("the settings have changed in the meantime; read them again")]
    Stale,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Lists every setting. Stored values are read from the database, so that changes by other replicas are
/// included.
pub async fn list(live: &LiveSettings, store: &SqlStore) -> Result<AllSettings, StoreError> {
    let table = store.settings().await?;
    live.catch_up(store, table.version).await?;
    let applied = live.applied();
    let layers = live.layers();
    let stored = table.values();
    let defaults: BTreeMap<_, _> = layers.defaults(&applied.settings).into_iter().collect();
    let settings = layers.shown(&applied.settings).into_iter().map(|(name, value)| SettingState {
        name,
        value,
        default: defaults.get(name).cloned().flatten(),
        source: layers.source(name, &stored),
        stored: table.rows.iter().find(|row| row.name == name).cloned(),
        is_live: config::is_live(name),
    });
    Ok(AllSettings {
        version: table.version,
        problems: applied.refused.as_ref().map(|refused| refused.problems.clone()).unwrap_or_default(),
        settings: settings.collect(),
    })
}

/// Stores all of `patch` or nothing. It applies here immediately, and on other replicas within two seconds.
/// `expected` is the version that the operator has read.
///
/// The resulting settings are checked as a whole, as at start, in the transaction that stores them: of two
/// changes that are valid alone but not together, one is refused.
pub async fn change(
    live: &LiveSettings,
    store: &SqlStore,
    actor: &Actor,
    patch: SettingsPatch,
    expected: Option<i64>,
) -> Result<AllSettings, SettingsError> {
    let values = read(patch).map_err(SettingsError::Refused)?;
    let names: BTreeSet<String> = values.keys().cloned().collect();
    let layers = live.layers().clone();
    let check = move |stored: &Stored| layers.check(stored, &names);
    let change = SettingsChange { values, expected, actor: actor.clone() };
    match store.change_settings(change, check).await? {
        SettingsWrite::Done => {}
        SettingsWrite::Stale => return Err(SettingsError::Stale),
        SettingsWrite::Refused(ConfigError { problems }) => return Err(SettingsError::Refused(problems)),
    }
    Ok(list(live, store).await?)
}

/// Returns the values to store, or all problems.
fn read(patch: SettingsPatch) -> Result<BTreeMap<String, Option<String>>, Vec<String>> {
    let (mut values, mut problems) = (BTreeMap::new(), Vec::new());
    for (name, value) in patch {
        match config::to_be_stored(&name, value.as_ref()) {
            Ok((key, value)) => drop(values.insert(key, value)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}
