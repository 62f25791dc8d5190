//! A temporary folder. Processes that run in it do not outlive the test.
//!
//! A test can end without running destructors: it is killed, or the folder is in a `static`. So each folder
//! has a watchman, a shell that waits for the end of a pipe whose other end only this process holds. When the
//! pipe closes, whatever the reason, it ends every process whose working directory is in the folder and
//! removes it.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const WATCHMAN: &str = r#"
trap '' INT TERM HUP
read -r _
inside() {
    ls -ld /proc/[0-9]*/cwd | sed -n "s|.*/proc/\([0-9]*\)/cwd -> $1.*|\1|p"
}
for signal in QUIT KILL KILL; do
    living=$(inside "$1")
    [ -n "$living" ] || break
    kill "-$signal" $living
    sleep 0.2
done
[ -n "$2" ] || rm -rf "$1"
"#;

/// A folder under the system's temporary folder, removed with everything that runs in it.
///
/// Set `TESTS_KEEP` to keep it.
#[derive(Debug)]
pub struct Workdir {
    path: PathBuf,
    watchman: Child,
}

impl Workdir {
    /// Creates a folder that only the current user may enter.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("auth-e2e.").tempdir().expect("a temporary folder");
        let path = fs::canonicalize(folder.keep()).expect("the folder was just made");
        let keep = std::env::var_os("TESTS_KEEP").unwrap_or_default();
        if !keep.is_empty() {
            println!("keeping {}", path.display());
        }
        let watchman = Command::new("sh")
            .args(["-c", WATCHMAN, "watchman"])
            .args([path.as_os_str(), &keep])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // Ctrl-C in the terminal must not reach it.
            .spawn()
            .expect("a shell");
        Self { path, watchman }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new folder inside.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir(&path).expect("a new folder");
        path
    }
}

impl Default for Workdir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        drop(self.watchman.stdin.take());
        drop(self.watchman.wait());
    }
}
