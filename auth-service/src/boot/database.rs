//! Opens the configured database.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use verifier::Clock;

use super::error::StartError;
use super::files::create_private_file;
use crate::config::{Config, Database};
use crate::domain::random_name;
use crate::entropy::Entropy;
use crate::store::SqlStore;

/// What a command may do with the data of an installation that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read; a SQLite file is opened read-only.
    Read,
    /// Read and change.
    Change,
}

/// Opens the database and migrates its schema. Returns the names of the applied migrations, too. Creates a
/// SQLite file and its folder if they are missing.
pub async fn create(
    config: &Config,
    clock: Arc<dyn Clock>,
    entropy: &dyn Entropy,
) -> Result<(SqlStore, Vec<&'static str>), StartError> {
    let replica = random_name("replica", entropy)?;
    let keep_for = config.keep_revocations_for();
    let store = match config.database() {
        Database::Sqlite { path } => {
            create_private_file(&path).map_err(|cause| StartError::File { path: path.clone(), cause })?;
            SqlStore::open_sqlite(&path, clock, &replica, keep_for).await?
        }
        Database::Postgres => connect(config, clock, &replica).await?,
    };
    let applied = store.migrate().await?;
    Ok((store, applied))
}

/// Opens a database that exists. Creates and migrates nothing: fails unless this release can use the schema as it is.
pub async fn open(
    config: &Config,
    access: Access,
    clock: Arc<dyn Clock>,
    entropy: &dyn Entropy,
) -> Result<SqlStore, StartError> {
    let replica = random_name("command", entropy)?;
    let keep_for = config.keep_revocations_for();
    let store = match config.database() {
        Database::Sqlite { path } => {
            match fs::metadata(&path) {
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                    return Err(StartError::NoDatabase(absolute(&path)));
                }
                metadata => metadata.map_err(|cause| StartError::File { path: path.clone(), cause })?,
            };
            match access {
                Access::Read => SqlStore::open_sqlite_to_read(&path, clock, &replica, keep_for).await?,
                Access::Change => SqlStore::open_sqlite(&path, clock, &replica, keep_for).await?,
            }
        }
        Database::Postgres => connect(config, clock, &replica).await?,
    };
    store.check_schema().await?;
    Ok(store)
}

/// The URL of the configured database: with the absolute path of a SQLite file, or without the password of PostgreSQL.
pub fn place(config: &Config) -> String {
    match config.database() {
        Database::Sqlite { path } => format!("sqlite://{}", absolute(&path)),
        Database::Postgres => config.database_url_without_password(),
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

async fn connect(config: &Config, clock: Arc<dyn Clock>, replica: &str) -> Result<SqlStore, StartError> {
    let url = config.database_url.expose_secret();
    Ok(SqlStore::connect_postgres(url, clock, replica, config.keep_revocations_for()).await?)
}
