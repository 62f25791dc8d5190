//! What a replica does before it serves: master key, schema, keys, first administrator.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use verifier::Clock;
use zeroize::Zeroizing;

use crate::config::{Config, Database, Layers, Loaded, rotation_policy};
use crate::domain::key::Chain;
use crate::domain::password::Password;
use crate::domain::user::UserId;
use crate::domain::{random_16, random_name};
use crate::entropy::{Entropy, EntropyError};
use crate::flows::rotate_keys::{RotateError, continue_chain, make_key};
use crate::keys::keyring::{KeyRing, RingError};
use crate::keys::sealing::{MasterKeyError, MasterKeys};
use crate::runtime::app::{App, ClockGuard};
use crate::runtime::drain::Drain;
use crate::runtime::feed::Feed;
use crate::runtime::hashing::{HashError, HashPool};
use crate::runtime::settings::LiveSettings;
use crate::store::{Bootstrap, NewUser, SqlStore, StoreError};

/// The user that the bootstrap creates.
pub const ADMIN_USERNAME: &str = "admin";

/// Why a replica does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No master key is configured.
    #[error(
        "no master key: set AUTH_MASTER_KEY_FILE to a file with 32 random bytes in base64 (`head -c 32 /dev/urandom | base64 > master.key`), the same on every replica"
    )]
    NoMasterKey,
    /// The configured master key file is not there. It is never created in its place: that would be another key.
    #[error("the master key file {} does not exist", .0.display())]
    MissingMasterKey(PathBuf),
    /// The master keys cannot be read.
    #[error("the master key list cannot be used: {0}")]
    MasterKey(#[from] MasterKeyError),
    /// A file or folder cannot be used.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys cannot be used.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The first keys could not be made.
    #[error(transparent)]
    Keys(#[from] RotateError),
    /// The threads that hash passwords cannot be started.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
    /// The first password could not be hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// The first administrator's password, known to the replica that created them.
#[derive(Debug)]
pub enum FirstPassword {
    /// Made up now; nobody else knows it.
    Generated(SecretString),
    /// Taken from the configuration.
    Configured,
}

/// Opens the database and brings its schema up to date; also answers the migrations it applied. Creates a SQLite file and its folder.
pub async fn open_store(
    config: &Config,
    clock: Arc<dyn Clock>,
    entropy: &dyn Entropy,
) -> Result<(SqlStore, Vec<&'static str>), StartError> {
    let replica = random_name("replica", entropy)?;
    let keep_for = config.keep_revocations_for();
    let store = match config.database() {
        Database::Sqlite { path } => {
            create_private_file(&path)?;
            SqlStore::open_sqlite(&path, clock, &replica, keep_for).await?
        }
        Database::Postgres => {
            let url = config.database_url.expose_secret();
            SqlStore::connect_postgres(url, clock, &replica, keep_for).await?
        }
    };
    let applied = store.migrate().await?;
    Ok((store, applied))
}

/// Opens the database for a program that only reads: nothing is created, and the schema is taken as it is or refused.
pub async fn open_store_to_read(
    config: &Config,
    clock: Arc<dyn Clock>,
    entropy: &dyn Entropy,
) -> Result<SqlStore, StartError> {
    let replica = random_name("replica", entropy)?;
    let keep_for = config.keep_revocations_for();
    let store = match config.database() {
        Database::Sqlite { path } => {
            fs::metadata(&path).map_err(|cause| StartError::File { path: path.clone(), cause })?;
            SqlStore::open_sqlite_to_read(&path, clock, &replica, keep_for).await?
        }
        Database::Postgres => {
            let url = config.database_url.expose_secret();
            SqlStore::connect_postgres(url, clock, &replica, keep_for).await?
        }
    };
    store.check_schema().await?;
    Ok(store)
}

/// Builds everything a request may use: opens the database, founds or continues the key chains, takes over the keys.
pub async fn start(
    loaded: Loaded,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<App, StartError> {
    // Before the database: a mistake in the configuration must not leave an empty one behind.
    let config = Arc::new(loaded.config.clone());
    let master = find_master_keys(&config)?;
    let (store, _) = open_store(&config, Arc::clone(&clock), &*entropy).await?;
    let table = store.key_table().await?;
    let master = match master {
        MasterKeySource::Found(keys) => Arc::new(keys),
        MasterKeySource::Missing(path) if table.rows.is_empty() => {
            Arc::new(create_master_key(path, &*entropy)?)
        }
        // Another key would open nothing.
        MasterKeySource::Missing(path) => return Err(StartError::MissingMasterKey(path)),
    };
    // Proves that the existing keys can be opened, before any is added.
    KeyRing::new(&table, Arc::clone(&master), Arc::clone(&clock), config.key_publish_ahead)?;
    let live = LiveSettings::new(Layers::new(Arc::clone(&config), loaded), &store.settings().await?);
    let settings = live.now();
    for chain in settings.signing_algorithms.iter().copied().map(Chain::Signing).chain([Chain::RefreshMac]) {
        if table.rows.iter().any(|row| row.chain == chain) {
            continue;
        }
        let candidate = make_key(chain, Arc::clone(&master), Arc::clone(&entropy)).await?;
        continue_chain(&store, chain, candidate, rotation_policy(&config, &settings, chain)).await?;
    }
    let table = store.key_table().await?;
    let keyring = KeyRing::new(&table, master, Arc::clone(&clock), config.key_publish_ahead)?;
    let (permits, queue) = (config.hash_permits, config.hash_queue);
    let hashing = HashPool::start(config.hash_policy(), permits, queue, Arc::clone(&entropy))
        .map_err(StartError::Threads)?;
    let clock_guard = ClockGuard::default();
    clock_guard.observe(&table.seen, &*clock);
    let feed = Arc::new(Feed::new(keyring.snapshot().changes()));
    Ok(App {
        hashing: Arc::new(hashing),
        config,
        settings: Arc::new(live),
        store,
        keyring: Arc::new(keyring),
        clock,
        entropy,
        clock_guard: Arc::new(clock_guard),
        feed: Arc::clone(&feed),
        drain: Arc::new(Drain::new(feed)),
    })
}

/// Creates the first administrator, if nobody ever did. `Some` for the one replica that did it, after the commit.
pub async fn bootstrap(app: &App) -> Result<Option<FirstPassword>, StartError> {
    if app.store.is_bootstrapped().await? {
        return Ok(None);
    }
    let (password, first) = if let Some(configured) = &app.config.bootstrap_admin_password {
        (configured.clone(), FirstPassword::Configured)
    } else {
        let generated = SecretString::from(generated_password(&*app.entropy)?);
        (generated.clone(), FirstPassword::Generated(generated))
    };
    let hash = app.hashing.hash(Password::new(password.expose_secret().to_owned())).await?;
    let admin = NewUser {
        id: UserId::from_random(random_16(&*app.entropy)?),
        username: ADMIN_USERNAME.to_owned(),
        password_hash: hash,
        roles: Vec::new(),
        claims: serde_json::Map::new(),
    };
    Ok(match app.store.bootstrap(admin).await? {
        Bootstrap::Won => Some(first),
        Bootstrap::AlreadyDone => None,
    })
}

/// 144 random bits, 24 characters.
fn generated_password(entropy: &dyn Entropy) -> Result<String, EntropyError> {
    let mut bytes = [0; 18];
    entropy.fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

enum MasterKeySource {
    Found(MasterKeys),
    /// The default file beside a SQLite database does not exist yet.
    Missing(PathBuf),
}

fn find_master_keys(config: &Config) -> Result<MasterKeySource, StartError> {
    if let Some(keys) = &config.master_key {
        return Ok(MasterKeySource::Found(MasterKeys::parse(keys.expose_secret())?));
    }
    let path = config.master_key_path().ok_or(StartError::NoMasterKey)?;
    match fs::read_to_string(&path) {
        Ok(text) => Ok(MasterKeySource::Found(MasterKeys::parse(Zeroizing::new(text).as_str())?)),
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(StartError::File { path, cause }),
        Err(_) if config.master_key_file.is_some() => Err(StartError::MissingMasterKey(path)),
        Err(_) => Ok(MasterKeySource::Missing(path)),
    }
}

fn create_master_key(path: PathBuf, entropy: &dyn Entropy) -> Result<MasterKeys, StartError> {
    let text = MasterKeys::generate(entropy)?;
    write_secret(&path, text.as_bytes()).map_err(|cause| StartError::File { path, cause })?;
    Ok(MasterKeys::parse(&text)?)
}

/// Writes a new file that only its owner can read, and makes it durable: keys sealed under it are.
pub fn write_secret(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Password hashes and sealed keys are nobody else's business. SQLite gives its other files the mode of this one.
fn create_private_file(path: &Path) -> Result<(), StartError> {
    let failed = |cause| StartError::File { path: path.to_owned(), cause };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(failed)?;
    Ok(())
}
