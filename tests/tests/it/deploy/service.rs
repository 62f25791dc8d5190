//! Runs the service with only the environment from a description in `deploy/`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::client::Client;
use e2e::cluster::{find_address, service};
use e2e::{process, wait};
use http::StatusCode;

use super::tools;

const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) type Environment = BTreeMap<String, String>;

/// Replaces the container's folder of secrets with a folder of this machine.
pub(crate) fn with_secrets(environment: &Environment, mounted: &str, folder: &Path) -> Environment {
    let folder = format!("{}/", folder.display());
    let moved = |value: &String| value.replace(&format!("{mounted}/"), &folder);
    environment.iter().map(|(name, value)| (name.clone(), moved(value))).collect()
}

/// Panics unless the service accepts these settings without a warning. Returns the effective settings.
pub(crate) fn check(arguments: &[&str], environment: &Environment) -> String {
    let mut command = Command::new(service());
    command.args(arguments).args(["config", "check"]).env_clear().envs(environment);
    let written =
        tools::run(&mut command, "cargo build -p auth-service").unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(written.stderr, "", "no warnings");
    written.stdout
}

/// One setting as `config check` shows it.
pub(crate) fn setting<'a>(effective: &'a str, key: &str) -> &'a str {
    let line = effective.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")));
    let line = line.unwrap_or_else(|| panic!("{key} is a setting: {effective}"));
    // A comment with the source follows.
    line.split_once(" # ").map_or(line, |(value, _)| value).trim_matches('"')
}

/// Seconds of a duration that `config check` shows.
pub(crate) fn seconds(effective: &str, key: &str) -> u64 {
    let value = setting(effective, key);
    value.strip_suffix('s').and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{key}: {value}"))
}

/// A service without write access and privileges.
pub(crate) struct Confined {
    child: Child,
    output: PathBuf,
}

impl Confined {
    /// Starts it in `/`, which is read-only for it, on free ports. Its output goes to `folder`.
    pub(crate) fn start(folder: &Path, environment: &Environment) -> Self {
        let output = folder.join("output");
        let file = File::create(&output).expect("a file for the output");
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.arg("--map-root-user");
        }
        let child = unshare
            .args(["--mount", "sh", "-c", r#"mount -o remount,bind,ro / && exec "$@""#, "sh"])
            .args(["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"])
            .args([service().as_os_str(), "serve".as_ref()])
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(environment)
            .env("AUTH_PUBLIC_ADDR", "127.0.0.1:0")
            .env("AUTH_ADMIN_ADDR", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("another handle"))
            .stderr(file)
            .spawn()
            .expect("unshare is missing: apt-get install util-linux");
        Self { child, output }
    }

    /// Waits until `path` of the public listener returns 200.
    pub(crate) async fn answers(&mut self, path: &str) -> Client {
        let Self { child, output } = self;
        let shown = || fs::read_to_string(&*output).unwrap_or_default();
        let address = wait::until("it prints its addresses", TIMEOUT, async || {
            assert!(child.try_wait().expect("our own child").is_none(), "it ended: {}", shown());
            find_address(&shown(), "public")
        });
        let client = Client::new(&format!("http://{}", address.await));
        wait::until(path, TIMEOUT, async || {
            let answer = client.get(path).await.ok()?;
            (answer.status == StatusCode::OK).then_some(())
        })
        .await;
        client
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        process::end(&mut self.child);
    }
}
