//! A service of `examples/` as a process.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use http::StatusCode;

use crate::client::Client;
use crate::process::{self, Signal};
use crate::wait;
use crate::workdir::Workdir;

const TIMEOUT: Duration = Duration::from_secs(20);

/// One running replica. Dropping it ends it.
#[derive(Debug)]
pub struct Example {
    name: &'static str,
    environment: Vec<(String, String)>,
    child: Mutex<Child>,
    address: SocketAddr,
    // Last, so that it is removed after the process ended.
    dir: Workdir,
}

impl Example {
    /// Starts the program `name` with these variables, on a free port unless they set one, and waits until it
    /// listens.
    pub async fn start(name: &'static str, environment: &[(&str, &str)]) -> Self {
        let dir = Workdir::new();
        let variables = [&[("ADDRESS", "127.0.0.1:0")], environment].concat();
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        let mut environment: Vec<_> = variables.iter().map(owned).collect();
        let mut child = spawn(name, dir.path(), &environment);
        let address = wait::until(&format!("{name} listens"), TIMEOUT, async || {
            let ended = child.try_wait().expect("our own child");
            assert!(ended.is_none(), "{name} ended: {ended:?} {}", read(&dir, "err"));
            find_address(&read(&dir, "out"))
        })
        .await;
        // For the next start.
        environment.push(("ADDRESS".to_owned(), address.to_string()));
        Self { name, environment, child: Mutex::new(child), address, dir }
    }

    /// Restarts it at the same address, after it ended.
    pub fn start_again(&self) {
        *self.lock() = spawn(self.name, self.dir.path(), &self.environment);
    }

    /// Its address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of this replica.
    pub fn client(&self) -> Client {
        Client::new(&format!("http://{}", self.address))
    }

    /// Waits until it reports that it is ready.
    pub async fn await_ready(&self) {
        wait::until(&format!("{} is ready", self.name), TIMEOUT, async || {
            let ready = self.client().get("/readyz").await.ok()?;
            (ready.status == StatusCode::OK).then_some(())
        })
        .await;
    }

    /// Sends it `signal`; `TERM` stops it, as an orchestrator does.
    pub fn signal(&self, signal: Signal) {
        process::signal(self.lock().id(), signal);
    }

    /// Ends it with SIGKILL.
    pub fn kill(&self) {
        process::end(&mut self.lock());
    }

    /// Waits until the process has ended.
    pub async fn ended(&self, within: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        wait::until(&what, within, async || self.lock().try_wait().expect("our own child")).await
    }

    /// Its log.
    pub fn log(&self) -> String {
        read(&self.dir, "err")
    }

    fn lock(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("nobody panics with this lock")
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of {} at {}\n{}", self.name, self.address, self.log());
        }
    }
}

fn spawn(name: &str, dir: &Path, environment: &[(String, String)]) -> Child {
    let log = |file| File::options().append(true).create(true).open(dir.join(file)).expect("a log file");
    Command::new(process::built(name, &format!("-p {name}")))
        .current_dir(dir)
        .envs(environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(log("out"))
        .stderr(log("err"))
        .spawn()
        .expect("the example starts")
}

fn read(dir: &Workdir, file: &str) -> String {
    fs::read_to_string(dir.path().join(file)).unwrap_or_default()
}

/// The address after `http://` in what a starting process printed, once the line is complete.
fn find_address(output: &str) -> Option<SocketAddr> {
    let (_, rest) = output.split_once("http://")?;
    let (address, _) = rest.split_once('\n')?;
    address.parse().ok()
}
