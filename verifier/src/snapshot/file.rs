//! The format of the file, and how it is read and replaced.
//!
//! Write access to the file decides which keys are trusted. So only the user of the process may have it; a
//! file that other users can write is not read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::feed::saved::SavedRevocations;
use crate::keys::saved::SavedKeys;

/// Enough for about 500,000 revoked sessions.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
const FORMAT: u32 = 1;
/// The number of temporary files of this process so far.
static DRAFTS: AtomicU64 = AtomicU64::new(0);

/// The file of one verifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotFile {
    path: PathBuf,
}

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Snapshot {
    format: u32,
    /// The issuer of the keys; a file of another issuer is refused.
    pub(crate) issuer: String,
    pub(crate) keys: Option<SavedKeys>,
    pub(crate) revocations: SavedRevocations,
}

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(
        "writable by other users (owner {owner}, mode {mode:o}): the user of this process must own it, with mode 600"
    )]
    Exposed { owner: u32, mode: u32 },
    #[error("larger than 16 MiB")]
    TooLarge,
    #[error("not a snapshot of this version: {0}")]
    Malformed(serde_json::Error),
    #[error("format {0}, this version reads format {FORMAT}")]
    Format(u32),
    #[error("snapshot of another issuer: {0:?}")]
    OtherIssuer(String),
}

impl Snapshot {
    pub(crate) fn new(issuer: &str, keys: Option<SavedKeys>, revocations: SavedRevocations) -> Self {
        Self { format: FORMAT, issuer: issuer.to_owned(), keys, revocations }
    }

    fn parse(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let snapshot: Self = serde_json::from_slice(bytes).map_err(SnapshotError::Malformed)?;
        if snapshot.format == FORMAT { Ok(snapshot) } else { Err(SnapshotError::Format(snapshot.format)) }
    }
}

impl SnapshotFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The last saved snapshot; `None` if there is no file.
    pub(crate) fn read(&self, issuer: &str) -> Result<Option<Snapshot>, SnapshotError> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        refuse_exposed(&file)?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(SnapshotError::TooLarge);
        }
        let snapshot = Snapshot::parse(&bytes)?;
        if snapshot.issuer != issuer {
            return Err(SnapshotError::OtherIssuer(snapshot.issuer));
        }
        Ok(Some(snapshot))
    }

    /// Replaces the file atomically, with access only for its owner. After a crash there is the old or the
    /// new file.
    pub(crate) fn write(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let bytes = serde_json::to_vec(snapshot).map_err(io::Error::other)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(SnapshotError::TooLarge);
        }
        // In the same folder, because a rename is atomic only within one file system; one file for each
        // writer.
        let (process, draft) = (std::process::id(), DRAFTS.fetch_add(1, Ordering::Relaxed));
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{process}.{draft}.new"));
        let draft = PathBuf::from(name);
        let result = write_through(&draft, &bytes).and_then(|()| fs::rename(&draft, &self.path));
        if result.is_err() {
            let _ = fs::remove_file(&draft);
        }
        Ok(result?)
    }
}

fn write_through(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A leftover of a process with the same id; a symbolic link there must not be followed either.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(unix)]
fn refuse_exposed(file: &File) -> Result<(), SnapshotError> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = file.metadata()?;
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
    // In a folder that others can write, they may have created the file.
    let is_own = owner == rustix::process::geteuid().as_raw();
    if is_own && mode & 0o022 == 0 { Ok(()) } else { Err(SnapshotError::Exposed { owner, mode }) }
}

#[cfg(not(unix))]
fn refuse_exposed(_: &File) -> Result<(), SnapshotError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::UnixTime;

    const ISSUER: &str = "https://auth.example.com";

    fn snapshot() -> Snapshot {
        let keys = SavedKeys {
            document: r#"{"keys":[]}"#.into(),
            etag: Some("\"7\"".into()),
            confirmed_at: UnixTime(1_000),
        };
        let revocations = SavedRevocations {
            as_of: Some(1_000_123),
            sessions: vec![([1; 16], UnixTime(1_430)), ([0xFF; 16], UnixTime(1))],
            keys: vec!["stolen".into()],
        };
        Snapshot::new(ISSUER, Some(keys), revocations)
    }

    fn file() -> (tempfile::TempDir, SnapshotFile) {
        let folder = tempfile::tempdir().unwrap();
        let file = SnapshotFile::new(folder.path().join("auth.json"));
        (folder, file)
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn written_snapshot_is_read() {
        let (folder, file) = file();
        assert_eq!(file.read(ISSUER).unwrap(), None);
        let empty = Snapshot::new(ISSUER, None, SavedRevocations::default());
        for snapshot in [snapshot(), empty] {
            file.write(&snapshot).unwrap();
            assert_eq!(file.read(ISSUER).unwrap(), Some(snapshot));
        }
        assert_eq!(names(&folder), ["auth.json"]);
    }

    #[test]
    fn a_snapshot_of_another_issuer_is_refused() {
        let (_folder, file) = file();
        file.write(&snapshot()).unwrap();
        let refused = file.read("https://auth.example.com/").unwrap_err();
        assert!(matches!(refused, SnapshotError::OtherIssuer(issuer) if issuer == ISSUER));
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_folder, file) = file();
        file.write(&snapshot()).unwrap();
        let mode = || fs::metadata(file.path()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        for exposed in [0o620, 0o602, 0o666] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(exposed)).unwrap();
            let refused = file.read(ISSUER).unwrap_err();
            assert!(matches!(refused, SnapshotError::Exposed { mode, .. } if mode == exposed), "{refused}");
        }
        // The owner may let a group read the file, for backups; the next write resets that.
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(file.read(ISSUER).unwrap().is_some());
        file.write(&snapshot()).unwrap();
        assert_eq!(mode(), 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_another_user_owns_is_refused() {
        let (_folder, file) = file();
        file.write(&snapshot()).unwrap();
        // Only root can change the owner; any other user does not own the files of root.
        let theirs = if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(file.path(), Some(65_534), None).unwrap();
            file
        } else {
            SnapshotFile::new("/etc/passwd".into())
        };
        assert!(matches!(theirs.read(ISSUER), Err(SnapshotError::Exposed { .. })));
    }

    #[test]
    fn a_damaged_file_is_refused_as_a_whole() {
        let (_folder, file) = file();
        let good = serde_json::to_string(&snapshot()).unwrap();
        let sessions =
            serde_json::to_value(snapshot()).unwrap()["revocations"]["sessions"].as_str().unwrap().to_owned();
        for (bad, why) in [
            (String::new(), "EOF"),
            (good[..good.len() - 1].to_owned(), "EOF"),
            (good.replace("\"format\":1", "\"format\":2"), "format 2"),
            (good.replace("\"format\":1", "\"format\":1,\"format\":1"), "duplicate field"),
            (good.replace("\"sessions\"", "\"more\""), "unknown field"),
            (good.replace(&sessions, "!"), "not base64url"),
            (good.replace(&sessions, &sessions[4..]), "multiple of 24"),
        ] {
            fs::write(file.path(), &bad).unwrap();
            #[cfg(unix)]
            fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            let refused = file.read(ISSUER).unwrap_err().to_string();
            assert!(refused.contains(why), "{why}: {refused}");
        }
        fs::write(file.path(), vec![b' '; usize::try_from(MAX_BYTES).unwrap() + 1]).unwrap();
        assert!(matches!(file.read(ISSUER), Err(SnapshotError::TooLarge)));
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
        let (folder, file) = file();
        file.write(&snapshot()).unwrap();
        let large = SavedRevocations {
            sessions: vec![([7; 16], UnixTime(1)); 600_000],
            ..SavedRevocations::default()
        };
        assert!(matches!(file.write(&Snapshot::new(ISSUER, None, large)), Err(SnapshotError::TooLarge)));
        assert_eq!(file.read(ISSUER).unwrap(), Some(snapshot()));
        // A directory cannot be replaced by a file: renaming fails after the draft was written.
        let taken = SnapshotFile::new(folder.path().join("taken"));
        fs::create_dir(taken.path()).unwrap();
        assert!(matches!(taken.write(&snapshot()), Err(SnapshotError::Io(_))));
        let mut names = names(&folder);
        names.sort_unstable();
        assert_eq!(names, ["auth.json", "taken"]);
    }
}
