//! The folder of PEM files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use verifier::{Jwk, JwkSet};

use crate::cli::Failure;
use crate::cli::output::Output;

/// The content of each file, by name.
pub(super) type Files = BTreeMap<String, String>;

/// A folder that holds one file `<kid>.pem` for each published key. Other files in it are left alone.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    output: Output,
    /// Whether a file was written or removed since this was last reset.
    pub(super) has_changed: bool,
}

impl Folder {
    /// Creates the folder if it is missing.
    pub(super) fn open(path: PathBuf, output: Output) -> Result<Self, Failure> {
        fs::create_dir_all(&path).map_err(|cause| failed(&path, &cause))?;
        Ok(Self { path, output, has_changed: false })
    }

    /// Writes the files that are missing or different, then removes those of other keys. Sets `has_changed`
    /// with the first one, so that a change counts even if a later one fails.
    pub(super) fn update(&mut self, files: &Files) -> Result<(), Failure> {
        for (name, content) in files {
            let path = self.path.join(name);
            if fs::read(&path).is_ok_and(|current| current == content.as_bytes()) {
                continue;
            }
            replace(&path, content).map_err(|cause| failed(&path, &cause))?;
            self.has_changed = true;
            self.output.result(&json!({ "wrote": name }), &format!("wrote {name}"))?;
        }
        let entries = fs::read_dir(&self.path).map_err(|cause| failed(&self.path, &cause))?;
        for entry in entries.collect::<Result<Vec<_>, _>>().map_err(|cause| failed(&self.path, &cause))? {
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_key_file(&name) && !files.contains_key(&name) {
                fs::remove_file(entry.path()).map_err(|cause| failed(&entry.path(), &cause))?;
                self.has_changed = true;
                self.output.result(&json!({ "removed": name }), &format!("removed {name}"))?;
            }
        }
        Ok(())
    }
}

/// The files of a key set. Leaves out keys whose `kid` is not their thumbprint: a thumbprint is safe as a
/// file name.
pub(super) fn files(set: &JwkSet) -> Files {
    let keys = set.keys.iter().filter(|key| *key.kid() == key.thumbprint());
    keys.map(|key| (format!("{}.pem", key.kid()), pem(key))).collect()
}

/// The key as `SubjectPublicKeyInfo` in PEM (RFC 7468 §13).
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

/// Replaces a file atomically: readers see the old content or the new one, even after the machine has
/// crashed.
fn replace(path: &Path, content: &str) -> io::Result<()> {
    let new = path.with_extension("pem.new");
    let mut file = File::create(&new)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}

/// Whether a name is a thumbprint (43 characters of base64url) and `.pem`.
fn is_key_file(name: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.strip_suffix(".pem").is_some_and(|kid| kid.len() == 43 && kid.bytes().all(is_base64url))
}

fn failed(path: &Path, cause: &io::Error) -> String {
    format!("{}: {cause}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Output = Output { json: false, quiet: true };

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

    /// Updates a folder. Returns whether anything was written or removed.
    fn changes(folder: &Path, files: &Files) -> bool {
        let mut folder = Folder::open(folder.to_owned(), QUIET).unwrap();
        folder.update(files).unwrap();
        folder.has_changed
    }

    #[test]
    fn change_before_an_error_counts() {
        let path = tempfile::tempdir().unwrap();
        let files = files(&set(&[1, 2]));
        let (last, content) = files.last_key_value().unwrap();
        // A file cannot replace a folder.
        fs::create_dir(path.path().join(last)).unwrap();
        let mut folder = Folder::open(path.path().to_owned(), QUIET).unwrap();
        assert!(folder.update(&files).is_err());
        assert!(folder.has_changed);
        fs::remove_dir(path.path().join(last)).unwrap();
        fs::write(path.path().join(last), content).unwrap();
        assert!(!changes(path.path(), &files), "the next update finds nothing to do");
    }

    #[test]
    fn folder_follows_the_key_set_and_other_files_stay() {
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
}
