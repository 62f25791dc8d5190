//! The systemd unit, checked with systemd's tools. It is not started, because systemd is not PID 1 here.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use e2e::cluster::service;
use e2e::workdir::Workdir;

use super::service::{Environment, check, seconds};
use super::tools::{Written, run};

const INSTALL: &str = "apt-get install systemd";
/// The template of the service's configuration file.
const SETTINGS: &str = "deploy/systemd/auth-service.toml";
const INSTALLED: &str = "/usr/local/bin/auth-service";
/// The value that systemd substitutes for `%d`.
const CREDENTIALS: &str = "/run/credentials/auth-service.service";

fn unit() -> String {
    fs::read_to_string(super::deploy().join("systemd/auth-service.service")).expect("the unit")
}

/// The values of a key, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    values(unit, key).last().unwrap_or_else(|| panic!("{key} is set"))
}

/// A copy of the unit that starts the program from cargo's folder.
fn runnable(dir: &Workdir) -> PathBuf {
    let file = dir.path().join("auth-service.service");
    fs::write(&file, unit().replace(INSTALLED, &service().display().to_string())).expect("our own folder");
    file
}

fn analyze(arguments: &[&str], file: &PathBuf) -> Result<Written, String> {
    run(Command::new("systemd-analyze").args(arguments).arg(file), INSTALL)
}

#[test]
fn systemd_accepts_the_unit() {
    let dir = Workdir::new();
    let written = analyze(&["verify", "--man=no", "--recursive-errors=no"], &runnable(&dir));
    let written = written.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(written.stderr, "");
}

#[test]
fn unit_is_confined() {
    let dir = Workdir::new();
    // On a scale of 0 to 100; a unit without restrictions has 96. The rest is mainly the network.
    let judged = analyze(&["security", "--offline=true", "--threshold=15"], &runnable(&dir));
    judged.unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn unit_starts_the_service_with_settings_it_accepts() {
    let unit = unit();
    let words: Vec<&str> = value(&unit, "ExecStart").split_whitespace().collect();
    assert_eq!((words[0], words[words.len() - 1]), (INSTALLED, "serve"));
    assert_eq!(words[1], "--config");
    let credentials: BTreeMap<&str, &str> = values(&unit, "LoadCredential")
        .into_iter()
        .map(|credential| credential.split_once(':').expect("NAME:PATH"))
        .collect();
    // The header names the installed file, which must not be world-readable.
    let installed = credentials[words[2].strip_prefix("%d/").expect("a credential")];
    assert!(unit.contains(&format!("install -D -m 640 {SETTINGS} {installed} ")), "{installed}");

    let environment: Environment = values(&unit, "Environment")
        .into_iter()
        .map(|pair| pair.replace("%d", CREDENTIALS))
        .map(|pair| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).expect("K=V"))
        .collect();
    let key = environment["AUTH_MASTER_KEY_FILE"].strip_prefix(CREDENTIALS).expect("a credential");
    assert!(credentials.contains_key(key.trim_start_matches('/')), "{key}");
    let settings = super::deploy().join("..").join(SETTINGS);
    let effective = check(&["--config", &settings.display().to_string()], &environment);

    // The service drains itself: drain_delay, 30 s for requests in flight, 2 s for the database.
    let stop: u64 = value(&unit, "TimeoutStopSec").trim_end_matches('s').parse().expect("seconds");
    assert!(stop > seconds(&effective, "drain_delay") + 30 + 2, "TimeoutStopSec={stop}");
}

/// Settings in the file cannot be changed while the service runs, and the file is readable.
#[test]
fn unit_overrides_no_stored_settings_and_contains_no_secret() {
    let [example, settings] = ["example.toml", "systemd/auth-service.toml"]
        .map(|file| fs::read_to_string(super::deploy().join(file)).expect("a file of deploy/"));
    let lines: Vec<&str> = example.lines().collect();
    let stored = |key: &str| {
        let at = lines.iter().position(|line| line.starts_with(&format!("{key} = ")));
        let at = at.unwrap_or_else(|| panic!("{key} is in example.toml"));
        let comment = lines[..at].iter().rev().take_while(|line| line.starts_with("# "));
        comment.last().is_some_and(|first| first.starts_with("# (*)"))
    };
    assert!(stored("access_token_ttl") && stored("signing_algorithms") && !stored("issuer"));
    for line in settings.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (key, _) = line.split_once(" = ").expect("KEY = VALUE");
        assert!(!stored(key), "{key} could not be changed while the service runs");
        assert!(!["database_url", "master_key", "bootstrap_admin_password"].contains(&key), "{key}");
    }
}

#[test]
fn crashed_service_is_always_restarted() {
    let unit = unit();
    // Not after a clean exit: `systemctl stop` and a drained exit are intended.
    assert_eq!(value(&unit, "Restart"), "on-failure");
    assert_eq!(value(&unit, "StartLimitIntervalSec"), "0");
}
