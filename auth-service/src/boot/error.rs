//! Errors that prevent a replica from starting.

use std::io;
use std::path::PathBuf;

use crate::domain::breached::BrokenFilter;
use crate::domain::strength::WeakPassword;
use crate::entropy::EntropyError;
use crate::flows::rotate_keys::RotateError;
use crate::keys::keyring::RingError;
use crate::keys::sealing::MasterKeyError;
use crate::runtime::hashing::HashError;
use crate::store::StoreError;

/// An error that prevents a replica from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No master key is configured.
    #[error(
        "no master key: set AUTH_MASTER_KEY_FILE to a file with 32 random bytes in base64 (`head -c 32 /dev/urandom | base64 > master.key`), the same on every replica"
    )]
    NoMasterKey,
    /// The configured master key file does not exist. It is never created, because the new key could not open
    /// the existing keys.
    #[error("the master key file {} does not exist", .0.display())]
    MissingMasterKey(PathBuf),
    /// The master keys cannot be read.
    #[error("the master key list cannot be used: {0}")]
    MasterKey(#[from] MasterKeyError),
    /// The filter of breached passwords cannot be used.
    #[error("breached_passwords_file: {} {problem}", path.display())]
    BreachedPasswords {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: BrokenFilter,
    },
    /// The configured first password of the first administrator does not meet the rules.
    #[error(
        "bootstrap_admin_password: the password {0}. Set a better one, or remove it: a random one is then created and shown"
    )]
    WeakFirstPassword(WeakPassword),
    /// There is no database where a command that creates none was told to look.
    #[error(
        "no database at {0}; start the service there first, or name another database with --config or AUTH_DATABASE_URL"
    )]
    NoDatabase(String),
    /// A file or folder cannot be used.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The error.
        cause: io::Error,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys cannot be used.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The first keys could not be created.
    #[error(transparent)]
    Keys(#[from] RotateError),
    /// The threads that hash passwords cannot be started.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
    /// The first password could not be hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The random source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}
