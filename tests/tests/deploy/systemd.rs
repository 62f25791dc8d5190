//! The systemd unit, read by systemd's own tools. Nobody is PID 1 here, so it is not started.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tests::cluster::service;
use tests::workdir::Workdir;

use crate::service::{Environment, check, seconds};
use crate::tools::{Written, run};

const INSTALL: &str = "apt-get install systemd";
const INSTALLED: &str = "/usr/local/bin/auth-service";
/// What systemd puts in the place of `%d`.
const CREDENTIALS: &str = "/run/credentials/auth-service.service";

fn unit() -> String {
    fs::read_to_string(crate::deploy().join("systemd/auth-service.service")).expect("the unit")
}

/// The values of a key, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    values(unit, key).last().unwrap_or_else(|| panic!("{key} is set"))
}

/// A copy of the unit that starts the program where cargo put it.
fn runnable(dir: &Workdir) -> PathBuf {
    let file = dir.path().join("auth-service.service");
    fs::write(&file, unit().replace(INSTALLED, &service().display().to_string())).expect("our own folder");
    file
}

fn analyze(arguments: &[&str], file: &PathBuf) -> Result<Written, String> {
    run(Command::new("systemd-analyze").args(arguments).arg(file), INSTALL)
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let dir = Workdir::new();
    let written = analyze(&["verify", "--man=no", "--recursive-errors=no"], &runnable(&dir));
    let written = written.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(written.stderr, "");
}

#[test]
fn unit_is_confined() {
    let dir = Workdir::new();
    // On a scale of 0 to 100; a unit that says nothing has 96. What is left is mainly the network.
    let judged = analyze(&["security", "--offline=true", "--threshold=15"], &runnable(&dir));
    judged.unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn unit_starts_the_service_with_settings_it_accepts() {
    let unit = unit();
    let words: Vec<&str> = value(&unit, "ExecStart").split_whitespace().collect();
    assert_eq!((words[0], words[words.len() - 1]), (INSTALLED, "serve"));
    assert_eq!(words[1], "--config");
    // The header says which file becomes this one.
    assert!(unit.contains(&format!("deploy/example.toml {}", words[2])), "{}", words[2]);

    let (credential, _) = value(&unit, "LoadCredential").split_once(':').expect("NAME:PATH");
    let environment: Environment = values(&unit, "Environment")
        .into_iter()
        .map(|pair| pair.replace("%d", CREDENTIALS))
        .map(|pair| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).expect("K=V"))
        .collect();
    assert_eq!(environment["AUTH_MASTER_KEY_FILE"], format!("{CREDENTIALS}/{credential}"));
    let example = crate::deploy().join("example.toml");
    let effective = check(&["--config", &example.display().to_string()], &environment);

    // It drains by itself: drain_delay, 30 s for requests in flight, 2 s for the database.
    let stop: u64 = value(&unit, "TimeoutStopSec").trim_end_matches('s').parse().expect("seconds");
    assert!(stop > seconds(&effective, "drain_delay") + 30 + 2, "TimeoutStopSec={stop}");
}

#[test]
fn crashed_service_is_started_again_however_often() {
    let unit = unit();
    // Not after a clean end: `systemctl stop` and a drained exit are meant.
    assert_eq!(value(&unit, "Restart"), "on-failure");
    assert_eq!(value(&unit, "StartLimitIntervalSec"), "0");
}
