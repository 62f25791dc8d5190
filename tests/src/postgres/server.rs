//! One postmaster on one data folder: start, stop, freeze, thaw.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use super::binaries::Binaries;
use crate::process::{self, Signal};
use crate::wait;

const TIMEOUT: Duration = Duration::from_secs(30);

/// The ways to end a server.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// Ends the connections and writes a checkpoint, as an operator does.
    Fast,
    /// Like a power cut: no checkpoint, recovery at the next start.
    Immediate,
    /// Like a crash of the machine: no process runs any further code.
    Kill,
}

#[derive(Debug)]
pub(super) struct Server {
    binaries: Binaries,
    data: PathBuf,
    port: u16,
    postmaster: Mutex<Option<Child>>,
}

impl Server {
    /// Starts a server on `data`. `None` if it ended immediately, for example because another process took
    /// the port.
    pub(super) fn start(binaries: &Binaries, data: PathBuf, port: u16) -> Option<Self> {
        let server = Self { binaries: binaries.clone(), data, port, postmaster: Mutex::new(None) };
        server.start_again().then_some(server)
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Starts on the same folder and port, and waits until it accepts connections.
    pub(super) fn start_again(&self) -> bool {
        let log = File::options().create(true).append(true).open(self.log()).expect("a log file");
        let mut child = self
            .binaries
            .server("postgres", &self.data)
            .arg("-D")
            .arg(&self.data)
            .arg("-k")
            .arg(self.data.parent().expect("the data folder lies in a folder"))
            .args(["-p", &self.port.to_string(), "-h", "127.0.0.1"])
            .args(["-c", "max_connections=300", "-c", "shared_buffers=64MB", "-c", "wal_level=replica"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("postgres starts");
        let started = wait::until_blocking("PostgreSQL accepts connections", TIMEOUT, || {
            if child.try_wait().expect("our own child").is_some() {
                return Some(false);
            }
            self.accepts_connections().then_some(true)
        });
        if started {
            *self.postmaster.lock().expect("nobody panics with this lock") = Some(child);
        }
        started
    }

    /// Stops the server and waits until it has ended; a frozen one is thawed first.
    pub(super) fn stop(&self, how: Stop) {
        let Some(mut child) = self.postmaster.lock().expect("nobody panics with this lock").take() else {
            return;
        };
        if let Stop::Kill = how {
            // Remaining child processes could still respond.
            let backends = process::children_of(child.id());
            process::end(&mut child);
            for backend in backends {
                process::signal(backend, Signal::KILL);
            }
            return;
        }
        resume(child.id());
        process::signal(
            child.id(),
            match how {
                Stop::Fast => Signal::INT,
                Stop::Immediate | Stop::Kill => Signal::QUIT,
            },
        );
        child.wait().expect("our own child");
    }

    /// Suspends every process of the server. Connections stay open and silent.
    pub(super) fn freeze(&self) {
        let postmaster = self.id();
        // The postmaster first: after that no new process appears.
        process::signal(postmaster, Signal::STOP);
        for backend in process::children_of(postmaster) {
            process::signal(backend, Signal::STOP);
        }
    }

    /// Resumes all processes.
    pub(super) fn thaw(&self) {
        resume(self.id());
    }

    /// The log of the server.
    pub(super) fn log(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    pub(super) fn id(&self) -> u32 {
        let postmaster = self.postmaster.lock().expect("nobody panics with this lock");
        postmaster.as_ref().expect("the server runs").id()
    }

    fn accepts_connections(&self) -> bool {
        let port = self.port.to_string();
        let answer = self.binaries.client("pg_isready").args(["-q", "-h", "127.0.0.1", "-p", &port]).status();
        answer.is_ok_and(|status| status.success())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Stop::Immediate);
    }
}

/// Children first, so that the postmaster finds them running.
fn resume(postmaster: u32) {
    for backend in process::children_of(postmaster) {
        process::signal(backend, Signal::CONT);
    }
    process::signal(postmaster, Signal::CONT);
}
