//! Reads the master keys, or creates the first one.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::error::StartError;
use super::files::write_secret;
use crate::config::Config;
use crate::entropy::Entropy;
use crate::keys::sealing::MasterKeys;

/// The result of looking for master keys.
pub(super) enum MasterKeySource {
    /// Configured, or read from the default file.
    Found(MasterKeys),
    /// The default file beside a SQLite database does not exist yet.
    Missing(PathBuf),
}

/// Reads the configured master keys, or those of the default file.
pub(super) fn find(config: &Config) -> Result<MasterKeySource, StartError> {
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

/// Reads the master keys, which must exist.
pub(super) fn existing(config: &Config) -> Result<Arc<MasterKeys>, StartError> {
    match find(config)? {
        MasterKeySource::Found(keys) => Ok(Arc::new(keys)),
        MasterKeySource::Missing(path) => Err(StartError::MissingMasterKey(path)),
    }
}

/// Creates a master key and writes it to the default file.
pub(super) fn create(path: PathBuf, entropy: &dyn Entropy) -> Result<MasterKeys, StartError> {
    let text = MasterKeys::generate(entropy)?;
    write_secret(&path, text.as_bytes()).map_err(|cause| StartError::File { path, cause })?;
    Ok(MasterKeys::parse(&text)?)
}
