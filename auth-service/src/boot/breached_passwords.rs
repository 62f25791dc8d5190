//! Reads the list of breached passwords.

use std::fs;
use std::path::PathBuf;

use super::error::StartError;
use crate::config::Config;
use crate::domain::breached::{BreachedPasswords, BrokenFilter};

/// The configured list, or the bundled one.
pub fn read(config: &Config) -> Result<BreachedPasswords, StartError> {
    let broken = |path: PathBuf| move |problem: BrokenFilter| StartError::BreachedPasswords { path, problem };
    let Some(path) = config.breached_passwords_file.clone() else {
        return BreachedPasswords::bundled().map_err(broken("the bundled list".into()));
    };
    match fs::read(&path) {
        Ok(bytes) => BreachedPasswords::from_file(bytes).map_err(broken(path)),
        Err(cause) => Err(StartError::File { path, cause }),
    }
}
