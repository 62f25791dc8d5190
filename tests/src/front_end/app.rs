//! `ping-service` as a process: an application that embeds the verifier, at an address that it keeps.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use http::StatusCode;

use crate::client::Client;
use crate::process::{self, Signal};
use crate::wait;

/// One replica. `GET /ping` needs the permission `ping`, and says in `x-replica` who answered.
#[derive(Debug)]
pub(super) struct App {
    folder: PathBuf,
    number: usize,
    address: SocketAddr,
    issuer: String,
    child: Mutex<Child>,
}

impl App {
    /// Starts replica `number` of an application that trusts `issuer`; its log goes to `folder`.
    pub(super) fn start(folder: PathBuf, number: usize, address: SocketAddr, issuer: &str) -> Self {
        let issuer = issuer.to_owned();
        let child = Mutex::new(spawn(&folder, number, address, &issuer));
        Self { folder, number, address, issuer, child }
    }

    /// Waits until it has the issuer's keys.
    pub(super) async fn await_ready(&self) {
        let client = Client::new(&format!("http://{}", self.address));
        wait::until(&format!("application {} is ready", self.number), Duration::from_secs(20), async || {
            let answer = client.get("/readyz").await.ok()?;
            (answer.status == StatusCode::OK).then_some(())
        })
        .await;
    }

    /// Sends it `signal`.
    pub(super) fn signal(&self, signal: Signal) {
        process::signal(self.lock().id(), signal);
    }

    /// Ends it with SIGKILL.
    pub(super) fn kill(&self) {
        process::end(&mut self.lock());
    }

    /// Waits until it has ended.
    pub(super) async fn ended(&self, within: Duration) {
        let what = format!("application {} ends", self.number);
        wait::until(&what, within, async || self.lock().try_wait().expect("our own child")).await;
    }

    /// Starts it again after it ended.
    pub(super) fn start_again(&self) {
        *self.lock() = spawn(&self.folder, self.number, self.address, &self.issuer);
    }

    fn lock(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("nobody panics with this lock")
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &PathBuf, number: usize, address: SocketAddr, issuer: &str) -> Child {
    let log = File::options().append(true).create(true).open(folder.join("log")).expect("a log file");
    Command::new(process::built("ping-service", "-p ping-service"))
        .current_dir(folder)
        .env("ISSUER", issuer)
        .env("AUDIENCE", "api")
        .env("ADDRESS", address.to_string())
        .env("REPLICA", number.to_string())
        .env("DRAIN_DELAY", "3")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn()
        .expect("ping-service starts")
}
