//! On a terminal: colour, the width of tables, and questions.

use e2e::process::installed;
use verifier::Seconds;

use super::site::{Kind, Outcome, PASSWORD, Site, run};

/// Runs a command line of a shell on a terminal that is `columns` wide.
fn on_a_terminal(site: &Site, columns: u16, line: &str, input: &str) -> Outcome {
    let mut script = site.program(installed("script", "bsdutils"));
    let program = env!("CARGO_BIN_EXE_auth-service");
    let line = format!("stty rows 24 cols {columns}; {}", line.replace("auth-service", program));
    script.args(["-qec", &line, "/dev/null"]).env("PATH", std::env::var_os("PATH").unwrap());
    run(script.env("TERM", "xterm"), input)
}

#[test]
#[ignore = "needs a terminal: ./test runs it"]
fn colour_appears_on_a_terminal_only_and_never_with_no_color() {
    let site = Site::started(Kind::Sqlite);
    let piped = site.run("doctor");
    assert!(!format!("{}{}", piped.out, piped.err).contains('\x1b'), "{}", piped.out);
    let shown = on_a_terminal(&site, 200, "auth-service doctor", "");
    assert_eq!(shown.code, Some(3));
    assert!(shown.out.contains("\x1b[1m\x1b[33mwarning"), "{:?}", shown.out);
    let plain = on_a_terminal(
        &site,
        200,
        "NO_COLOR=1 auth-service doctor; NO_COLOR=1 auth-service user show ghost",
        "",
    );
    assert!(!plain.out.contains('\x1b'), "{:?}", plain.out);
    let error = on_a_terminal(&site, 200, "auth-service user show ghost", "");
    assert!(error.out.contains("\x1b[31merror:"), "{:?}", error.out);
    let lines = on_a_terminal(&site, 200, "auth-service doctor --json --quiet", "");
    assert!(lines.out.lines().all(|line| line.starts_with('{')), "{:?}", lines.out);
}

#[test]
#[ignore = "needs a terminal: ./test runs it"]
fn tables_fit_the_terminal_and_are_whole_elsewhere() {
    let site = Site::started(Kind::Sqlite);
    let roles: Vec<String> = (0..20).map(|number| format!("permission-{number}")).collect();
    site.done(&format!("role set clerk {}", roles.join(" ")));
    let whole = site.done("role list");
    assert!(whole.lines().any(|line| line.ends_with("permission-9")), "{whole}");
    for columns in [60, 90] {
        let shown = on_a_terminal(&site, columns, "auth-service role list --quiet", "");
        assert!(shown.out.contains("permission-19"), "{}", shown.out);
        let widest = shown.out.lines().map(|line| line.trim_end().chars().count()).max().unwrap();
        assert!(
            widest <= usize::from(columns) && widest > usize::from(columns) / 2,
            "{widest}: {}",
            shown.out
        );
    }
}

#[test]
#[ignore = "needs a terminal: ./test runs it"]
fn questions_are_asked_on_a_terminal_and_only_yes_is_consent() {
    let site = Site::started(Kind::Sqlite);
    site.done_with_password("user add alice");
    let refused = on_a_terminal(&site, 200, "auth-service user delete alice", "y\n");
    assert_eq!(refused.code, Some(1), "{}", refused.out);
    assert!(refused.out.contains("This deletes alice ("), "{}", refused.out);
    assert!(refused.out.contains("nothing was changed"), "{}", refused.out);
    let done = on_a_terminal(&site, 200, "auth-service user delete alice", "yes\n");
    assert_eq!(done.code, Some(0), "{}", done.out);
    assert!(done.out.contains("Type `yes` to continue: "), "{}", done.out);
    assert_eq!(site.run("user show alice").code, Some(1));
}

#[test]
#[ignore = "needs a terminal: ./test runs it"]
fn passwords_are_asked_for_twice() {
    let site = Site::started(Kind::Sqlite);
    let differing = on_a_terminal(&site, 200, "auth-service user add alice", &format!("{PASSWORD}\nother\n"));
    assert_eq!(differing.code, Some(1), "{}", differing.out);
    assert!(differing.out.contains("the two passwords differ; nothing was changed"), "{}", differing.out);
    let done = on_a_terminal(&site, 200, "auth-service user add alice", &format!("{PASSWORD}\n{PASSWORD}\n"));
    assert_eq!(done.code, Some(0), "{}", done.out);
    site.login("alice", PASSWORD);
}

#[test]
#[ignore = "needs a terminal: ./test runs it"]
fn key_rotate_counts_down_until_the_new_key_signs() {
    let mut site = Site::started_with(Kind::Sqlite, |config| config.key_publish_ahead = Seconds(5));
    for (name, value) in [
        ("AUTH_KEY_PUBLISH_AHEAD", "5s"),
        ("AUTH_KEY_POLL_INTERVAL", "500ms"),
        ("AUTH_JWKS_MAX_AGE", "1s"),
        ("AUTH_CLOCK_BOUND", "1s"),
    ] {
        site.set(name, value);
    }
    let shown = on_a_terminal(&site, 200, "auth-service key rotate --wait", "");
    assert_eq!(shown.code, Some(0), "{}", shown.out);
    assert!(shown.out.contains("the new key signs in 00:0"), "{}", shown.out);
    let keys = site.objects("key list");
    assert_eq!((&keys[0]["phase"], &keys[1]["phase"]), (&"retiring".into(), &"active".into()), "{keys:?}");
    assert!(
        shown.out.contains(&format!("the key {} signs", keys[1]["kid"].as_str().unwrap())),
        "{}",
        shown.out
    );
}
