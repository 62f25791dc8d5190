//! Completions in the real shells: the script is loaded, and the shell is asked for candidates.

use std::path::Path;
use std::process::Command;

use e2e::process::installed;

use super::site::{Kind, Site, run};

/// Every shell must offer the last of these words for the first ones.
const CASES: [(&str, &[&str]); 6] = [
    ("auth-service us", &["user"]),
    // The first release completed nothing below the first word.
    ("auth-service user sh", &["show"]),
    ("auth-service user show al", &["alfred", "alice"]),
    ("auth-service user show alice", &["alice"]),
    ("auth-service user add carol --role adm", &["admin"]),
    ("auth-service user list --j", &["--json"]),
];

/// An installation with users, and the program in `bin`.
fn site() -> Site {
    let mut site = Site::started(Kind::Sqlite);
    for name in ["alice", "alfred", "bob"] {
        site.done_with_password(&format!("user add {name}"));
    }
    std::fs::create_dir(site.path("bin")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_auth-service"));
    std::os::unix::fs::symlink(program, site.path("bin/auth-service")).unwrap();
    let path = std::env::var_os("PATH").unwrap().into_string().unwrap();
    site.set("PATH", format!("{}:{path}", site.path("bin").display()));
    site.set("HOME", site.folder().display().to_string());
    for shell in ["bash", "zsh", "fish"] {
        std::fs::write(site.path(shell), site.done(&format!("completions {shell}"))).unwrap();
    }
    site
}

/// What the shell offers. `shell` runs its script with the line as the last argument.
fn offered(shell: &mut Command, line: &str) -> Vec<String> {
    let outcome = run(shell.arg(line), "");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{line}: {}", outcome.out);
    outcome.out.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// Asks for all cases, and for the ids of keys.
#[track_caller]
fn assert_completes(site: &Site, shell: impl Fn() -> Command) {
    for (line, candidates) in CASES {
        assert_eq!(offered(&mut shell(), line), candidates, "{line}");
    }
    let kid = site.objects("key list")[0]["kid"].as_str().unwrap().to_owned();
    let found = offered(&mut shell(), "auth-service key compromise ");
    assert!(found.contains(&kid), "{found:?}");
}

/// Calls the registered function as bash does for the last word.
const IN_BASH: &str = r#"
source ./bash
read -ra COMP_WORDS <<< "$1"
[[ "$1" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
set -- $(complete -p auth-service)
while [ "$1" != -F ]; do shift; done
"$2" auth-service "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

fn bash(site: &Site, script: &str) -> Command {
    let mut bash = site.program(installed("bash", "bash"));
    bash.args(["--norc", "-c", script, "bash"]);
    bash
}

#[test]
#[ignore = "needs shells: ./test runs it"]
fn bash_completes() {
    let site = site();
    assert_completes(&site, || bash(&site, IN_BASH));
}

#[test]
#[ignore = "needs shells: ./test runs it"]
fn bash_completes_with_its_package_of_completions() {
    let site = site();
    let package = "/usr/share/bash-completion/bash_completion";
    assert!(Path::new(package).is_file(), "{package} is missing: apt-get install bash-completion");
    let script = format!("source {package}\n{IN_BASH}");
    assert_completes(&site, || bash(&site, &script));
}

/// Calls the registered function as zsh does, with a `_describe` that prints what the function offers.
const IN_ZSH: &str = r"
autoload -Uz compinit && compinit -u -d ./zcompdump
source ./zsh
_describe() {
    while [[ $1 == -* ]]; do shift; done
    local candidate
    for candidate in ${(P)2}; do print -r -- ${candidate%%:*}; done
}
words=(${(z)1}); [[ $1 == *' ' ]] && words+=('')
CURRENT=$#words
${_comps[auth-service]}
";

#[test]
#[ignore = "needs shells: ./test runs it"]
fn zsh_completes() {
    let site = site();
    assert_completes(&site, || {
        let mut zsh = site.program(installed("zsh", "zsh"));
        zsh.args(["-f", "-c", IN_ZSH, "zsh"]);
        zsh
    });
}

#[test]
#[ignore = "needs shells: ./test runs it"]
fn fish_completes() {
    let site = site();
    let script = r#"source ./fish; complete -C "$argv[1]" | string split --fields 1 \t; true"#;
    assert_completes(&site, || {
        let mut fish = site.program(installed("fish", "fish"));
        fish.args(["--no-config", "-c", script]);
        fish
    });
}

/// Asks as a script does, for the last of these words.
fn asked(site: &Site, words: &str) -> Vec<String> {
    let mut command = site.program(env!("CARGO_BIN_EXE_auth-service"));
    let command = command.env("AUTH_SERVICE_COMPLETE", "fish").arg("--").args(words.split(' '));
    let outcome = run(command, "");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{words}");
    outcome.out.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn names_come_from_the_database_of_the_named_configuration() {
    let mut site = Site::started(Kind::Sqlite);
    site.done_with_password("user add alice");
    site.unset("AUTH_DATABASE_URL");
    std::fs::rename(site.path("data"), site.path("elsewhere")).unwrap();
    std::fs::write(site.path("auth.toml"), "database_url = 'sqlite://elsewhere/auth.db'").unwrap();
    assert_eq!(asked(&site, "auth-service user show al"), [""; 0]);
    for option in ["--config auth.toml", "--config=auth.toml"] {
        assert_eq!(asked(&site, &format!("auth-service {option} user show al")), ["alice"], "{option}");
    }
    assert!(!site.path("data").exists(), "completion creates nothing");
}

#[test]
fn names_of_each_kind_are_completed() {
    let site = Site::started(Kind::Sqlite);
    site.done("role set clerk orders:read");
    let replica = site.objects("replica list")[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(asked(&site, "auth-service role show cl"), ["clerk"]);
    assert_eq!(asked(&site, "auth-service role show clerk"), ["clerk"]);
    assert_eq!(asked(&site, "auth-service replica drain replica-"), [replica]);
    assert_eq!(asked(&site, "auth-service setting set refresh_i"), ["refresh_idle_ttl"]);
    assert_eq!(asked(&site, "auth-service session list --user adm"), ["admin"]);
    assert_eq!(asked(&site, "auth-service audit list --event user_cr"), ["user_created"]);
    assert_eq!(asked(&site, "auth-service user show nobody"), [""; 0]);
}
