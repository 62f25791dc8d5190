//! Opens the configured database.

use std::fs;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use verifier::Clock;

use super::error::StartError;
use super::files::create_private_file;
use crate::config::{Config, Database};
use crate::domain::random_name;
use crate::entropy::Entropy;
use crate::store::SqlStore;

/// Opens the database and migrates its schema. Returns the names of the applied migrations, too. Creates a
/// SQLite file and its folder if they are missing.
pub async fn open(
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
        Database::Postgres => {
            let url = config.database_url.expose_secret();
            SqlStore::connect_postgres(url, clock, &replica, keep_for).await?
        }
    };
    let applied = store.migrate().await?;
    Ok((store, applied))
}

/// Opens the database for reading. Creates nothing, and fails unless the schema is that of this release.
pub async fn open_to_read(
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
