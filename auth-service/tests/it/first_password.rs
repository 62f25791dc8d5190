//! The configured first password obeys the rules for passwords, and so does the list of breached ones.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use auth_service::boot::{self, FirstPassword, StartError};
use auth_service::config::{Config, Loaded};
use auth_service::domain::breached::BrokenFilter;
use auth_service::domain::strength::WeakPassword;
use auth_service::entropy::SeededEntropy;
use auth_service::runtime::app::App;
use e2e::postgres::Postgres;
use verifier::{ManualClock, UnixTime};

const GOOD: &str = "plum-tractor-cobalt-49";
const MASTER_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn loaded(database_url: &str, first_password: &str) -> Loaded {
    let config = Config {
        database_url: database_url.into(),
        master_key: Some(MASTER_KEY.into()),
        bootstrap_admin_password: Some(first_password.into()),
        hash_memory_kib: 64,
        hash_iterations: 1,
        ..Config::default()
    };
    Loaded { config, ..Loaded::default() }
}

async fn start(loaded: Loaded) -> Result<App, StartError> {
    let clock = Arc::new(ManualClock::new(UnixTime(1_772_366_400)));
    boot::start(loaded, clock, Arc::new(SeededEntropy::new(1))).await
}

async fn first_start(loaded: Loaded) {
    let app = start(loaded).await.unwrap();
    assert!(matches!(boot::bootstrap(&app).await.unwrap(), Some(FirstPassword::Configured)));
    app.store.close().await;
}

/// The command line, without the environment of the test.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auth-service"));
    command.env_clear();
    command
}

fn sqlite(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("data/auth.db").display())
}

#[tokio::test]
async fn weak_first_password_prevents_the_first_start_and_nothing_is_created() {
    let folder = tempfile::tempdir().unwrap();
    for (weak, words) in [
        ("short", "the password must have at least 12 characters"),
        ("p4s5w0rd!p4s5w0rd!p4s5w0rd!p4s5w0rd!", "the password repeats itself"),
        ("qwerty123456", "the password is known from a data breach"),
        ("the-admin-of-cobalt", "the password must not contain the user name"),
        ("abcdefghijklmnop!", "the password is too easy to guess"),
    ] {
        let refusal = start(loaded(&sqlite(folder.path()), weak)).await.unwrap_err().to_string();
        assert!(refusal.starts_with("bootstrap_admin_password: "), "{refusal}");
        assert!(refusal.contains(words) && !refusal.contains(weak), "{weak}: {refusal}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{weak}");
    }
    first_start(loaded(&sqlite(folder.path()), GOOD)).await;
}

#[tokio::test]
async fn weak_first_password_is_ignored_once_it_is_no_longer_used() {
    let folder = tempfile::tempdir().unwrap();
    first_start(loaded(&sqlite(folder.path()), GOOD)).await;
    let app = start(loaded(&sqlite(folder.path()), "short")).await.unwrap();
    assert!(boot::bootstrap(&app).await.unwrap().is_none());
}

#[tokio::test]
async fn weak_first_password_prevents_a_start_on_a_database_that_was_only_migrated() {
    let folder = tempfile::tempdir().unwrap();
    start(loaded(&sqlite(folder.path()), GOOD)).await.unwrap().store.close().await;
    let refusal = start(loaded(&sqlite(folder.path()), "short")).await.unwrap_err();
    assert!(matches!(refusal, StartError::WeakFirstPassword(WeakPassword::TooShort(12))), "{refusal}");
}

#[tokio::test]
#[ignore = "needs PostgreSQL: ./test runs it"]
async fn weak_first_password_prevents_only_the_first_start_on_postgresql() {
    let url = tokio::task::spawn_blocking(|| Postgres::shared().create_database().url()).await.unwrap();
    let refusal = start(loaded(&url, "short")).await.unwrap_err();
    assert!(matches!(refusal, StartError::WeakFirstPassword(_)), "{refusal}");
    first_start(loaded(&url, GOOD)).await;
    start(loaded(&url, "short")).await.unwrap();
}

#[tokio::test]
async fn own_list_replaces_the_bundled_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("breached.bin");
    let (list, hashes) = (folder.path().join("list.txt"), folder.path().join("hashes.txt"));
    std::fs::write(&list, format!("{GOOD}\r\n\nanother one\n{GOOD}\n")).unwrap();
    // SHA-1 of `plum tractor`.
    std::fs::write(&hashes, "FB9E44B84B92C2B267AF229E18F53C6E7F6B759D:3\n").unwrap();
    let mut command = program();
    command.args(["--json", "config", "breached-passwords", "--source", "a test", "--output"]);
    let output = command.args([&path, &list, &hashes]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.success(), &report["passwords"]), (true, &3.into()));

    let with_list = |first_password| {
        let mut loaded = loaded(&sqlite(folder.path()), first_password);
        loaded.config.breached_passwords_file = Some(path.clone());
        loaded
    };
    let refusal = start(with_list(GOOD)).await.unwrap_err();
    assert!(matches!(refusal, StartError::WeakFirstPassword(WeakPassword::Breached)), "{refusal}");
    // In the bundled list.
    let bundled = "zhangxiaoming";
    let refusal = start(loaded(&sqlite(folder.path()), bundled)).await.unwrap_err();
    assert!(matches!(refusal, StartError::WeakFirstPassword(WeakPassword::Breached)), "{refusal}");
    let app = start(with_list(bundled)).await.unwrap();
    assert_eq!(app.breached_passwords.source(), "a test");
    for known in ["another one", "plum tractor"] {
        assert!(app.breached_passwords.contains(known), "{known}");
    }
}

#[tokio::test]
async fn broken_or_missing_list_prevents_the_start_and_nothing_is_created() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("breached.bin");
    let with_list = || {
        let mut loaded = loaded(&sqlite(folder.path()), GOOD);
        loaded.config.breached_passwords_file = Some(path.clone());
        loaded
    };
    let refusal = start(with_list()).await.unwrap_err();
    assert!(matches!(refusal, StartError::File { .. }), "{refusal}");
    std::fs::write(&path, "password\n").unwrap();
    let refusal = start(with_list()).await.unwrap_err();
    let problem = BrokenFilter::NotAFilter;
    assert!(matches!(&refusal, StartError::BreachedPasswords { problem: found, .. } if *found == problem));
    assert_eq!(refusal.to_string(), format!("breached_passwords_file: {} {problem}", path.display()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    let mut command = program();
    command.args(["config", "check"]).env("AUTH_BREACHED_PASSWORDS_FILE", &path);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains(&refusal.to_string()));
}
