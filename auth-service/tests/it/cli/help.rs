//! `--help` of every command.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::sync::OnceLock;

use super::golden;

/// Every command with its help, in the order of their names. Nouns have no entry.
pub(crate) fn tree() -> &'static BTreeMap<String, String> {
    static TREE: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    TREE.get_or_init(|| {
        let mut tree = BTreeMap::new();
        walk(&mut Vec::new(), &mut tree);
        tree
    })
}

fn walk(path: &mut Vec<String>, tree: &mut BTreeMap<String, String>) {
    let help = help(path);
    let children = children(&help);
    for child in &children {
        path.push(child.clone());
        walk(path, tree);
        path.pop();
    }
    if children.is_empty() {
        tree.insert(path.join(" "), help);
    }
}

fn help(path: &[String]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auth-service"));
    let output = command.args(path).arg("--help").env_clear().output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{path:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names in the list of commands.
fn children(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn help_of_every_command_is_as_reviewed() {
    let mut files: BTreeMap<String, String> = BTreeMap::from([("auth-service.txt".to_owned(), help(&[]))]);
    for (command, help) in tree() {
        let noun = command.split(' ').next().unwrap_or_default();
        let text = files.entry(format!("{noun}.txt")).or_default();
        writeln!(text, "$ auth-service {command} --help\n{help}").unwrap();
    }
    golden::assert_files("help", &files);
}

#[test]
fn help_of_every_command_has_an_example() {
    for (command, help) in tree() {
        let examples: Vec<&str> = help.lines().skip_while(|line| !line.starts_with("Example")).collect();
        let is_of_command = |line: &&str| line.contains(&format!("auth-service {command}"));
        assert!(examples.iter().any(is_of_command), "{command}: {help}");
    }
}

#[test]
fn former_spellings_are_hidden() {
    let top = children(&help(&[]));
    for former in ["keys", "sessions", "settings", "replicas"] {
        assert!(!top.iter().any(|name| name == former), "{former}");
    }
    let tree = tree();
    assert!(!tree.contains_key("token check"));
    assert!(!tree["replica drain"].contains("--undo"));
    assert!(!tree["session list"].contains("[USERNAME]"));
}
