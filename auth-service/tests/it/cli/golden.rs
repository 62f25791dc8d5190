//! Output that is kept in files. `UPDATE_GOLDEN=1` rewrites them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// The folders below `golden/`. Each is compared as a whole by one test on each database.
const TOPICS: [&str; 3] = ["commands", "copy", "help"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cli/golden")
}

/// Panics unless the folder has exactly these files with these contents.
#[track_caller]
pub(crate) fn assert_files(topic: &str, files: &BTreeMap<String, String>) {
    assert!(TOPICS.contains(&topic));
    let folder = folder().join(topic);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| !value.is_empty()) {
        drop(fs::remove_dir_all(&folder)); // An error means that it is new.
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    let kept: Vec<String> = names(&folder);
    let made: Vec<String> = files.keys().cloned().collect();
    assert_eq!(made, kept, "UPDATE_GOLDEN=1 rewrites {}", folder.display());
    for (name, text) in files {
        let kept = fs::read_to_string(folder.join(name)).unwrap();
        let differing = kept.lines().zip(text.lines()).position(|(kept, made)| kept != made);
        let line = differing.unwrap_or_else(|| kept.lines().count().min(text.lines().count()));
        let at = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
        assert!(
            kept == *text,
            "{topic}/{name}, line {}:\nkept: {}\nmade: {}\nUPDATE_GOLDEN=1 rewrites it",
            line + 1,
            at(&kept),
            at(text)
        );
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_golden_folder_belongs_to_a_test() {
    assert_eq!(names(&folder()), TOPICS);
}

/// The text with placeholders for what differs from run to run. Columns are two spaces apart, because their widths differ, too.
pub(crate) fn without_accidents(text: &str, known: &[(String, &str)]) -> String {
    let mut text = text.to_owned();
    for (accident, placeholder) in known {
        text = text.replace(accident, placeholder);
    }
    for (pattern, placeholder) in [
        (r"postgres://auth(:\*\*\*)?@[^\s\x22]+", "<database>"),
        (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<id>"),
        (r"\b[0-9a-f]{64}\b", "<hash>"),
        (r"\b[0-9a-f]{32}\b", "<checksum>"),
        (r"\b(replica|command)-[A-Za-z0-9_-]{22}", "<$1>"),
        (r"[A-Za-z0-9_-]{43}", "<kid>"),
        (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\dZ", "<time>"),
        (r"\((in \d+ \w+|\d+ \w+ ago|now)\)", "(<distance>)"),
        (r"127\.0\.0\.1:\d+", "<address>"),
        (r"\b[12]\d{9}\b", "<number>"),
        (
            r"(signing_lease_seconds|feed_lag_ms|hash_permits|keys_version|seq)(\x22:| = )(-?\d+)",
            "$1$2<number>",
        ),
        (r"(id\x22:\x22<\w+>\.)\d+", "$1<number>"),
        (r"PostgreSQL [^,]+, on this machine, <database>", "<database>"),
        (r"\d+ secret files", "<number> secret files"),
        (r"since \d+ s\b", "since <age>"),
        (r"(\S)   +", "$1  "),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, placeholder).into_owned();
    }
    text
}
