//! `auth-service key export`: a folder of PEM files for programs without JWKS support, read here by OpenSSL.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use e2e::client::Client;
use e2e::cluster::{ADMIN, Cluster, Plan, service};
use e2e::jwt::Peek;
use e2e::{process, wait};
use http::StatusCode;
use serde_json::json;

const TIMEOUT: Duration = Duration::from_secs(20);

/// One replica with a chain of each algorithm, each for its own audience.
async fn all_algorithms() -> Cluster {
    let plan = Plan::new(1, "sqlite://data/auth.db")
        .keys_of_seconds()
        .set("key_rotation_period", "1h")
        .set("signing_algorithms", "ES256,EdDSA,RS256")
        .set("audiences", "es,ed,rs")
        .set("audience_algorithms", "es=ES256,ed=EdDSA,rs=RS256");
    Cluster::start(plan).await
}

/// The names of the expected files.
async fn published(client: &Client) -> BTreeSet<String> {
    let jwks = client.jwks().await.expect("an answer").json();
    let keys = jwks["keys"].as_array().expect("keys");
    keys.iter().map(|key| format!("{}.pem", key["kid"].as_str().expect("a name"))).collect()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect()
}

/// Checks the signature of `token` with OpenSSL and the key in `pem`.
fn openssl_accepts(token: &str, algorithm: &str, pem: &Path, scratch: &Path) -> bool {
    let (signed, signature) = token.rsplit_once('.').expect("a JWS");
    let mut signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    if algorithm == "ES256" {
        signature = der(&signature);
    }
    let (signed_file, signature_file) = (scratch.join("signed"), scratch.join("signature"));
    fs::write(&signed_file, signed).expect("a file");
    fs::write(&signature_file, signature).expect("a file");
    let mut command = Command::new("openssl");
    if algorithm == "EdDSA" {
        command.args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"]).arg(pem);
        command.arg("-sigfile").arg(signature_file).arg("-in").arg(signed_file);
    } else {
        command.args(["dgst", "-sha256", "-verify"]).arg(pem);
        command.arg("-signature").arg(signature_file).arg(signed_file);
    }
    let output = command.output().expect("OpenSSL is missing: apt-get install openssl");
    output.status.success()
}

/// An ECDSA signature in the format of OpenSSL: a SEQUENCE of two INTEGERs. Both numbers have 32 bytes here.
fn der(signature: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let number = &number[number.iter().take_while(|byte| **byte == 0).count()..];
        let sign: &[u8] = if number[0] >= 0x80 { &[0] } else { &[] };
        let length = u8::try_from(sign.len() + number.len()).expect("33 at most");
        [&[2, length][..], sign, number].concat()
    };
    let numbers = [integer(&signature[..32]), integer(&signature[32..])].concat();
    [&[0x30, u8::try_from(numbers.len()).expect("70 at most")][..], &numbers].concat()
}

fn export(folder: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(service());
    command.args(["key", "export", "--format", "pem", "--dir"]).arg(folder).args(options);
    command.stdin(Stdio::null());
    command
}

#[track_caller]
fn succeeds(command: &mut Command) -> Output {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_verifies_tokens_with_every_published_key() {
    let cluster = all_algorithms().await;
    let client = cluster.client();
    let (pems, scratch) = (cluster.dir().path().join("pems"), cluster.dir().folder("scratch"));
    let jwks = format!("{}/.well-known/jwks.json", cluster.issuer());
    succeeds(&mut export(&pems, &["--jwks", &jwks]));
    assert_eq!(names(&pems), published(&client).await);
    assert_eq!(names(&pems).len(), 3);

    for (audience, algorithm) in [("es", "ES256"), ("ed", "EdDSA"), ("rs", "RS256")] {
        // The chain of the first algorithm signs immediately; the others are announced.
        let token = wait::until(&format!("{algorithm} signs"), TIMEOUT, async || {
            let login = client.login_for(audience, ADMIN, cluster.admin_password()).await.expect("an answer");
            let token = login.tokens().access;
            let header = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
            String::from_utf8_lossy(&header).contains(algorithm).then_some(token)
        })
        .await;
        let pem = pems.join(format!("{}.pem", Peek::into(&token).kid));
        assert!(openssl_accepts(&token, algorithm, &pem, &scratch), "{algorithm}");
        let (head, rest) = token.split_once('.').expect("a JWS");
        let other = format!("{head}.A{rest}");
        assert!(!openssl_accepts(&other, algorithm, &pem, &scratch), "{algorithm}: another text");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn export_from_database_and_from_key_set_is_identical() {
    let cluster = all_algorithms().await;
    let home = cluster.dir().path().join("replica-0");
    let (from_database, from_jwks) = (cluster.dir().path().join("a"), cluster.dir().path().join("b"));
    // Neither needs the master key.
    succeeds(
        export(&from_database, &[]).current_dir(&home).env("AUTH_DATABASE_URL", "sqlite://data/auth.db"),
    );
    let jwks = home.join("jwks.json");
    fs::write(&jwks, cluster.client().jwks().await.expect("an answer").body).expect("a file");
    succeeds(&mut export(&from_jwks, &["--jwks", jwks.to_str().expect("a plain path")]));
    assert_eq!(names(&from_database).len(), 3);
    for name in names(&from_database).union(&names(&from_jwks)) {
        let content = |folder: &Path| fs::read_to_string(folder.join(name)).expect("the same name");
        assert_eq!(content(&from_database), content(&from_jwks));
    }
    // If the key set cannot be read, no file is removed.
    fs::write(&jwks, r#"{"keys":[]}"#).expect("a file");
    let refused =
        export(&from_jwks, &["--jwks", jwks.to_str().expect("a plain path")]).output().expect("it starts");
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(names(&from_jwks).len(), 3);
}

/// A running `key export --watch`, until dropped.
struct Following {
    child: Child,
    home: PathBuf,
}

impl Following {
    fn start(cluster: &Cluster, command: &str) -> Self {
        let home = cluster.dir().folder("proxy");
        let jwks = format!("{}/.well-known/jwks.json", cluster.issuer());
        let options = ["--jwks", &jwks, "--watch", "--every", "1", "--exec", command];
        let child = export(Path::new("pems"), &options)
            .current_dir(&home)
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        Self { child, home }
    }

    /// The number of runs of the command, and the files of the last run.
    fn runs(&self) -> (usize, BTreeSet<String>) {
        let lines = |name: &str| fs::read_to_string(self.home.join(name)).unwrap_or_default();
        (lines("runs").lines().count(), lines("seen").lines().map(str::to_owned).collect())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        process::end(&mut self.child);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn withdrawn_key_is_removed_and_failed_command_is_retried() {
    let plan = Plan::new(1, "sqlite://data/auth.db").keys_of_seconds().set("key_rotation_period", "1h");
    let cluster = Cluster::start(plan).await;
    let client = cluster.client();
    let following = Following::start(
        &cluster,
        "ls pems > seen.new && mv seen.new seen && echo run >> runs && test ! -e broken",
    );
    let first = published(&client).await;
    wait::until("the command has run", TIMEOUT, async || (following.runs().0 == 1).then_some(())).await;
    assert_eq!((names(&following.home.join("pems")), following.runs().1), (first.clone(), first.clone()));

    // The command fails from now on, and runs again after each poll.
    fs::write(following.home.join("broken"), "").expect("a file");
    let admin = cluster.admin_at(0).await;
    let stolen = first.first().expect("one key").trim_end_matches(".pem");
    let path = format!("/admin/v1/keys/{stolen}/compromise");
    admin.post(&path, &json!({})).await.expect("an answer").assert_status(StatusCode::OK);
    wait::until("it runs again after a failure", TIMEOUT, async || (following.runs().0 >= 3).then_some(()))
        .await;
    let second = published(&client).await;
    assert!(second.is_disjoint(&first), "{second:?}");
    assert_eq!(following.runs().1, second, "the command found the new file, and not the old one");
    fs::remove_file(following.home.join("broken")).expect("our own file");

    // Nothing changes: the command succeeds once more, and does not run again during three polls.
    let repaired = following.runs().0;
    wait::let_pass(Duration::from_secs(4)).await;
    assert!(following.runs().0 <= repaired + 1, "{repaired}, then {}", following.runs().0);
}
