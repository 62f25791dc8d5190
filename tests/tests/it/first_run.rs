//! A new user starts the binary in an empty folder, with only free ports configured.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use e2e::client::Client;
use e2e::cluster::{ADMIN, find_address, service};
use e2e::process::{self, Signal};
use e2e::replay::{self, Terminal};
use e2e::wait;
use e2e::workdir::Workdir;
use http::StatusCode;
use tokio::task::JoinSet;

use crate::TURN;

const TIMEOUT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn first_start_on_a_terminal_prints_a_password_and_commands() {
    let dir = Workdir::new();
    let home = dir.folder("home");
    let mut first = Run::on_terminal(&home, "first");
    let public = first.listens().await;
    let shown = first.output();

    // Both contain secrets: keys, and password hashes.
    assert_eq!(mode(&home.join("data/master.key")), 0o600);
    assert_eq!(mode(&home.join("data/auth.db")), 0o600);
    assert!(first.address("admin").is_some(), "{shown}");
    let lines: Vec<&str> = shown.lines().map(str::trim).filter(|line| line.contains("curl ")).collect();
    assert_eq!(lines.len(), 3, "three commands, which the README says to paste: {shown}");

    let password = password_in(&shown);
    assert_eq!(
        shown.matches(&password).count(),
        1 + lines.iter().filter(|line| line.contains(&password)).count()
    );
    logs_in(&public, &password).await;
    first.0.type_ctrl_c();
    let status = first.ended().await;
    assert!(status.success(), "{status}\n{}", first.output());

    let mut second = Run::on_terminal(&home, "second");
    let public = second.listens().await;
    logs_in(&public, &password).await;
    let shown = second.output();
    assert!(!shown.contains(&password), "{shown}");
    assert!(!shown.to_lowercase().contains("password:"), "no other password either: {shown}");
    second.0.type_ctrl_c();
    assert!(second.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn first_start_without_a_terminal_keeps_the_password_out_of_the_log() {
    let dir = Workdir::new();
    let home = dir.folder("home");
    let mut first = Run::plain(&home, "first");
    let public = first.listens().await;
    let shown = first.output();
    // The path of a file is printed; only the owner can read the file, which contains the password.
    let file = shown
        .split(|c: char| c.is_whitespace() || "\"',`()".contains(c))
        .map(|word| home.join(word.trim_end_matches(['.', ':'])))
        .find(|path| path.is_file() && path.to_string_lossy().contains("password"))
        .unwrap_or_else(|| panic!("the path of the password file: {shown}"));
    assert_eq!(mode(&file), 0o600);
    let password = fs::read_to_string(&file).expect("our own file").trim().to_owned();
    assert!(!password.is_empty() && !shown.contains(&password), "{shown}");
    logs_in(&public, &password).await;
    process::signal(first.0.child.id(), Signal::INT);
    let status = first.ended().await;
    assert!(status.success(), "{status}\n{}", first.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_service_finishes_requests_in_flight() {
    let _turn = TURN.lock().await;
    let dir = Workdir::new();
    let home = dir.folder("home");
    let mut run = Run::plain(&home, "run");
    let client = Client::new(&run.listens().await);
    client.get("/livez").await.expect("an answer").assert_status(StatusCode::OK);
    // More passwords than the service checks in parallel: after the first response, the others are still in
    // flight.
    let mut logins = JoinSet::new();
    for number in 0..12 {
        let client = client.clone();
        logins.spawn(async move { client.login(&format!("nobody-{number}"), "not-the-password-49").await });
    }
    let first = logins.join_next().await.expect("twelve logins");
    process::signal(run.0.child.id(), Signal::INT);
    for answer in logins.join_all().await.into_iter().chain([first.expect("no panic")]) {
        answer.expect("an answer").assert_status(StatusCode::UNAUTHORIZED);
    }
    assert!(run.ended().await.success());
}

/// One start of the service.
struct Run(Terminal);

impl Run {
    /// Starts as from a shell script: the output goes to a file.
    fn plain(home: &Path, name: &str) -> Self {
        Self::start(Command::new(service()), home, name)
    }

    /// Starts as from a user's terminal.
    fn on_terminal(home: &Path, name: &str) -> Self {
        // An intermediate shell would handle Ctrl-C itself, with status 130. Not every shell uses exec by
        // itself.
        let mut command = replay::in_terminal(&format!("exec '{}'", service().display()));
        command.env("SHELL", "/bin/sh");
        Self::start(command, home, name)
    }

    fn start(mut command: Command, home: &Path, name: &str) -> Self {
        command
            .current_dir(home)
            .env("AUTH_PUBLIC_ADDR", "127.0.0.1:0")
            .env("AUTH_ADMIN_ADDR", "127.0.0.1:0");
        Self(Terminal::start(command, &home.with_file_name(format!("{name}.out"))))
    }

    fn output(&self) -> String {
        self.0.output()
    }

    fn address(&self, listener: &str) -> Option<std::net::SocketAddr> {
        find_address(&self.output(), listener)
    }

    /// Waits until it is ready, and returns the URL of the public listener.
    async fn listens(&self) -> String {
        let url = wait::until("it prints its addresses", TIMEOUT, async || {
            self.address("admin")?;
            Some(format!("http://{}", self.address("public")?))
        })
        .await;
        wait::until("it is ready", TIMEOUT, async || {
            let answer = Client::new(&url).get("/readyz").await.ok()?;
            (answer.status == StatusCode::OK).then_some(())
        })
        .await;
        url
    }

    async fn ended(&mut self) -> ExitStatus {
        wait::until("it exits", TIMEOUT, async || self.0.child.try_wait().expect("our own child")).await
    }
}

async fn logs_in(public: &str, password: &str) {
    let login = Client::new(public).login(ADMIN, password).await.expect("an answer");
    login.assert_status(StatusCode::OK);
}

/// The word after "password".
fn password_in(shown: &str) -> String {
    let line = shown
        .lines()
        .find(|line| line.to_lowercase().contains("password"))
        .expect("a line with the password");
    let (_, rest) = line.rsplit_once("assword").expect("just seen");
    let word = rest.split(|c: char| c.is_whitespace() || c == ':' || c == '"').find(|word| word.len() >= 12);
    word.unwrap_or_else(|| panic!("the password: {line}")).to_owned()
}

fn mode(path: &Path) -> u32 {
    let metadata = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    metadata.permissions().mode() & 0o777
}
