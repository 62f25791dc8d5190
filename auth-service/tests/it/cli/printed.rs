//! Commands whose output is a document or a copy.

use std::collections::BTreeMap;

use auth_service::http::OPENAPI;

use super::documents::assert_members;
use super::golden;
use super::site::{Kind, PASSWORD, Site};

#[test]
fn openapi_is_the_document_and_completions_need_no_installation() {
    let site = Site::empty(Kind::Sqlite);
    assert_eq!(site.done("openapi").trim_end(), OPENAPI.trim_end());
    for shell in ["bash", "zsh", "fish"] {
        assert!(site.done(&format!("completions {shell}")).contains("auth-service"));
    }
    assert_eq!(site.run("completions tcsh").code, Some(2));
    assert_eq!(site.run("healthcheck").code, Some(1));
    assert_eq!(site.content(), ["master.key"]);
}

#[test]
#[ignore = "needs PostgreSQL: ./test runs it"]
fn copy_lists_the_tables_that_are_the_same_in_both_databases() {
    let mut printed = String::new();
    for option in ["", " --json"] {
        let (mut source, target) = (Site::started(Kind::Sqlite), Site::empty(Kind::Postgres));
        source.stop();
        let path = source.path("data/auth.db").display().to_string();
        let outcome = target.run(&format!("copy --from sqlite://{path} --quiet{option}"));
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
        if option == " --json" {
            for line in outcome.out.lines() {
                assert_members("copy", &serde_json::from_str(line).unwrap());
            }
        }
        let folder = source.folder().display().to_string();
        printed.push_str(&golden::without_accidents(&outcome.out, &[(folder, "<folder>")]));
        assert_eq!(target.objects("user list"), source.objects("user list"));
    }
    golden::assert_files("copy", &BTreeMap::from([("copy.txt".to_owned(), printed)]));
}

pub(crate) fn audit_options_select_entries(kind: Kind) {
    let site = Site::started(kind);
    let id = site.done_with_password("user add alice --json");
    let id: serde_json::Value = serde_json::from_str(&id).unwrap();
    let id = id["id"].as_str().unwrap();
    site.fail_to_login("alice");
    let (_, session) = site.login("alice", PASSWORD);
    site.done(&format!("session end {session}"));
    let events = |options: &str| -> Vec<String> {
        let entries = site.objects(&format!("audit list {options}"));
        let mut events: Vec<String> =
            entries.iter().map(|entry| entry["event"].as_str().unwrap().to_owned()).collect();
        events.sort();
        events
    };
    let all = events("");
    assert_eq!(events("--user alice"), events(&format!("--user {id}")), "by name and by id");
    assert!(events("--user alice").contains(&"user_created".to_owned()));
    assert!(events(&format!("--session {session}")).len() >= 2);
    assert_eq!(events("--event user_created"), ["user_created"]);
    assert_eq!((events("--since 1h"), events("--until 1h").len()), (all.clone(), 0));
    assert_eq!(
        (events("--until 2100-01-01"), events("--since 2100-01-01T00:00:00Z").len()),
        (all.clone(), 0)
    );
    assert_eq!(events("--limit 2").len(), 2);
    let ids = |options: &str| -> Vec<String> {
        let entries = site.objects(&format!("audit list {options}"));
        entries.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
    };
    let mut reversed = ids("--reverse");
    reversed.reverse();
    assert_eq!(ids(""), reversed);
    assert!(site.done("audit list --event user_created").contains("  alice  "), "users are named");
}
