//! One `auth-service` process.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use http::StatusCode;

use crate::client::Client;
use crate::process;
use crate::wait;

const TIMEOUT: Duration = Duration::from_secs(30);
/// Stands for a clock that a test sets while the process runs.
pub(super) const CLOCK_TO_SET: &str = "to be set";

/// The parameters to start a replica, possibly several times.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) number: usize,
    pub(super) folder: PathBuf,
    pub(super) environment: Vec<(String, String)>,
    /// The time setting of `libfaketime`; `None` without it.
    pub(super) clock: Option<String>,
}

/// A replica that runs, is paused, or has ended and can be restarted.
#[derive(Debug)]
pub struct Replica {
    launch: Launch,
    process: Mutex<Process>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    program: PathBuf,
    starts: usize,
}

impl Replica {
    pub(super) fn start(launch: Launch, program: PathBuf) -> Self {
        let child = launch.spawn(&program, 0);
        Self { launch, process: Mutex::new(Process { child, program, starts: 1 }) }
    }

    /// Changes its environment from the next start on.
    pub(super) fn set(&mut self, variable: &str, value: &str) {
        self.launch.environment.push((variable.to_owned(), value.to_owned()));
    }

    /// Its number in the cluster.
    pub const fn number(&self) -> usize {
        self.launch.number
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.lock().child.id()
    }

    /// `http://` and the address of its public listener.
    pub fn public_url(&self) -> String {
        format!("http://{}", self.address("public"))
    }

    /// `http://` and the address of its admin listener.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.address("admin"))
    }

    /// The address of a listener, `public` or `admin`, which the process prints when it starts.
    pub fn address(&self, listener: &str) -> SocketAddr {
        let output = self.output(self.lock().starts - 1, "out");
        let what = format!("replica {} prints its {listener} address", self.number());
        wait::until_blocking(&what, TIMEOUT, || {
            self.assert_running();
            find_address(&fs::read_to_string(&output).unwrap_or_default(), listener)
        })
    }

    /// Its output since its first start.
    pub fn log(&self) -> String {
        let starts = self.lock().starts;
        let files = (0..starts).flat_map(|start| ["out", "err"].map(|stream| self.output(start, stream)));
        files.map(|file| fs::read_to_string(file).unwrap_or_default()).collect()
    }

    /// Waits until the process has ended.
    pub async fn ended(&self, within: Duration) -> ExitStatus {
        let what = format!("replica {} ends", self.number());
        wait::until(&what, within, async || self.lock().child.try_wait().expect("our own child")).await
    }

    pub(super) fn kill(&self) {
        process::end(&mut self.lock().child);
    }

    /// Restarts, from now on with `program` if one is given.
    pub(super) fn start_again(&self, program: Option<&Path>) {
        let mut process = self.lock();
        // Ends the old process: two processes must not write the same log.
        process::end(&mut process.child);
        if let Some(program) = program {
            program.clone_into(&mut process.program);
        }
        process.child = self.launch.spawn(&process.program, process.starts);
        process.starts += 1;
    }

    /// Sets the clock of the process, in the format of `libfaketime`: `+3600s`, `2038-01-19 03:14:00`.
    /// Only for a replica of [`Plan::clock_to_set`](super::Plan::clock_to_set).
    pub fn set_clock(&self, to: &str) {
        let (new, file) = (self.launch.folder.join("clock.new"), self.launch.clock_file());
        fs::write(&new, to).and_then(|()| fs::rename(&new, file)).expect("our own folder");
    }

    /// Whether the process has not ended.
    pub fn is_running(&self) -> bool {
        self.lock().child.try_wait().expect("our own child").is_none()
    }

    /// Waits until it reports that it is ready, and returns its public address.
    pub async fn await_ready(&self) -> SocketAddr {
        let address = self.address("public");
        let client = Client::new(&format!("http://{address}"));
        wait::until(&format!("replica {} is ready", self.number()), TIMEOUT, async || {
            self.assert_running();
            let answer = client.get("/readyz").await.ok()?;
            (answer.status == StatusCode::OK).then_some(())
        })
        .await;
        address
    }

    fn assert_running(&self) {
        let ended = self.lock().child.try_wait().expect("our own child");
        assert!(ended.is_none(), "replica {} ended with {ended:?}:\n{}", self.number(), self.log());
    }

    fn output(&self, start: usize, stream: &str) -> PathBuf {
        self.launch.output(start, stream)
    }

    fn lock(&self) -> MutexGuard<'_, Process> {
        self.process.lock().expect("nobody panics with this lock")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Launch {
    fn spawn(&self, program: &Path, start: usize) -> Child {
        let mut command = Command::new(program);
        command
            .arg("serve")
            .current_dir(&self.folder)
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(File::create(self.output(start, "out")).expect("a log file"))
            .stderr(File::create(self.output(start, "err")).expect("a log file"));
        if let Some(clock) = &self.clock {
            command
                .env("LD_PRELOAD", faketime())
                // `libfaketime` parses dates as local time.
                .env("TZ", "UTC")
                // Timers must not be affected.
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            if clock == CLOCK_TO_SET {
                // Reread every second, so that the clock can change while the process runs.
                command.env("FAKETIME_TIMESTAMP_FILE", self.clock_file()).env("FAKETIME_CACHE_DURATION", "1");
            } else {
                command.env("FAKETIME", clock);
            }
        }
        command.spawn().expect("auth-service starts")
    }

    fn clock_file(&self) -> PathBuf {
        self.folder.join("clock")
    }

    fn output(&self, start: usize, stream: &str) -> PathBuf {
        self.folder.join(format!("{start}.{stream}"))
    }
}

/// The binary under test.
pub fn service() -> PathBuf {
    process::built("auth-service", "-p auth-service --bin auth-service")
}

/// The address after `LISTENER http://` in what a starting process printed, once the line is complete.
pub fn find_address(output: &str, listener: &str) -> Option<SocketAddr> {
    let (_, rest) = output.split_once(&format!("{listener} http://"))?;
    let (address, _) = rest.split_once(|next: char| next.is_whitespace() || next == '"')?;
    address.parse().ok()
}

/// The library that changes the time of a process.
fn faketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let places = folders.chain(["/usr/lib".into(), "/usr/local/lib".into()]);
    places
        .map(|folder: PathBuf| folder.join("faketime/libfaketime.so.1"))
        .find(|library: &PathBuf| Path::is_file(library))
        .expect("libfaketime is missing: apt-get install libfaketime")
}
