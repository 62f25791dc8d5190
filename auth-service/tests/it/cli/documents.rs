//! `docs/command-line.md` and `openapi.yaml` describe the commands and what they print with `--json`.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;

use super::help::tree;
use crate::http::contract::Contract;
use crate::http::documents::{names, rows};

const COMMAND_LINE: &str = include_str!("../../../../docs/command-line.md");

/// Members that an object of the command may lack.
const OPTIONAL: [(&str, &[&str]); 3] = [
    ("session end", &["session_id", "ended"]),
    ("token explain", &["label", "detail", "kid", "sub", "iss", "aud", "exp", "session"]),
    ("key export", &["wrote", "removed"]),
];

/// The schema in `openapi.yaml` of what a command prints.
fn schema_of(command: &str) -> Option<&'static str> {
    match command.split_once(' ') {
        Some(("user", _)) => Some("User"),
        Some(("role", _)) => Some("Role"),
        Some(("key", "list" | "rotate")) => Some("Key"),
        Some(("session", "list")) => Some("Session"),
        Some(("setting", _)) => Some("Setting"),
        Some(("replica", _)) => Some("Replica"),
        Some(("audit", _)) => Some("AuditEvent"),
        _ => None,
    }
}

/// The sections about commands: a heading such as "### `user list`", and what follows it.
fn sections() -> BTreeMap<&'static str, &'static str> {
    let commands = COMMAND_LINE.split("\n## Commands\n").nth(1).expect("a section about commands");
    let commands = commands.split("\n## ").next().unwrap();
    commands.split("\n### ").skip(1).map(|text| (names(text)[0], text)).collect()
}

#[test]
fn every_command_has_a_section_and_every_section_is_of_a_command() {
    let commands: BTreeSet<String> = tree().keys().cloned().collect();
    let documented: BTreeSet<String> = sections().into_keys().map(str::to_owned).collect();
    assert_eq!(documented, commands);
}

#[test]
fn the_section_of_a_command_mentions_its_options() {
    let everywhere = ["config", "json", "quiet", "help", "version", "reason", "yes"];
    let options = Regex::new(r"(?m)^ +(?:-\w, )?--([a-z]+)").unwrap();
    for (command, help) in tree() {
        let section = sections()[command.as_str()];
        for option in options.captures_iter(help).map(|found| found.get(1).unwrap().as_str().to_owned()) {
            let is_mentioned = section.contains(&format!("--{option}"));
            assert!(is_mentioned || everywhere.contains(&&*option), "{command} --{option}");
        }
    }
}

/// Panics unless the value has the members that the documents describe for the command.
#[track_caller]
pub(crate) fn assert_members(command: &str, value: &Value) {
    let members =
        |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    if command == "config check" {
        return; // One member for each key of the configuration.
    }
    let section = sections()[command];
    let documented: BTreeSet<String> =
        rows(section, "| `--json` |").iter().map(|cells| names(cells[0])[0].to_owned()).collect();
    let optional = OPTIONAL.iter().find(|(of, _)| *of == command).map_or(&[][..], |(_, names)| *names);
    let found = members(value);
    let missing: Vec<&String> =
        documented.difference(&found).filter(|name| !optional.contains(&name.as_str())).collect();
    let unknown: Vec<&String> = found.difference(&documented).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "{command}: missing {missing:?}, unknown {unknown:?}");

    match command {
        "status" => {
            let of = |name: &str| value[name].as_array().unwrap();
            for replica in of("replicas") {
                assert_valid("Replica", replica);
            }
            for key in of("keys") {
                assert_valid("Key", key);
            }
            for finding in of("findings") {
                assert_members("doctor", finding);
            }
        }
        "key compromise" => {
            assert_valid("Key", &value["key"]);
            assert_valid("Key", &value["successor"]);
        }
        "session list" => {
            let mut session = value.clone();
            let members = session.as_object_mut().unwrap();
            assert!(members.remove("user_id").is_some() && members.remove("username").is_some());
            assert_valid("Session", &session);
        }
        _ => {
            if let Some(schema) = schema_of(command) {
                assert_valid(schema, value);
            }
        }
    }
}

/// Panics unless the value is valid by this schema. Schemas know all members, and refuse others.
#[track_caller]
fn assert_valid(schema: &str, value: &Value) {
    let contract = Contract::shared();
    let rule = &contract.document()["components"]["schemas"][schema];
    let violations = contract.violations(rule, value, schema);
    assert!(violations.is_empty(), "{violations:#?} in {value:#}");
}
