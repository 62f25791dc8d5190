//! The settings of this replica: stored values, overridden by file and environment.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};
use tracing::{info, warn};

use crate::config::{ConfigError, Layers, Settings};
use crate::store::{SettingsTable, SqlStore, StoreError};

/// The settings that apply now, and what they are combined from.
#[derive(Debug)]
pub struct LiveSettings {
    layers: Layers,
    applied: ArcSwap<Applied>,
    reading: Mutex<()>,
    /// The last version that was reported as stored.
    reported: watch::Sender<i64>,
}

/// A version of the stored settings, and whether it applies here.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The last version that was read.
    pub version: i64,
    /// The settings that apply: those of this version or of the last valid one; if none was valid, those of
    /// file and defaults alone.
    pub settings: Arc<Settings>,
    /// The problems of this version, if it is not valid here.
    pub refused: Option<ConfigError>,
}

impl LiveSettings {
    /// The settings with which a replica starts. Stored settings may be invalid here, because a newer release
    /// or a replica with another file stored them. Then the replica starts with file and defaults alone, and
    /// logs a warning.
    pub fn new(layers: Layers, table: &SettingsTable) -> Self {
        let (settings, refused) = match layers.over(&table.values()) {
            Ok(settings) => (settings, None),
            Err(refused) => {
                warn!(%refused, "the stored settings are not valid here; this replica uses file and defaults alone");
                (layers.local().clone(), Some(refused))
            }
        };
        let applied = Applied { version: table.version, settings: Arc::new(settings), refused };
        Self {
            layers,
            applied: ArcSwap::from_pointee(applied),
            reading: Mutex::new(()),
            reported: watch::Sender::new(table.version),
        }
    }

    /// The values that apply now. A flow takes them once and uses them to its end.
    pub fn now(&self) -> Arc<Settings> {
        Arc::clone(&self.applied.load().settings)
    }

    /// The values that apply now, the version that was read last, and its problems.
    pub fn applied(&self) -> Arc<Applied> {
        self.applied.load_full()
    }

    /// The values that override stored ones, and the defaults below them.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Reports that `version` is stored. Does not wait until it is read.
    pub fn report(&self, version: i64) {
        self.reported.send_replace(version);
    }

    /// The versions reported by [`report`](Self::report).
    pub fn reports(&self) -> watch::Receiver<i64> {
        self.reported.subscribe()
    }

    /// Reads and applies the stored settings if `version` is not the one that was read last. If they cannot
    /// be read or are not valid, the last valid ones stay in use.
    pub async fn catch_up(&self, store: &SqlStore, version: i64) -> Result<(), StoreError> {
        if self.applied.load().version == version {
            return Ok(());
        }
        let _guard = store.wait_for(self.reading.lock()).await?;
        // Another task may have read this version while this one waited.
        if self.applied.load().version != version {
            self.apply(&store.settings().await?);
        }
        Ok(())
    }

    fn apply(&self, table: &SettingsTable) {
        let version = table.version;
        let (settings, refused) = match self.layers.over(&table.values()) {
            Ok(settings) => {
                info!(version, "the settings have changed");
                (Arc::new(settings), None)
            }
            Err(refused) => {
                warn!(version, %refused, "the stored settings are not valid here; the last valid settings stay in use");
                (self.now(), Some(refused))
            }
        };
        self.applied.store(Arc::new(Applied { version, settings, refused }));
    }
}

#[cfg(test)]
mod tests {
    use verifier::UnixTime;

    use super::*;
    use crate::config::Loaded;
    use crate::store::SettingRow;

    #[test]
    fn start_with_invalid_stored_settings_uses_file_and_defaults_alone() {
        let row = |name: &str, value: &str| SettingRow {
            name: name.to_owned(),
            value: value.to_owned(),
            changed_at: UnixTime(0),
            changed_by: "operator".to_owned(),
        };
        let mut loaded = Loaded::default();
        loaded.settings.max_sessions_per_user = 7;
        let layers = Layers::new(Arc::new(loaded.config.clone()), loaded);
        let valid = row("refresh_recovery", "false");
        let table = SettingsTable { version: 3, rows: vec![valid.clone()] };
        assert!(!LiveSettings::new(layers.clone(), &table).now().refresh_recovery);

        let table = SettingsTable { version: 4, rows: vec![valid, row("access_token_ttl", "\"2h\"")] };
        let applied = LiveSettings::new(layers, &table).applied();
        assert_eq!(applied.version, 4);
        assert_eq!(applied.refused.as_ref().unwrap().problems, ["access_token_ttl: must be from 1s to 1h"]);
        assert!(applied.settings.refresh_recovery, "no stored value applies");
        assert_eq!((applied.settings.access_token_ttl.0, applied.settings.max_sessions_per_user), (300, 7));
    }
}
