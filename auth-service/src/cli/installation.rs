//! How commands reach an installation. They create nothing: a missing database is an error that says where it was
//! expected.

use std::path::PathBuf;
use std::sync::Arc;

use auth_service::boot::{self, database, database::Access};
use auth_service::config::{Config, Loaded};
use auth_service::entropy::{Entropy, SystemEntropy};
use auth_service::runtime::app::App;
use auth_service::runtime::settings::LiveSettings;
use auth_service::store::SqlStore;
use verifier::{Clock, SystemClock, UnixTime};

use super::Failure;
use super::output::{self, Output};

/// What every command is given.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) output: Output,
    /// The configuration file, if one is named.
    pub(super) config: Option<PathBuf>,
}

impl Context {
    /// Reads the configuration, and prints its warnings.
    pub(super) fn load(&self) -> Result<Loaded, Failure> {
        let loaded = Config::load(self.config.as_deref())?;
        loaded.warnings.iter().for_each(|warning| output::warn(warning));
        Ok(loaded)
    }

    /// Opens the configured database, which must exist, and says which one it is.
    pub(super) async fn open(&self, access: Access) -> Result<Installation, Failure> {
        let loaded = self.load()?;
        self.name_database(&loaded.config);
        Installation::open(loaded, access).await
    }

    /// Says which database a command uses.
    pub(super) fn name_database(&self, config: &Config) {
        self.output.remark(&format!("database: {}", database::place(config)));
    }
}

/// An installation that exists: its configuration and its database.
pub(super) struct Installation {
    pub(super) loaded: Loaded,
    pub(super) store: SqlStore,
    pub(super) clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Installation {
    pub(super) async fn open(loaded: Loaded, access: Access) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let entropy = Arc::new(SystemEntropy::new());
        let store = database::open(&loaded.config, access, Arc::clone(&clock), &*entropy).await?;
        Ok(Self { loaded, store, clock, entropy })
    }

    /// The settings that apply here.
    pub(super) async fn settings(&self) -> Result<LiveSettings, Failure> {
        Ok(boot::live_settings(&self.loaded, &self.store).await?)
    }

    /// The parts that hash passwords and make keys. Needs the master key.
    pub(super) async fn app(&self) -> Result<App, Failure> {
        let (clock, entropy) = (Arc::clone(&self.clock), Arc::clone(&self.entropy));
        Ok(boot::open(self.loaded.clone(), self.store.clone(), clock, entropy).await?)
    }

    /// The time on the clock that all replicas share.
    pub(super) async fn now(&self) -> Result<UnixTime, Failure> {
        Ok(self.store.confirmation().await?.now)
    }
}
