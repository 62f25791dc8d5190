//! The last administrator, and who does what according to the audit log.

use serde_json::{Value, json};

use super::site::{Kind, PASSWORD, Site, host};

pub(crate) fn the_last_administrator_is_lost_only_with_consent_and_control_comes_back(kind: Kind) {
    let site = Site::started(kind);
    let everything = site.objects("role show admin")[0]["permissions"].clone();
    let everything: Vec<&str> = everything.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    site.done(&format!("role set chief {}", everything.join(" ")));
    site.done_with_password("user add carol --role chief");
    site.done("user disable admin");
    for command in [
        "user disable carol",
        "user delete carol",
        "user roles carol --remove chief",
        "role set chief users:read",
        "role delete chief",
    ] {
        let outcome = site.run(command);
        assert_eq!(outcome.code, Some(1), "{command}: {}", outcome.err);
        assert!(outcome.err.contains("--yes"), "{command}: {}", outcome.err);
        let carol = site.objects("user show carol").remove(0);
        assert_eq!((&carol["roles"], &carol["disabled_at"]), (&json!(["chief"]), &Value::Null), "{command}");
    }
    let only = site.objects("doctor").into_iter().find(|finding| finding["check"] == "administrators");
    assert_eq!(only.unwrap()["message"], "carol is the only user with full rights");

    site.done("role delete chief --yes");
    assert!(site.run("doctor").out.contains("problem  administrators: no enabled user has full rights"));
    site.done_with_password("user add dave --role admin");
    assert_eq!(site.objects("user show dave")[0]["permissions"].as_array().unwrap().len(), everything.len());
    assert!(site.run("doctor").out.contains("administrators: dave is the only user with full rights"));
}

pub(crate) fn audit_entries_name_the_person_and_the_reason(kind: Kind) {
    let mut site = Site::started(kind);
    let host = host();
    let newest = |site: &Site, event: &str| {
        site.objects(&format!("audit list --event {event} --reverse --limit 1")).remove(0)
    };
    site.done("role set one --reason first");
    let entry = newest(&site, "role_changed");
    assert_eq!(entry["actor"], format!("cli:tester@{host}"));
    assert!(entry["detail"].as_str().unwrap().contains("reason: first"), "{entry}");
    site.set("SUDO_USER", "alice");
    site.done("role set two");
    let by = |site: &Site| -> Vec<String> {
        let entries = site.objects("audit list --event role_changed");
        entries.iter().map(|entry| entry["actor"].as_str().unwrap().to_owned()).collect()
    };
    assert!(by(&site).contains(&format!("cli:alice@{host}")), "{:?}", by(&site));
    site.unset("SUDO_USER");
    site.unset("LOGNAME");
    site.done("role set three");
    assert!(by(&site).iter().any(|actor| actor.starts_with("cli:uid-")), "{:?}", by(&site));
}

pub(crate) fn former_spellings_still_work(kind: Kind) {
    let site = Site::started(kind);
    site.done_with_password("user add alice");
    let (token, _) = site.login("alice", PASSWORD);
    assert_eq!(site.done("keys list --json"), site.done("key list --json"));
    let (former, now) =
        (site.done("sessions list alice --json"), site.done("session list --user alice --json"));
    assert_eq!((former.lines().count(), &former), (1, &now));
    assert_eq!(site.done("settings set access_token_ttl 10m"), "access_token_ttl is 10m (database)\n");
    assert_eq!(site.done("settings list"), site.done("setting list"));
    let id = site.objects("replicas list")[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(site.done(&format!("replicas drain {id}")), format!("{id} is draining\n"));
    assert_eq!(site.done(&format!("replicas drain {id} --undo")), format!("{id} is ready\n"));
    let (former, now) = (site.feed("token check", &token), site.feed("token explain --json", &token));
    assert_eq!((former.code, former.out, former.err.as_str()), (Some(0), now.out, ""));
}

pub(crate) fn exit_code_is_2_for_wrong_usage_and_1_for_a_refusal(kind: Kind) {
    let site = Site::started(kind);
    for (command, code) in [
        ("user list", 0),
        ("user show ghost", 1),
        ("user disable ghost", 1),
        ("audit list --since yesterday", 1),
        ("user", 2),
        ("user show", 2),
        ("user frobnicate", 2),
        ("session end", 2),
        ("session end --all --user alice", 2),
        ("user roles alice clerk --add editor", 2),
        ("audit list --event no_such_event", 2),
        ("key export --format pem --dir keys --every 0 --watch", 2),
        ("--help", 0),
        ("--version", 0),
    ] {
        let outcome = site.run(command);
        assert_eq!(outcome.code, Some(code), "{command}: {}{}", outcome.out, outcome.err);
        assert_eq!(
            outcome.out.is_empty(),
            code != 0,
            "{command}: results go to standard output, errors do not"
        );
    }
}

pub(crate) fn commands_name_their_database_unless_they_are_quiet(kind: Kind) {
    let site = Site::started(kind);
    let place = match site.database_password() {
        None => format!("sqlite://{}", site.path("data/auth.db").display()),
        Some(_) => "postgres://auth:***@127.0.0.1:".to_owned(),
    };
    let said = site.run("user list").err;
    assert!(said.starts_with(&format!("database: {place}")) && said.lines().count() == 1, "{said}");
    let quiet = site.run("user list --quiet");
    assert_eq!((quiet.code, quiet.err.as_str()), (Some(0), ""));
    let refused = site.run("user show ghost --quiet");
    assert_eq!(refused.err, "error: there is no user ghost; `auth-service user list` lists all\n");
}
