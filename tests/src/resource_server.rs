//! The example of the `verifier` crate as a process: what an application team would run.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::Client;
use crate::process;
use crate::wait;
use crate::workdir::Workdir;

/// A running resource server whose `GET /ping` needs the permission `ping`.
#[derive(Debug)]
pub struct ResourceServer {
    child: Child,
    address: String,
    // Last, so that it is removed after the process ended.
    _dir: Workdir,
}

impl ResourceServer {
    /// Starts one that trusts `issuer`, for the audience `api`, and waits until it listens.
    pub async fn start(issuer: &str) -> Self {
        let dir = Workdir::new();
        let (out, err) = (dir.path().join("out"), dir.path().join("err"));
        let mut child = Command::new(binary())
            .current_dir(dir.path())
            .envs([("ISSUER", issuer), ("AUDIENCE", "api"), ("ADDRESS", "127.0.0.1:0")])
            .stdin(Stdio::null())
            .stdout(File::create(&out).expect("a log file"))
            .stderr(File::create(&err).expect("a log file"))
            .spawn()
            .expect("the example starts");
        let read = |file: &PathBuf| fs::read_to_string(file).unwrap_or_default();
        let address = wait::until("the resource server listens", Duration::from_secs(20), async || {
            let ended = child.try_wait().expect("our own child");
            assert!(ended.is_none(), "the resource server ended: {ended:?} {}", read(&err));
            find_address(&read(&out))
        })
        .await;
        Self { child, address, _dir: dir }
    }

    /// A client of this server that shows `token`.
    pub fn client(&self, token: &str) -> Client {
        Client::new(&self.address).with_bearer(token)
    }
}

impl Drop for ResourceServer {
    fn drop(&mut self) {
        process::end(&mut self.child);
    }
}

/// The first `http://…` of a complete line.
fn find_address(output: &str) -> Option<String> {
    let (_, rest) = output.split_once("http://")?;
    let (address, _) = rest.split_once(char::is_whitespace)?;
    Some(format!("http://{}", address.trim_end_matches('/')))
}

fn binary() -> PathBuf {
    process::built("examples/resource_server", "-p verifier --example resource_server")
}
