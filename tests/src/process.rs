//! Processes: signals, children, and the location of cargo's binaries.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, Resource, getrlimit, kill_process, setrlimit};

use crate::clock;

/// Sends `signal` to the process `id`. An already ended process is not an error.
pub fn signal(id: u32, signal: Signal) {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process id");
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("cannot send {signal:?} to process {id}: {error}"),
    }
}

/// Raises the limit of open files of this process to at least `count`, or panics.
pub fn allow_open_files(count: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    assert!(
        limit.maximum.is_none_or(|maximum| maximum >= count),
        "{count} files must be open at once, and {:?} may: raise the hard limit (ulimit -Hn)",
        limit.maximum
    );
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the limit was just read");
}

/// Ids of the direct children of process `id`, from `/proc`.
pub fn children_of(id: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&child: &u32| parent_of(child) == Some(id))
        .collect()
}

/// The parent of process `id`; the second field after the name, which is in brackets and may hold anything.
fn parent_of(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

/// Resident memory in KiB and the number of open files of process `id`; `None` when it has ended.
pub fn usage(id: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let files = fs::read_dir(format!("/proc/{id}/fd")).ok()?.count();
    Some((resident.split_whitespace().next()?.parse().ok()?, u64::try_from(files).ok()?))
}

/// Ends `child` in any state, and waits for it.
pub fn end(child: &mut Child) {
    drop(child.kill()); // An error means that it has ended already.
    drop(child.wait());
}

/// Waits up to `span` for the end of `child`, then ends it.
pub fn end_within(child: &mut Child, span: Duration) {
    let start = clock::instant();
    while matches!(child.try_wait(), Ok(None)) && start.elapsed() < span {
        std::thread::sleep(Duration::from_millis(10));
    }
    end(child);
}

/// The path of a program of the system, or `None`. Debian keeps servers where only root looks for them.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The same. Panics with the command that installs it if it is missing.
pub fn installed(program: &str, package: &str) -> PathBuf {
    find(program).unwrap_or_else(|| panic!("{program} is missing: apt-get install {package}"))
}

/// The path of a binary of this workspace in the profile the tests were built with.
///
/// Panics with the command that builds it if it is missing: cargo does not build other packages' binaries for
/// a test.
pub fn built(file: &str, build: &str) -> PathBuf {
    let profile = profile();
    let name = match profile.file_name().and_then(|folder| folder.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let path = profile.join(file);
    let missing = path.display();
    assert!(path.is_file(), "{missing} is missing; build it with `cargo build --profile {name} {build}`");
    path
}

/// The binary `file` of the previous release, which `./test` builds.
pub fn previous(file: &str) -> PathBuf {
    let path = profile().with_file_name("previous").join(file);
    assert!(path.is_file(), "{} is missing; run `./test` once, which builds it", path.display());
    path
}

/// `target/<profile>`, where this program was built.
fn profile() -> PathBuf {
    let program = std::env::current_exe().expect("the path of this program");
    // A test runs from `target/<profile>/deps`, a program from the folder above.
    let folder = program.parent().expect("a program has a folder");
    let profile = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    profile.to_owned()
}
