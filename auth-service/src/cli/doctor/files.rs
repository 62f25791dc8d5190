//! Checks of files and their modes.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use auth_service::config::{Database, Source};

use super::{Finding, Subject};
use crate::cli::Failure;

/// Whether others can read what must be secret: the master key, the SQLite database with its folder, a configuration file
/// with secrets in it.
pub(super) fn modes(subject: &Subject) -> Result<Vec<Finding>, Failure> {
    let config = &subject.loaded.config;
    let mut secret: Vec<PathBuf> = config.master_key_path().into_iter().collect();
    if let Database::Sqlite { path } = config.database() {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        secret.extend(folder.map(Path::to_owned));
        secret.push(path);
    }
    let in_file = |key| subject.loaded.given.get(key) == Some(&Source::File);
    if ["database_url", "master_key", "bootstrap_admin_password"].into_iter().any(in_file) {
        secret.extend(subject.config_file.clone());
    }
    let (mut findings, mut private) = (Vec::new(), 0);
    for path in &secret {
        match fs::metadata(path) {
            Ok(metadata) if !is_open(&metadata) => private += 1,
            Ok(metadata) => {
                let (mode, wanted) =
                    (metadata.permissions().mode() & 0o777, if metadata.is_dir() { 700 } else { 600 });
                let message = format!("others can use {} (mode {mode:o})", path.display());
                findings.push(Finding::warning(message, format!("chmod {wanted} {}", path.display())));
            }
            // The checks of the database and of the master key report it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", path.display()).into()),
        }
    }
    if findings.is_empty() {
        findings
            .push(Finding::ok(format!("{private} secret files and folders, which only their owner can use")));
    }
    Ok(findings)
}

/// Whether group or others have any right.
fn is_open(metadata: &Metadata) -> bool {
    metadata.permissions().mode().trailing_zeros() < 6
}
