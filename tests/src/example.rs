//! A service of `examples/` as a process: what an application team would run.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use http::StatusCode;

use crate::client::Client;
use crate::process::{self, Signal};
use crate::wait;
use crate::workdir::Workdir;

const PATIENCE: Duration = Duration::from_secs(20);

/// One running replica. Dropping it ends it.
#[derive(Debug)]
pub struct Example {
    name: &'static str,
    child: Mutex<Child>,
    address: SocketAddr,
    // Last, so that it is removed after the process ended.
    dir: Workdir,
}

impl Example {
    /// Starts the program `name` on a free port with these variables, and waits until it listens.
    pub async fn start(name: &'static str, environment: &[(&str, &str)]) -> Self {
        let dir = Workdir::new();
        let (out, err) = (dir.path().join("out"), dir.path().join("err"));
        let mut child = Command::new(process::built(name, &format!("-p {name}")))
            .current_dir(dir.path())
            .env("ADDRESS", "127.0.0.1:0")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::create(&out).expect("a log file"))
            .stderr(File::create(&err).expect("a log file"))
            .spawn()
            .expect("the example starts");
        let read = |file: &PathBuf| fs::read_to_string(file).unwrap_or_default();
        let address = wait::until(&format!("{name} listens"), PATIENCE, async || {
            let ended = child.try_wait().expect("our own child");
            assert!(ended.is_none(), "{name} ended: {ended:?} {}", read(&err));
            find_address(&read(&out))
        })
        .await;
        Self { name, child: Mutex::new(child), address, dir }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of this replica.
    pub fn client(&self) -> Client {
        Client::new(&format!("http://{}", self.address))
    }

    /// Waits until it says that it is ready.
    pub async fn await_ready(&self) {
        wait::until(&format!("{} is ready", self.name), PATIENCE, async || {
            let ready = self.client().get("/readyz").await.ok()?;
            (ready.status == StatusCode::OK).then_some(())
        })
        .await;
    }

    /// Asks it to stop, as an orchestrator does.
    pub fn terminate(&self) {
        process::signal(self.lock().id(), Signal::TERM);
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

    /// Everything it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("err")).unwrap_or_default()
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

/// The address after `http://` in what a starting process printed, once the line is complete.
fn find_address(output: &str) -> Option<SocketAddr> {
    let (_, rest) = output.split_once("http://")?;
    let (address, _) = rest.split_once('\n')?;
    address.parse().ok()
}
