//! The Markdown documents: their commands work as pasted, in the order given, and their links lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use e2e::postgres::Postgres;
use e2e::replay::{Document, Given, replay};

/// The documents with commands to replay; each has a test of its own below.
const REPLAYED: &[&str] = &[
    "README.md",
    "docs/command-line.md",
    "docs/configuration.md",
    "docs/deployment.md",
    "docs/operator-guide.md",
    "examples/README.md",
];

/// The top folder of the repository.
fn repository() -> PathBuf {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is a folder of the repository");
    folder.to_owned()
}

/// The paths of all documents. Fixtures and what was built are not documents.
fn documents() -> BTreeSet<String> {
    let top = repository();
    let is_skipped = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        name == "target" || name == "vectors" || name.as_encoded_bytes().starts_with(b".")
    };
    let (mut folders, mut found) = (vec![top.clone()], BTreeSet::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            if is_skipped(&path) {
            } else if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let path = path.strip_prefix(&top).expect("it was found there");
                found.insert(path.display().to_string());
            }
        }
    }
    found
}

#[track_caller]
fn works_as_pasted(path: &str, given: Given<'_>) {
    assert!(REPLAYED.contains(&path), "{path} is missing in the list of replayed documents");
    let replayed =
        Document::read(&repository(), path).and_then(|document| replay(&repository(), &document, given));
    replayed.unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn every_document_with_commands_is_replayed() {
    let has_commands = |path: &String| {
        let document = Document::read(&repository(), path).unwrap_or_else(|fault| panic!("{fault}"));
        document.has_commands()
    };
    let expected: BTreeSet<String> = documents().into_iter().filter(has_commands).collect();
    assert_eq!(REPLAYED.iter().map(|path| (*path).to_owned()).collect::<BTreeSet<_>>(), expected);
}

#[test]
fn commands_of_the_readme_work_as_pasted() {
    works_as_pasted("README.md", Given::default());
}

#[test]
fn commands_of_the_operator_guide_work_as_pasted() {
    let postgres = Postgres::start_without_role();
    works_as_pasted("docs/operator-guide.md", Given { is_installed: true, postgres: Some(&postgres) });
}

#[test]
fn commands_of_the_examples_work_as_pasted() {
    let postgres = Postgres::start_without_role();
    works_as_pasted("examples/README.md", Given { postgres: Some(&postgres), ..Given::default() });
}

#[test]
fn commands_of_the_reference_pages_work_as_pasted() {
    for path in ["docs/command-line.md", "docs/configuration.md", "docs/deployment.md"] {
        works_as_pasted(path, Given { is_installed: true, postgres: None });
    }
}

#[test]
fn fault_is_reported_with_its_line() {
    for (text, fault) in [
        ("a\n\n```sh\ntrue\nfalse\ntrue\n```\n", "x.md:5: this failed: false"),
        ("```sh\ntrue\n```\n\n```sh\nfalse | cat\n```\n", "x.md:6: this failed: false | cat"),
        (
            "```sh\nOTHER=1\n```\n\n```sh\ntest $OTHER = 1\ntest -e README.md\n```\n",
            "x.md:7: this failed: test -e README.md",
        ),
        ("```sh\necho a\n```\n\n```text output\nb\n```\n", "x.md:5: this line was not printed here: b"),
        (
            "```sh\necho '{\"status\":401,\"code\":\"invalid_token\"}'\n```\n",
            "x.md:1: an error that the document does not show: invalid_token",
        ),
        (
            "```sh runs until Ctrl-C\necho a\n```\n\n```text output\nb\n```\n",
            "x.md:5: this line was not printed here: b",
        ),
    ] {
        let document = Document::parse("x.md", text).expect("good blocks");
        let found = replay(&repository(), &document, Given::default()).expect_err(text);
        assert_eq!(found.lines().next(), Some(fault));
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let texts: BTreeMap<String, String> = documents()
        .into_iter()
        .map(|path| (path.clone(), fs::read_to_string(repository().join(&path)).expect("a document")))
        .collect();
    for (path, text) in &texts {
        for link in links(text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { resolved(path, file) };
            assert!(repository().join(&target).exists(), "{path}: there is no {target}: {link}");
            if !anchor.is_empty() {
                let headings = texts.get(&target).map(|text| anchors(text)).unwrap_or_default();
                assert!(headings.contains(anchor), "{path}: {target} has no heading for #{anchor}");
            }
        }
    }
}

/// The relative links of a document.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    // Names of items are links for rustdoc only.
    targets.filter(|link| !link.contains("://") && !link.contains("::")).collect()
}

/// The path below the repository of a link in the document `from`.
fn resolved(from: &str, link: &str) -> String {
    let mut folders: Vec<&str> = from.split('/').collect();
    folders.pop();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(folders.pop()),
            name => folders.push(name),
        }
    }
    folders.join("/")
}

/// The anchors that GitHub gives to headings: in lower case, without punctuation, with hyphens for spaces.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).filter_map(|line| line.split_once(' '));
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(|(_, heading)| anchor(heading)).collect()
}
