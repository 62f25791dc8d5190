//! `auth-service token explain`, with `--json`; and `token check`, its former spelling.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use verifier::testing::TestIssuer;
use verifier::{AccessClaims, Seconds, UnixTime};

use super::site::{Kind, PASSWORD, Site};

const ISSUER: &str = "https://auth.example.com";
const NOW: UnixTime = UnixTime(1_800_000_000);

struct Lab {
    issuer: TestIssuer,
    folder: TempDir,
}

struct Outcome {
    code: Option<i32>,
    answers: Vec<Value>,
    output: String,
    errors: String,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { issuer: TestIssuer::es256(ISSUER, "api"), folder: tempfile::tempdir().unwrap() };
        std::fs::write(lab.path("jwks.json"), lab.jwks()).unwrap();
        lab
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn jwks(&self) -> String {
        serde_json::to_string(&self.issuer.jwks()).unwrap()
    }

    fn token(&self) -> String {
        self.issuer.sign(&self.issuer.claims(NOW))
    }

    fn kid(&self) -> String {
        self.issuer.jwk().kid().to_string()
    }

    /// Correct arguments.
    fn arguments(&self) -> Vec<String> {
        let jwks = self.path("jwks.json").display().to_string();
        let now = NOW.0.to_string();
        ["--jwks", &jwks, "--issuer", ISSUER, "--audience", "api", "--now", &now].map(str::to_owned).to_vec()
    }

    /// Checks with correct arguments.
    fn check(&self, input: impl AsRef<[u8]>) -> Outcome {
        self.check_with(&[], input)
    }

    fn check_with(&self, more: &[&str], input: impl AsRef<[u8]>) -> Outcome {
        let mut arguments = self.arguments();
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        run(self.folder.path(), &arguments, input)
    }
}

/// In an empty folder and without environment: no configuration, no database.
fn run(folder: &Path, arguments: &[impl AsRef<OsStr>], input: impl AsRef<[u8]>) -> Outcome {
    run_as(&["token", "explain", "--json", "--quiet"], folder, arguments, input)
}

fn run_as(
    command: &[&str],
    folder: &Path,
    arguments: &[impl AsRef<OsStr>],
    input: impl AsRef<[u8]>,
) -> Outcome {
    let mut child = Command::new(env!("CARGO_BIN_EXE_auth-service"))
        .args(command)
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command with invalid arguments does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_ref());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    Outcome {
        code: output.status.code(),
        answers: text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        output: text,
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn every_token_gets_a_line_without_its_content() {
    let lab = Lab::new();
    let (good, late) = (lab.token(), lab.issuer.sign(&lab.issuer.claims(NOW - Seconds(330))));
    let outcome = lab.check(format!("{good}\n\n  {late}\r\nnonsense\n"));
    let exp = NOW.0 + 300;
    assert_eq!(
        outcome.answers,
        [
            json!({
                "line": 1, "result": "accept", "kid": lab.kid(), "sub": "alice", "iss": ISSUER, "aud": ["api"], "exp": exp,
                "session": "unknown",
            }),
            json!({
                "line": 3, "result": "reject", "label": "expired",
                "detail": "expired at 2027-01-15 07:59:30Z (30 s ago): the client must refresh",
            }),
            json!({"line": 4, "result": "reject", "label": "not_jws", "detail": "not three parts of base64url"}),
        ]
    );
    assert_eq!((outcome.code, outcome.errors.as_str()), (Some(1), ""));
    for part in good.split('.').chain(late.split('.')).chain(["nonsense"]) {
        assert!(!outcome.output.contains(part), "{}", outcome.output);
    }
    assert_eq!(std::fs::read_dir(lab.folder.path()).unwrap().count(), 1, "it made no file");
}

#[test]
fn exit_code_shows_whether_all_tokens_were_accepted() {
    let lab = Lab::new();
    assert_eq!(lab.check(format!("{0}\n{0}", lab.token())).code, Some(0));
    assert_eq!(lab.check(format!("{}\nx\n", lab.token())).code, Some(1));
    let nothing = lab.check("\n \n");
    assert_eq!((nothing.code, nothing.output.as_str()), (Some(2), ""), "no input is no success");
    assert!(nothing.errors.starts_with("error: no token was given"), "{}", nothing.errors);
}

#[test]
fn arguments_set_leeway_and_time() {
    let lab = Lab::new();
    let token = lab.token();
    for (now, leeway, label) in [
        (329, "30", None),
        (330, "30", Some("expired")),
        (300, "0", Some("expired")),
        (299, "0", None),
        (419, "120", None),
        (-31, "30", Some("not_yet_valid")),
    ] {
        let now = (NOW.0 + now).to_string();
        let jwks = lab.path("jwks.json");
        let arguments = [
            "--jwks",
            jwks.to_str().unwrap(),
            "--issuer",
            ISSUER,
            "--audience",
            "api",
            "--now",
            &now,
            "--leeway",
            leeway,
        ];
        let outcome = run(lab.folder.path(), &arguments, &token);
        assert_eq!(outcome.answers[0].get("label").and_then(Value::as_str), label, "{now} {leeway}");
    }
    // Without --now, the machine's clock is used.
    let jwks = lab.path("jwks.json");
    let arguments = ["--jwks", jwks.to_str().unwrap(), "--issuer", ISSUER, "--audience", "api"];
    let old = lab.issuer.sign(&lab.issuer.claims(UnixTime(1_000_000_000)));
    let outcome = run(lab.folder.path(), &arguments, &old);
    assert_eq!(outcome.answers[0]["label"], "expired");
}

#[test]
fn every_reason_has_its_label() {
    let lab = Lab::new();
    let sign = |change: fn(&mut AccessClaims)| {
        let mut claims = lab.issuer.claims(NOW);
        change(&mut claims);
        lab.issuer.sign(&claims)
    };
    let stranger = TestIssuer::es256(ISSUER, "api");
    let good = lab.token();
    let (signed, _) = good.rsplit_once('.').unwrap();
    let (_, other_signature) = sign(|claims| claims.sub = "bob".into())
        .rsplit_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let document = lab
        .issuer
        .sign_bytes(json!({"typ": "revocations+jwt", "alg": "ES256", "kid": lab.kid()}).to_string(), "{}");
    for (token, label) in [
        (sign(|claims| claims.iss = "https://other.example".into()), "wrong_issuer"),
        (sign(|claims| claims.aud = vec!["other".into()]), "wrong_audience"),
        (sign(|claims| claims.exp = NOW + Seconds(3_601)), "lives_too_long"),
        (sign(|claims| claims.sub = String::new()), "missing_claim"),
        (stranger.sign(&stranger.claims(NOW)), "unknown_key"),
        (format!("{signed}.{other_signature}"), "bad_signature"),
        (document, "wrong_type"),
        ("x".repeat(8_193), "too_long"),
        ("x".repeat(20_000_000), "too_long"),
        ("\u{e9}.b.c".to_owned(), "not_jws"),
    ] {
        let outcome = lab.check(&token);
        assert_eq!((outcome.answers[0]["label"].as_str(), outcome.code), (Some(label), Some(1)));
    }
    assert_eq!(lab.check(b"\xff\xfe\n").answers[0]["label"], "not_jws", "bytes that are no text");
    let outcome = lab.check_with(&["--audience", "other"], sign(|claims| claims.aud = vec!["other".into()]));
    assert_eq!(outcome.code, Some(0), "one of several audiences is enough");
}

#[test]
fn without_keys_or_with_bad_arguments_nothing_is_checked() {
    let lab = Lab::new();
    let jwks = lab.path("jwks.json");
    let jwks = jwks.to_str().unwrap();
    std::fs::write(lab.path("empty.json"), r#"{"keys":[]}"#).unwrap();
    std::fs::write(lab.path("huge.json"), " ".repeat(300_000)).unwrap();
    let no_key = lab.path("empty.json");
    let huge = lab.path("huge.json");
    for arguments in [
        &["--issuer", "http://127.0.0.1:9", "--audience", "api"][..],
        &["--jwks", jwks, "--issuer", ISSUER, "--audience", "api", "--leeway", "121"],
        &["--jwks", jwks, "--issuer", ISSUER, "--audience", "api", "--now", "soon"],
        &["--jwks", "missing.json", "--issuer", ISSUER, "--audience", "api"],
        &["--jwks", no_key.to_str().unwrap(), "--issuer", ISSUER, "--audience", "api"],
        &["--jwks", huge.to_str().unwrap(), "--issuer", ISSUER, "--audience", "api"],
        &["--jwks", "http://auth.example.com/jwks", "--issuer", ISSUER, "--audience", "api"],
    ] {
        let outcome = run(lab.folder.path(), arguments, lab.token());
        assert_eq!((outcome.code, outcome.output.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(outcome.errors.contains("error"), "{arguments:?}: {}", outcome.errors);
    }
}

#[test]
fn keys_can_be_fetched_from_a_url() {
    let lab = Lab::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/.well-known/jwks.json", listener.local_addr().unwrap());
    let body = lab.jwks();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4_096];
        let length = stream.read(&mut head).unwrap();
        assert!(head[..length].starts_with(b"GET /.well-known/jwks.json HTTP/1.1\r\n"));
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
    });
    let now = NOW.0.to_string();
    let arguments = ["--jwks", &url, "--issuer", ISSUER, "--audience", "api", "--now", &now];
    let outcome = run(lab.folder.path(), &arguments, lab.token());
    server.join().unwrap();
    assert_eq!(
        (outcome.code, &outcome.answers[0]["result"]),
        (Some(0), &json!("accept")),
        "{}",
        outcome.errors
    );
    // The listener is closed.
    assert_eq!(run(lab.folder.path(), &arguments, lab.token()).code, Some(2));
}

#[test]
fn the_same_line_is_printed_by_the_former_spelling() {
    let lab = Lab::new();
    let arguments = lab.arguments();
    let now = lab.check(lab.token());
    let former = run_as(&["token", "check"], lab.folder.path(), &arguments, lab.token());
    assert_eq!((former.code, former.output, former.errors.as_str()), (now.code, now.output, ""));
}

#[test]
fn pasted_tokens_are_found_in_what_surrounds_them() {
    let lab = Lab::new();
    let token = lab.token();
    let input = format!("Authorization: Bearer {token}\r\n\"{token}\",\n'{token}'\nbearer {token}");
    let results: Vec<Value> =
        lab.check(input).answers.iter().map(|answer| answer["result"].clone()).collect();
    assert_eq!(results, ["accept"; 4]);
}

#[test]
fn explanations_name_what_was_found_and_what_was_expected() {
    let lab = Lab::new();
    let mut claims = lab.issuer.claims(NOW);
    claims.aud = vec!["billing".into()];
    let other_audience = lab.issuer.sign(&claims);
    claims.iss = "https://other.example".into();
    for (token, label, detail) in [
        (other_audience, "wrong_audience", "audience is `billing`, expected `api`"),
        (
            lab.issuer.sign(&claims),
            "wrong_issuer",
            "issuer is `https://other.example`, expected `https://auth.example.com`",
        ),
        (
            "rt1.abc".to_owned(),
            "refresh_token",
            "a refresh token, which only /v1/refresh takes; resource servers take the access token",
        ),
    ] {
        let outcome = lab.check(token);
        assert_eq!(
            (&outcome.answers[0]["label"], &outcome.answers[0]["detail"]),
            (&json!(label), &json!(detail))
        );
    }
}

pub(crate) fn flags_default_to_the_local_configuration_and_the_feed_tells_ended_sessions(kind: Kind) {
    let site = Site::started(kind);
    site.done_with_password("user add alice");
    site.done("setting set audiences api,billing");
    let (token, session) = site.login("alice", PASSWORD);
    let explain =
        || -> Value { serde_json::from_str(&site.feed("token explain --json", &token).out).unwrap() };
    assert_eq!((&explain()["result"], &explain()["session"]), (&json!("accept"), &json!("alive")));
    let remark = site.feed("token explain", &token).err;
    assert!(remark.contains("audience api or billing or auth-admin"), "stored settings count: {remark}");
    site.done(&format!("session end {session}"));
    let ended = explain();
    assert_eq!((&ended["result"], &ended["label"]), (&json!("reject"), &json!("revoked_session")));
    assert_eq!(ended["session"], "ended");
}
