//! The real front ends, with the files of `deploy/`, and a site behind them.
//!
//! ```text
//! Client ──▶ FrontEnd ──▶ auth-service ×3   /v1, /.well-known     on node 0, 1, 2
//!                    ├──▶ ping-service ×3   everything else       on node 0, 1, 2
//!                    ├──▶ Plain ×3          /live                 WebSockets, in this process
//!                    └──▶ Plain ×2          the guarded port      without token support, in this process
//! ```

mod addresses;
mod plain;
mod program;
mod site;
mod traffic;

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

pub use addresses::Addresses;
pub use plain::{EXAMPLE_KEY, Plain};
pub use program::{OPERATOR, Program, deployed};
pub use site::{NODES, Site};
pub use traffic::{Death, Kind, Outcome, Traffic};

use crate::process::{self, Signal};
use crate::user::User;
use crate::wait;
use crate::workdir::Workdir;

/// The audience that the front end requires where it checks tokens itself.
pub const AUDIENCE: &str = "api";

/// A running front end. Dropping it ends it.
#[derive(Debug)]
pub struct FrontEnd {
    child: Child,
    // Last, so that it is removed after the process ended.
    dir: Workdir,
}

impl FrontEnd {
    /// Starts `program` between `addresses`, and waits until it listens.
    pub async fn start(program: Program, addresses: Addresses) -> Self {
        let dir = Workdir::new();
        let variables = variables(addresses, dir.path());
        let mut command = program.command(dir.path(), addresses, &variables);
        if let Some(user) = User::instead_of_root(&["www-data", "nobody"]) {
            user.give(dir.path());
            for file in fs::read_dir(dir.path()).expect("our folder").flatten() {
                user.give(&file.path());
            }
            user.run(&mut command);
        }
        let log = File::create(dir.path().join("log")).expect("a log file");
        let child = command
            .current_dir(dir.path())
            .envs(variables)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("it was just found");
        let mut front = Self { child, dir };
        let what = format!("{} listens", program.name());
        wait::until(&what, Duration::from_secs(10), async || {
            let ended = front.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "{} ended: {ended:?}\n{}", program.name(), front.log());
            let listens = |address| TcpStream::connect(address).is_ok();
            (listens(addresses.public()) && listens(addresses.guarded())).then_some(())
        })
        .await;
        front
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Its output.
    pub fn log(&self) -> String {
        ["log", "error.log"]
            .map(|file| fs::read_to_string(self.path().join(file)).unwrap_or_default())
            .concat()
    }
}

impl Drop for FrontEnd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- last lines of the front end\n{}",
                lines[lines.len().saturating_sub(30)..].join("\n")
            );
        }
        // It has child processes, which would survive a SIGKILL until the folder's watchman ends them.
        process::signal(self.child.id(), Signal::TERM);
        process::end_within(&mut self.child, Duration::from_secs(2));
    }
}

/// The variables of the files in `deploy/`.
fn variables(at: Addresses, folder: &Path) -> Vec<(String, String)> {
    let one = |name: &str, value: String| (name.to_owned(), value);
    let mut variables = vec![
        one("ADDRESS", at.public().ip().to_string()),
        one("PORT", at.public().port().to_string()),
        one("GUARDED_PORT", at.guarded().port().to_string()),
        one("ISSUER", format!("http://{}", at.public())),
        one("AUDIENCE", AUDIENCE.to_owned()),
        one("PERMISSION", "ping".to_owned()),
        one("RUN", folder.display().to_string()),
        one("KEYS", folder.join("keys").display().to_string()),
    ];
    for number in 0..NODES {
        variables.extend([
            one(&format!("AUTH{}", number + 1), at.auth(number).to_string()),
            one(&format!("APP{}", number + 1), at.app(number).to_string()),
            one(&format!("LIVE{}", number + 1), at.live(number).to_string()),
            one(&format!("PLAIN{}", number + 1), at.plain(number).to_string()),
        ]);
    }
    variables
}
