//! The user that runs servers if the tests run as root: some refuse to run as root, and none should.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// A user other than root.
#[derive(Clone, Debug)]
pub(crate) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// The first existing user of `names` if the current user is root; otherwise the current user.
    pub(crate) fn instead_of_root(names: &[&str]) -> Option<Self> {
        rustix::process::geteuid().is_root().then(|| {
            let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
            let found = names.iter().find_map(|name| find_user(&passwd, name));
            found.unwrap_or_else(|| panic!("one of the users {names:?}, to run a server as"))
        })
    }

    /// Runs `command` as this user.
    pub(crate) fn run(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives `path` to this user.
    pub(crate) fn give(&self, path: &Path) {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)).expect("root may chown");
    }
}

fn find_user(passwd: &str, name: &str) -> Option<User> {
    let fields: Vec<&str> = passwd
        .lines()
        .map(|line| line.split(':'))
        .find(|fields| fields.clone().next() == Some(name))?
        .collect();
    Some(User { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
}
