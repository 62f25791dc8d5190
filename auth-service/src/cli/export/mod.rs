//! `auth-service key export`: writes the published keys to files, for programs that read keys only from
//! files.
//!
//! `--watch` and `--exec` are part of the command because a proxy needs both promptly: a new key before it
//! signs, and a compromised key gone. A cron job runs once a minute at most, and a loop in a shell would open
//! the database at each poll, and would have to find out itself whether a reload is due or has failed.

mod command;
mod folder;

use std::path::PathBuf;
use std::time::Duration;

use auth_service::boot::database::Access;
use auth_service::keys::keyring;
use auth_service::store::SqlStore;
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::Value;
use verifier::JwkSet;

use super::installation::Context;
use super::output::error as report;
use super::{Failure, jwks};
use folder::Folder;

/// Time limit for the command: enough for a proxy to load new keys, and a command that hangs must not block
/// the next change.
const EXEC_LIMIT: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Format of the files.
    #[arg(long, value_enum)]
    format: Format,
    /// Folder that gets one file `<kid>.pem` per published key; created if it is missing. Other files in it
    /// are left alone.
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
    /// Read the keys from here instead of the database: a file, or the URL of `/.well-known/jwks.json`
    /// (https, or http to this machine). Needs neither database nor configuration.
    #[arg(long, value_name = "FILE|URL")]
    jwks: Option<String>,
    /// Keep the folder up to date until stopped.
    #[arg(long)]
    watch: bool,
    /// Polling interval in seconds.
    #[arg(long, requires = "watch", value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    /// Command for `sh -c`, run at the start and after each change. If it fails, it runs again after the next
    /// poll. After 30 s it is killed, which counts as a failure.
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// `SubjectPublicKeyInfo`, as OpenSSL and HAProxy read it.
    Pem,
}

/// The source of the keys.
enum KeySource {
    Database(SqlStore),
    Jwks(String),
}

impl Export {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let source = match self.jwks {
            Some(place) => KeySource::Jwks(place),
            None => KeySource::Database(context.open(Access::Read).await?.store),
        };
        let mut mirror = Mirror {
            source,
            folder: Folder::open(self.dir, context.output)?,
            exec: self.exec,
            is_exec_due: true,
            newest_version: None,
        };
        if !self.watch {
            return mirror.refresh().await;
        }
        let mut last_error = None;
        loop {
            let error = mirror.refresh().await.err().map(|failure| failure.to_string());
            // Print an error once, not at every poll.
            if let Some(error) = error.as_deref().filter(|_| error != last_error) {
                report(error);
            }
            last_error = error;
            tokio::time::sleep(Duration::from_secs(self.every)).await;
        }
    }
}

/// Keeps a folder equal to a key set.
struct Mirror {
    source: KeySource,
    folder: Folder,
    exec: Option<String>,
    /// Whether the command must run: at the start, and until it has succeeded after a change.
    is_exec_due: bool,
    /// The highest version of the key set so far. A cache or another replica may still return an older one.
    newest_version: Option<u64>,
}

impl Mirror {
    /// Updates the folder once, and runs the command if it is due. If the key set cannot be read, the files
    /// stay.
    async fn refresh(&mut self) -> Result<(), Failure> {
        let set = self.source.read().await?;
        if set.keys_version < self.newest_version {
            return Ok(());
        }
        self.newest_version = set.keys_version;
        let files = folder::files(&set);
        if files.is_empty() {
            return Err("the key set has no usable key; the files were not changed".into());
        }
        self.folder.update(&files)?;
        if let Some(command) = self.exec.as_deref().filter(|_| self.is_exec_due || self.folder.has_changed) {
            command::run(command, EXEC_LIMIT).await?;
        }
        self.is_exec_due = false;
        self.folder.has_changed = false;
        Ok(())
    }
}

impl KeySource {
    async fn read(&self) -> Result<JwkSet, Failure> {
        match self {
            Self::Database(store) => {
                let table = store.key_table().await?;
                Ok(keyring::jwks(&table.rows, table.seen.keys_version, table.seen.now))
            }
            Self::Jwks(place) => Ok(parse(&jwks::read(place).await?)?),
        }
    }
}

/// Parses a key set. Leaves out keys that this release does not understand.
fn parse(document: &[u8]) -> serde_json::Result<JwkSet> {
    #[derive(Deserialize)]
    struct Document {
        keys: Vec<Value>,
        keys_version: Option<u64>,
        /// The name of `keys_version` in the previous release.
        auth_ring: Option<u64>,
    }
    let Document { keys, keys_version, auth_ring } = serde_json::from_slice(document)?;
    Ok(JwkSet {
        keys: keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect(),
        keys_version: keys_version.or(auth_ring),
    })
}

#[cfg(test)]
mod tests {
    use verifier::Jwk;

    use super::*;

    #[test]
    fn key_whose_kid_is_not_its_thumbprint_gets_no_file() {
        let key = Jwk::ed25519(&[1; 32]);
        let good = serde_json::to_value(&key).unwrap();
        let mut bad = good.clone();
        bad["kid"] = "../../etc/passwd".into();
        let later = serde_json::json!({"kty": "later", "kid": "k"});
        let document = serde_json::json!({"keys": [bad, good, later], "keys_version": 7}).to_string();
        let set = parse(document.as_bytes()).unwrap();
        assert_eq!(set.keys_version, Some(7));
        assert_eq!(folder::files(&set).into_keys().collect::<Vec<_>>(), [format!("{}.pem", key.kid())]);
    }
}
