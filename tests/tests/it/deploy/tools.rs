//! Programs that check the files. If one is missing, its test fails with the command that installs it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Command;

/// The output of a successful program.
pub(crate) struct Written {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end and returns its output, or all of its output as the error.
pub(crate) fn run(command: &mut Command, install: &str) -> Result<Written, String> {
    let output = command.output().unwrap_or_else(|error| {
        let name = command.get_program().display();
        match error.kind() {
            io::ErrorKind::NotFound => panic!("{name} is missing: {install}"),
            _ => panic!("{name} cannot be run: {error}"),
        }
    });
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    if output.status.success() {
        Ok(Written { stdout, stderr })
    } else {
        Err(format!("{}\n{stdout}{stderr}", output.status))
    }
}

/// Creates the secrets of an installation in a new folder, as its operator does.
pub(crate) fn make_secrets(folder: &Path) -> Result<Written, String> {
    run(Command::new(super::deploy().join("make-secrets")).arg(folder), "it is in deploy/")
}

/// A copy of a folder, without what `.gitignore` names.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a new folder");
    for entry in std::fs::read_dir(from).expect("our own folder") {
        let path = entry.expect("our own folder").path();
        let name = path.file_name().expect("an entry has a name");
        match path.is_dir() {
            true if name == OsStr::new("secrets") => {}
            true => copy(&path, &to.join(name)),
            false => _ = std::fs::copy(&path, to.join(name)).expect("a copy"),
        }
    }
}
