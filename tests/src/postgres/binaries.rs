//! Locations of the programs of the database server, and the users that run them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::user::User;

/// A folder that holds `initdb`, `postgres` and the client programs of one version.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    folder: PathBuf,
    /// The user that runs the server if the tests run as root, because it refuses to run as root.
    user: Option<User>,
}

impl Binaries {
    /// The programs of this machine. Panics with the command that installs one.
    pub(super) fn find() -> Self {
        let folder = candidates()
            .into_iter()
            .filter_map(|folder| fs::canonicalize(folder).ok())
            .find(|folder| ["initdb", "postgres", "psql"].iter().all(|name| folder.join(name).is_file()))
            .expect("PostgreSQL's server programs are missing: apt-get install postgresql");
        let user = User::instead_of_root(&["postgres", "nobody"]);
        Self { folder, user }
    }

    /// A client program, run as the current user.
    pub(super) fn client(&self, name: &str) -> Command {
        Command::new(self.folder.join(name))
    }

    /// A server program, run as the user that owns the data. `here` becomes its working directory.
    pub(super) fn server(&self, name: &str, here: &Path) -> Command {
        let mut command = self.client(name);
        command.current_dir(here);
        if let Some(user) = &self.user {
            user.run(&mut command);
        }
        command
    }

    /// Gives `path` to the user that runs the server.
    pub(super) fn give(&self, path: &Path) {
        if let Some(user) = &self.user {
            user.give(path);
        }
    }
}

/// Folders to search: the path, then Debian's newest version, then the one from `pg_config`.
fn candidates() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> =
        std::env::split_paths(&path).filter_map(|folder| real_folder(&folder.join("postgres"))).collect();
    let mut packaged: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    packaged.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    folders.extend(packaged.into_iter().map(|(_, folder)| folder));
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    folders
}

/// The folder that holds the file behind a symbolic link: `initdb` and the others lie beside it.
fn real_folder(program: &Path) -> Option<PathBuf> {
    fs::canonicalize(program).ok()?.parent().map(Path::to_path_buf)
}
