//! The settings of this replica: a snapshot of what operators stored, under its own file and environment.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::{ConfigError, Layers, Settings};
use crate::runtime::app::App;
use crate::store::{SettingsTable, SqlStore, StoreError, with_patience};

/// What cannot be read now is asked for again so soon.
const AGAIN_AFTER_FAILURE: Duration = Duration::from_secs(2);

/// What applies now, and how it came about.
#[derive(Debug)]
pub struct LiveSettings {
    layers: Layers,
    applied: ArcSwap<Applied>,
    reading: Mutex<()>,
    /// The version that was heard of last.
    heard: watch::Sender<i64>,
}

/// A version of the stored settings, and what became of it here.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The version that was read last.
    pub version: i64,
    /// What applies: this version, or the last one that could be used.
    pub settings: Arc<Settings>,
    /// Why it is not this version.
    pub refused: Option<ConfigError>,
}

impl LiveSettings {
    /// What a replica starts with. Stored settings that do not fit, because a newer release or a replica with another file wrote them,
    /// must not keep it from starting: it uses as many of them as it can.
    pub fn new(layers: Layers, table: &SettingsTable) -> Self {
        let stored = table.values();
        let (settings, refused) = match layers.over(&stored) {
            Ok(settings) => (settings, None),
            Err(refused) => {
                warn!(%refused, "some stored settings cannot be used here; the service starts without them");
                (layers.usable(&stored), Some(refused))
            }
        };
        let applied = Applied { version: table.version, settings: Arc::new(settings), refused };
        Self {
            layers,
            applied: ArcSwap::from_pointee(applied),
            reading: Mutex::new(()),
            heard: watch::Sender::new(table.version),
        }
    }

    /// The values of this moment. A flow takes them once.
    pub fn now(&self) -> Arc<Settings> {
        Arc::clone(&self.applied.load().settings)
    }

    /// The values of this moment, their version, and what is wrong with it.
    pub fn applied(&self) -> Arc<Applied> {
        self.applied.load_full()
    }

    /// What stands over the stored values and under them.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Tells [`follow`] which version is stored, and does not wait for it.
    pub fn hear(&self, version: i64) {
        self.heard.send_replace(version);
    }

    /// Takes over the stored settings if their version is another one than was read last. While they cannot be read or used, the last
    /// ones go on.
    pub async fn catch_up(&self, store: &SqlStore, version: i64) -> Result<(), StoreError> {
        if self.applied.load().version == version {
            return Ok(());
        }
        let _turn = store.wait_for(self.reading.lock()).await?;
        // Read while we waited, by someone who saw the same change.
        if self.applied.load().version != version {
            self.take(&store.settings().await?);
        }
        Ok(())
    }

    fn take(&self, table: &SettingsTable) {
        let version = table.version;
        let (settings, refused) = match self.layers.over(&table.values()) {
            Ok(settings) => {
                info!(version, "the settings have changed");
                (Arc::new(settings), None)
            }
            Err(refused) => {
                warn!(version, %refused, "the stored settings cannot be used here; the last ones go on");
                (self.now(), Some(refused))
            }
        };
        self.applied.store(Arc::new(Applied { version, settings, refused }));
    }
}

/// Takes over the stored settings whenever another version is heard of, until the task is aborted. What is heard comes with each read
/// of revocations; those must not wait for a table of settings that is locked, or that this replica may not read.
pub async fn follow(app: &App) {
    let mut heard = app.settings.heard.subscribe();
    let mut was_wrong = false;
    // Each time, not only when it is another version: the last one may not have been taken over.
    while heard.changed().await.is_ok() {
        let version = *heard.borrow_and_update();
        let outcome = with_patience(app.settings.catch_up(&app.store, version)).await;
        match &outcome {
            Err(error) if !was_wrong => {
                warn!(%error, "changed settings cannot be read; the last ones go on");
            }
            Ok(()) if was_wrong => info!("settings are read again"),
            _ => {}
        }
        was_wrong = outcome.is_err();
        if was_wrong {
            sleep(AGAIN_AFTER_FAILURE).await;
        }
    }
}
