//! `auth-service keys export`: the published keys as files, for programs that read keys only from there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use auth_service::boot;
use auth_service::config::Config;
use auth_service::entropy::SystemEntropy;
use auth_service::keys::keyring;
use auth_service::store::SqlStore;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::Value;
use verifier::{Jwk, JwkSet, SystemClock};

use super::{Failure, jwks, load, print};

/// Long enough for a proxy to take new keys over; a command that hangs must not keep the next change from it.
const EXEC_LIMIT: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// The form of the files.
    #[arg(long, value_enum)]
    format: Format,
    /// The folder that holds one file `<kid>.pem` for each published key; made if it is missing. Other files in it are left alone.
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
    /// Take the keys from here instead of the database: a file, or the URL of `/.well-known/jwks.json` (https, or http to this
    /// machine). Neither database nor configuration is needed then.
    #[arg(long, value_name = "FILE|URL")]
    jwks: Option<String>,
    /// Keep the folder current until stopped.
    #[arg(long)]
    watch: bool,
    /// Seconds between two looks.
    #[arg(long, requires = "watch", value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    /// A command for `sh -c`: run at the start and after each change; while it fails, again after each look. After 30 s it is killed,
    /// which counts as a failure.
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// `SubjectPublicKeyInfo`, as OpenSSL and HAProxy read it.
    Pem,
}

/// Where the keys come from.
enum Source {
    Database(SqlStore),
    Jwks(String),
}

impl Export {
    /// Runs the command. `config` is a configuration file, for the database.
    pub(crate) async fn run(self, config: Option<&Path>) -> Result<(), Failure> {
        let source = if let Some(place) = &self.jwks {
            Source::Jwks(place.clone())
        } else {
            let config = load(Config::load(config))?.config;
            let clock = Arc::new(SystemClock::new());
            Source::Database(boot::database::open_to_read(&config, clock, &SystemEntropy::new()).await?)
        };
        fs::create_dir_all(&self.dir).map_err(|cause| format!("{}: {cause}", self.dir.display()))?;
        let mut mirror = Mirror { export: &self, source, newest: None, must_exec: self.exec.is_some() };
        if !self.watch {
            return mirror.refresh().await;
        }
        let mut told = None;
        loop {
            let trouble = mirror.refresh().await.err().map(|failure| failure.to_string());
            // Once, and not every two seconds until someone repairs it.
            if trouble.is_some() && trouble != told {
                eprintln!("error: {}", trouble.as_deref().unwrap_or_default());
            }
            told = trouble;
            tokio::time::sleep(Duration::from_secs(self.every)).await;
        }
    }
}

struct Mirror<'a> {
    export: &'a Export,
    source: Source,
    /// The highest `keys_version` so far: some cache or replica may still have an older set.
    newest: Option<u64>,
    must_exec: bool,
}

impl Mirror<'_> {
    /// Makes the folder what the key set says now. A key set that cannot be read leaves the files as they are.
    async fn refresh(&mut self) -> Result<(), Failure> {
        let set = self.source.read().await?;
        if set.keys_version < self.newest {
            return Ok(());
        }
        self.newest = set.keys_version;
        let wanted = files(&set);
        if wanted.is_empty() {
            return Err("the key set has no key that can be used; the files stay as they are".into());
        }
        let mut changed = false;
        let outcome = write(&self.export.dir, &wanted, &mut changed);
        // Also when it went wrong half-way: the next look finds the files that were changed as they should be.
        self.must_exec |= changed;
        outcome?;
        if let Some(command) = self.export.exec.as_deref().filter(|_| self.must_exec) {
            exec(command, EXEC_LIMIT).await?;
        }
        self.must_exec = false;
        Ok(())
    }
}

impl Source {
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

/// A key set, without the keys that this release does not understand.
fn parse(document: &[u8]) -> serde_json::Result<JwkSet> {
    #[derive(Deserialize)]
    struct Document {
        keys: Vec<Value>,
        keys_version: Option<u64>,
        /// Its name in the release before.
        auth_ring: Option<u64>,
    }
    let Document { keys, keys_version, auth_ring } = serde_json::from_slice(document)?;
    Ok(JwkSet {
        keys: keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect(),
        keys_version: keys_version.or(auth_ring),
    })
}

/// The wanted files, by name. Only keys that are named by their thumbprint, as ours are: such a name is a file name.
fn files(set: &JwkSet) -> BTreeMap<String, String> {
    let keys = set.keys.iter().filter(|key| *key.kid() == key.thumbprint());
    keys.map(|key| (format!("{}.pem", key.kid()), pem(key))).collect()
}

/// RFC 7468 §13.
fn pem(key: &Jwk) -> String {
    let text = STANDARD.encode(key.to_spki());
    let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.extend([line, "\n"]);
        rest = after;
    }
    pem + "-----END PUBLIC KEY-----\n"
}

/// Runs a command, for so long at most.
async fn exec(command: &str, limit: Duration) -> Result<(), Failure> {
    let mut shell = Command::new("sh");
    // A group of its own: what the shell started is killed with it.
    let mut child = shell.arg("-c").arg(command).process_group(0).spawn()?;
    let group = Pid::from_child(&child);
    let mut ending = tokio::task::spawn_blocking(move || child.wait());
    let Ok(ended) = tokio::time::timeout(limit, &mut ending).await else {
        // It may have ended just now.
        let _ = kill_process_group(group, Signal::KILL);
        ending.await??;
        return Err(
            format!("the command of --exec did not end within {} s and was killed", limit.as_secs()).into()
        );
    };
    let status = ended??;
    if status.success() { Ok(()) } else { Err(format!("the command of --exec failed: {status}").into()) }
}

/// Adds and replaces what is wanted, then removes what no longer is. Sets `changed` with the first file.
fn write(folder: &Path, wanted: &BTreeMap<String, String>, changed: &mut bool) -> Result<(), Failure> {
    let failed = |path: &Path, cause: io::Error| format!("{}: {cause}", path.display());
    for (name, content) in wanted {
        let path = folder.join(name);
        if fs::read(&path).is_ok_and(|there| there == content.as_bytes()) {
            continue;
        }
        replace(&path, content).map_err(|cause| failed(&path, cause))?;
        *changed = true;
        print(&format!("wrote {name}"))?;
    }
    let entries = fs::read_dir(folder).map_err(|cause| failed(folder, cause))?;
    for entry in entries.collect::<Result<Vec<_>, _>>().map_err(|cause| failed(folder, cause))? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_ours(&name) && !wanted.contains_key(&name) {
            fs::remove_file(entry.path()).map_err(|cause| failed(&entry.path(), cause))?;
            *changed = true;
            print(&format!("removed {name}"))?;
        }
    }
    Ok(())
}

/// A reader finds the old file or the new one, and after a crash of the machine too.
fn replace(path: &Path, content: &str) -> io::Result<()> {
    let new = path.with_extension("pem.new");
    let mut file = File::create(&new)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}

/// A thumbprint (43 characters of base64url) and `.pem`.
fn is_ours(name: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.strip_suffix(".pem").is_some_and(|kid| kid.len() == 43 && kid.bytes().all(is_base64url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(bytes: &[u8]) -> JwkSet {
        JwkSet { keys: bytes.iter().map(|byte| Jwk::ed25519(&[*byte; 32])).collect(), keys_version: None }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    /// Whether anything was written or removed.
    fn changes(folder: &Path, wanted: &BTreeMap<String, String>) -> bool {
        let mut changed = false;
        write(folder, wanted, &mut changed).unwrap();
        changed
    }

    #[test]
    fn what_changed_before_an_error_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = files(&set(&[1, 2]));
        let (last, content) = wanted.last_key_value().unwrap();
        // Something that cannot be replaced by a file.
        fs::create_dir(folder.path().join(last)).unwrap();
        let mut changed = false;
        assert!(write(folder.path(), &wanted, &mut changed).is_err());
        assert!(changed);
        fs::remove_dir(folder.path().join(last)).unwrap();
        fs::write(folder.path().join(last), content).unwrap();
        assert!(!changes(folder.path(), &wanted), "the look after it finds nothing to do");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_all_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let late = folder.path().join("late");
        let command = format!("(sleep 2; : > '{}') & wait", late.display());
        let failure = exec(&command, Duration::from_millis(200)).await.unwrap_err().to_string();
        assert!(failure.ends_with("and was killed"), "{failure}");
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!late.exists());
        assert!(exec("true", EXEC_LIMIT).await.is_ok());
        assert!(exec("exit 3", EXEC_LIMIT).await.is_err());
    }

    #[test]
    fn the_folder_follows_the_key_set_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let others =
            ["ca.pem", "README", &format!("{}.pem", "x".repeat(42)), &format!("{}.pem", "?".repeat(43))];
        for other in others {
            fs::write(folder.path().join(other), "mine").unwrap();
        }
        let (first, second) = (files(&set(&[1, 2])), files(&set(&[2, 3])));
        for (wanted, is_new) in [(&first, true), (&first, false), (&second, true), (&second, false)] {
            assert_eq!(changes(folder.path(), wanted), is_new);
            let mut expected: Vec<String> = wanted.keys().cloned().chain(others.map(str::to_owned)).collect();
            expected.sort_unstable();
            assert_eq!(names(folder.path()), expected);
        }
        let (name, content) = second.first_key_value().unwrap();
        fs::write(folder.path().join(name), "altered").unwrap();
        assert!(changes(folder.path(), &second));
        assert_eq!(&fs::read_to_string(folder.path().join(name)).unwrap(), content);
        assert_eq!(fs::read_to_string(folder.path().join("ca.pem")).unwrap(), "mine");
    }

    #[test]
    fn a_key_that_is_not_named_by_its_thumbprint_becomes_no_file() {
        let key = Jwk::ed25519(&[1; 32]);
        let good = serde_json::to_value(&key).unwrap();
        let mut bad = good.clone();
        bad["kid"] = "../../etc/passwd".into();
        let later = serde_json::json!({"kty": "later", "kid": "k"});
        let document = serde_json::json!({"keys": [bad, good, later], "keys_version": 7}).to_string();
        let set = parse(document.as_bytes()).unwrap();
        assert_eq!(set.keys_version, Some(7));
        assert_eq!(files(&set).into_keys().collect::<Vec<_>>(), [format!("{}.pem", key.kid())]);
    }
}
