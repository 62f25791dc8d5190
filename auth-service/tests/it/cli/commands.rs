//! One script that plays every command, on both databases, with the same golden output. What it prints with `--json` has the
//! members that the documents describe.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use e2e::process::installed;
use serde_json::Value;

use super::help::tree;
use super::site::{ADMIN_PASSWORD, Kind, Outcome, PASSWORD, PERSON, Site, host, run};
use super::{documents, golden};

/// Commands that the script leaves out: those that run until they are stopped, use no installation, or print no result of their own.
const ELSEWHERE: [&str; 5] = ["completions", "config breached-passwords", "copy", "openapi", "serve"];

struct Script {
    site: Site,
    /// What commands printed, by their noun.
    printed: BTreeMap<String, String>,
    played: BTreeSet<String>,
    /// Commands with the lines that they printed with `--json`.
    lines: Vec<(String, String)>,
}

impl Script {
    fn play(&mut self, words: &str) -> Outcome {
        self.play_with(words, "")
    }

    fn play_with(&mut self, words: &str, input: &str) -> Outcome {
        let outcome = self.site.feed(words, input);
        let command = command_of(words);
        let noun = command.split(' ').next().unwrap_or_default();
        let printed = self.printed.entry(format!("{noun}.txt")).or_default();
        write!(printed, "$ auth-service {words}\n{}{}", outcome.err, outcome.out).unwrap();
        if outcome.code != Some(0) {
            writeln!(printed, "[exit code {}]", outcome.code.unwrap()).unwrap();
        }
        printed.push('\n');
        if words.ends_with("--json") {
            self.lines.extend(outcome.out.lines().map(|line| (command.clone(), line.to_owned())));
        }
        self.played.insert(command);
        outcome
    }

    /// Plays a command that only reads, for people and for scripts.
    fn show(&mut self, words: &str) {
        self.play(words);
        self.play(&format!("{words} --json"));
    }

    fn settings(&mut self) {
        self.show("setting set extra_claims tenant,level");
        self.play("setting set access_token_ttl soon");
        self.play("setting set access_token_ttl 10m --json");
        self.show("setting list");
        self.play("setting unset access_token_ttl");
        self.play("setting unset access_token_ttl --json");
    }

    fn roles_and_users(&mut self) {
        self.show("role set clerk orders:read orders:write");
        self.play("role set editor orders:write");
        self.show("role list");
        self.show("role show clerk");
        self.play("role show ghost");
        self.play_with("user add alice --role clerk", &format!("{PASSWORD}\n"));
        self.play_with("user add bob --json", &format!("{PASSWORD}\n"));
        self.play_with("user add alice --role editor", &format!("{PASSWORD}\n"));
        self.play_with("user add carol", "short\n");
        self.show("user list");
        self.show("user show alice");
        self.play("user show ghost");
        self.show("user roles alice");
        self.play("user roles alice clerk editor");
        self.play("user roles alice --add editor --remove clerk --json");
        self.play("user roles alice --remove clerk");
        self.play("user claims bob tenant=acme level=3");
        self.show("user claims bob");
        self.play("user claims bob --unset level --json");
        self.show("user disable bob");
        self.play_with("user passwd bob", &format!("{PASSWORD}\n"));
        self.play_with("user passwd alice --json", &format!("{PASSWORD}\n"));
        self.show("user enable bob");
        self.play("user unlock alice --json");
        self.site.fail_to_login("alice");
        self.play("user unlock alice");
        self.play("user disable admin");
        self.play("audit list --event user_created --user bob");
        self.play("audit list --event user_created --user bob --json");
    }

    fn sessions_and_tokens(&mut self) {
        let (token, session) = self.site.login("alice", PASSWORD);
        self.site.login("bob", PASSWORD);
        self.show("session list --user alice");
        self.play_with("token explain", &token);
        self.play_with("token explain --json", &token);
        self.play(&format!("session end {session}"));
        self.play_with("token explain", &token);
        self.play_with("token explain --json", &token);
        let (_, session) = self.site.login("alice", PASSWORD);
        self.play(&format!("session end {session} --json"));
        self.play("session end --user bob");
        self.play("session end --user bob --json");
        self.site.login("admin", ADMIN_PASSWORD);
        self.play("session end --all");
        self.play("session end --all --yes");
        self.play("session end --all --yes --json");
        self.show("session list");
    }

    fn keys_and_replicas(&mut self) {
        self.show("key list");
        self.play("key rotate");
        self.play("key rotate --json");
        self.show("key reseal");
        self.play("key export --format pem --dir keys");
        self.play("key export --format pem --dir more-keys --json");
        let id = self.site.objects("replica list")[0]["id"].as_str().unwrap().to_owned();
        self.show("replica list");
        self.show(&format!("replica drain {id}"));
        self.show(&format!("replica undrain {id}"));
        self.show("status");
        self.show("doctor");
        let kids = |site: &Site| -> Vec<String> {
            site.objects("key list").iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
        };
        let active = kids(&self.site).remove(0);
        self.play(&format!("key compromise {active}"));
        self.play(&format!("key compromise {active} --yes"));
        let next = kids(&self.site).remove(1);
        self.play(&format!("key compromise {next} --yes --json"));
        self.play("key compromise nobody --yes");
    }

    fn rest(&mut self) {
        self.show("migrate");
        self.show("config check");
        self.show("healthcheck");
        self.play("role delete clerk");
        self.play("role delete clerk --yes");
        self.play("role delete editor --yes --json");
        self.play("user delete bob --yes");
        self.play("user delete alice --yes --json");
    }
}

/// The words that name the command.
fn command_of(words: &str) -> String {
    let mut names: Vec<&str> = words.split(' ').take(2).collect();
    let has_no_verb = ["migrate", "status", "doctor", "healthcheck"].contains(&names[0]);
    names.truncate(if has_no_verb { 1 } else { 2 });
    names.join(" ")
}

pub(crate) fn every_command_prints_the_same_on_both_databases(kind: Kind) {
    let site = Site::started(kind);
    let mut script = Script { site, printed: BTreeMap::new(), played: BTreeSet::new(), lines: Vec::new() };
    script.settings();
    script.roles_and_users();
    script.sessions_and_tokens();
    script.keys_and_replicas();
    script.rest();
    let Script { site, printed, mut played, lines } = script;

    let known = accidents(&site);
    let printed: BTreeMap<String, String> = printed
        .into_iter()
        .map(|(name, text)| {
            if let Some(password) = site.database_password() {
                assert!(!text.contains(password), "{name} has the password of the database");
            }
            (name, golden::without_accidents(&text, &known))
        })
        .collect();
    golden::assert_files("commands", &printed);

    played.extend(ELSEWHERE.map(str::to_owned));
    let commands: BTreeSet<String> = tree().keys().cloned().collect();
    assert_eq!(played, commands);

    for (command, line) in &lines {
        let value: Value = serde_json::from_str(line).unwrap();
        documents::assert_members(command, &value);
    }
    if kind == Kind::Postgres {
        let lines: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
        other_parsers_agree(&site, &lines);
    }
}

/// What differs between machines and databases.
fn accidents(site: &Site) -> Vec<(String, &'static str)> {
    let host = host();
    vec![
        (env!("CARGO_PKG_VERSION").to_owned(), "<version>"),
        ("sqlite://data/auth.db".to_owned(), "<database>"),
        (format!("sqlite://{}", site.path("data/auth.db").display()), "<database>"),
        (site.path("data/auth.db").display().to_string(), "<database>"),
        (format!("cli:{PERSON}@{host}"), "cli:<person>@<host>"),
        (format!("\"name\":\"{host}\""), "\"name\":\"<host>\""),
        (format!(" {host} "), " <host> "),
    ]
}

/// `jq` and Python read each line as the same value as we do.
fn other_parsers_agree(site: &Site, lines: &[&str]) {
    let input = lines.join("\n");
    let ours: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let python = "import json, sys\nfor line in sys.stdin: print(json.dumps(json.loads(line)))";
    for (program, arguments) in [("jq", ["-c", "."]), ("python3", ["-c", python])] {
        let mut command = site.program(installed(program, program));
        let outcome = run(command.args(arguments), &input);
        assert_eq!(outcome.code, Some(0), "{program}: {}", outcome.err);
        let theirs: Vec<Value> =
            outcome.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(theirs, ours, "{program}");
    }
}
