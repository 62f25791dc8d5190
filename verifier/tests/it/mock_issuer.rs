//! The mock issuer does over HTTP what it is told to.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testkit::{AUDIENCE, NOW, eventually, in_time};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use verifier::testing::MockIssuer;
use verifier::{FetchError, KeySet, ManualClock, NoExtra, Reason, Seconds, Verified, Verifier, VerifyError};

const JWKS: &str = "/.well-known/jwks.json";
const STREAM: &str = "/v1/revocations/stream";
const SESSION: &str = "5e55109d-0001-4203-8405-06070809abff";

async fn issuer_and_verifier() -> (MockIssuer, Arc<ManualClock>, Verifier) {
    let clock = Arc::new(ManualClock::new(NOW));
    let issuer = MockIssuer::start_at(AUDIENCE, clock.clone()).await.unwrap();
    let verifier = issuer.verifier().build().unwrap();
    (issuer, clock, verifier)
}

async fn verify(verifier: &Verifier, token: &str) -> Result<(), VerifyError> {
    in_time("an answer", verifier.verify::<NoExtra>(token)).await.map(|_| ())
}

async fn get(issuer: &MockIssuer, path: &str) -> BufReader<TcpStream> {
    let address = issuer.url().strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    BufReader::new(connection)
}

/// The head of the answer and its body, to the end.
async fn fetch(issuer: &MockIssuer, path: &str) -> (String, String) {
    let mut answer = String::new();
    let mut connection = get(issuer, path).await;
    in_time("an answer", connection.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The next event of a stream, by name and data. `None`: the stream has ended.
async fn next_event(stream: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let (mut name, mut line) = (None, String::new());
    loop {
        line.clear();
        if in_time("a line", stream.read_line(&mut line)).await.unwrap() == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some(("event", event)) => name = Some(event.to_owned()),
            Some(("data", data)) if name.is_some() => return Some((name.unwrap(), data.to_owned())),
            _ => {}
        }
    }
}

/// The claims of a document, whose signature is by a key that the issuer publishes.
fn open(issuer: &MockIssuer, document: &str) -> Value {
    let (signed, signature) = document.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let header: Value = serde_json::from_slice(&decode(header)).unwrap();
    assert_eq!(header["typ"], "revocations+jwt");
    let keys = KeySet::from_jwks(&issuer.jwks()).unwrap();
    let key = keys.find(header["kid"].as_str().unwrap()).expect("a published key");
    assert!(key.has_signed(signed.as_bytes(), &decode(signature)));
    serde_json::from_slice(&decode(claims)).unwrap()
}

#[tokio::test]
async fn instances_have_nothing_in_common() {
    let (one, _, verifier) = issuer_and_verifier().await;
    let (other, ..) = issuer_and_verifier().await;
    assert_ne!(one.kid(), other.kid());
    assert_eq!(verify(&verifier, &one.token().sign()).await, Ok(()));
    let refused = verify(&verifier, &other.token().sign()).await;
    assert_eq!(refused, Err(VerifyError::Invalid(Reason::UnknownKey)));
}

#[tokio::test]
async fn rotation_and_withdrawal_are_seen_by_verifiers() {
    let (issuer, clock, verifier) = issuer_and_verifier().await;
    issuer.max_age(Seconds(0));
    let (first, old) = (issuer.kid(), issuer.token().sign());
    assert_eq!(verify(&verifier, &old).await, Ok(()));
    let second = issuer.rotate();
    assert_eq!(issuer.kid(), second);
    assert_eq!(verify(&verifier, &issuer.token().sign()).await, Ok(()));
    assert_eq!(verify(&verifier, &old).await, Ok(()));

    issuer.withdraw(&first);
    clock.advance(Seconds(2));
    let withdrawn = Some(VerifyError::Invalid(Reason::UnknownKey));
    eventually("the new key set", || verifier.verify_now::<NoExtra>(&old).err() == withdrawn).await;
    assert_eq!(verify(&verifier, &issuer.token().sign()).await, Ok(()));
}

#[tokio::test]
async fn failure_has_the_chosen_status_and_ends() {
    let (issuer, clock, verifier) = issuer_and_verifier().await;
    issuer.fail(502);
    let token = issuer.token().sign();
    let refused = verify(&verifier, &token).await;
    assert_eq!(refused, Err(VerifyError::Unavailable(FetchError::Status(502))));
    assert_eq!(issuer.requests(JWKS), 1);
    assert!(fetch(&issuer, "/v1/revocations").await.0.starts_with("HTTP/1.1 502 "));
    issuer.recover();
    clock.advance(Seconds(5));
    assert_eq!(verify(&verifier, &token).await, Ok(()));
    assert_eq!(issuer.requests(JWKS), 2);
}

#[tokio::test]
async fn hanging_issuer_answers_those_it_kept_waiting_once_it_recovers() {
    let (issuer, _, verifier) = issuer_and_verifier().await;
    issuer.hang();
    let ready = tokio::spawn(async move { verifier.ready(Duration::from_secs(5)).await });
    eventually("a request", || issuer.requests(JWKS) == 1).await;
    assert!(!ready.is_finished());
    issuer.recover();
    assert_eq!(in_time("keys", ready).await.unwrap(), Ok(()));
    assert_eq!(issuer.requests(JWKS), 1);
}

#[tokio::test]
async fn snapshot_tells_everything_revoked_in_the_form_of_the_feed() {
    let (issuer, clock, _) = issuer_and_verifier().await;
    let (head, body) = fetch(&issuer, "/v1/revocations").await;
    assert!(head.contains("content-type: application/revocations+jwt"));
    assert!(head.contains("cache-control: no-cache"));
    let empty = json!({
        "iss": issuer.url(), "iat": NOW, "exp": NOW + Seconds(86_400), "as_of": NOW.0 * 1000, "keep_for": 430,
        "sids": "", "kids": [],
    });
    assert_eq!(open(&issuer, &body), empty);

    let stolen = issuer.kid();
    issuer.rotate();
    issuer.revoke_session(SESSION);
    issuer.revoke_key(&stolen);
    clock.advance(Seconds(10));
    let claims = open(&issuer, &fetch(&issuer, "/v1/revocations").await.1);
    assert_eq!(claims["kids"], json!([stolen]));
    assert_eq!(claims["as_of"], (NOW.0 + 10) * 1000);
    let session = [0x5e, 0x55, 0x10, 0x9d, 0, 1, 0x42, 3, 0x84, 5, 6, 7, 8, 9, 0xab, 0xff];
    assert_eq!(claims["sids"], URL_SAFE_NO_PAD.encode(session));
    let published: Vec<_> = issuer.jwks().keys.iter().map(|key| key.kid().clone()).collect();
    assert_eq!(published, [issuer.kid()]);
}

#[tokio::test]
async fn stream_begins_with_a_snapshot_and_goes_on_with_deltas() {
    let (issuer, clock, _) = issuer_and_verifier().await;
    let mut stream = get(&issuer, STREAM).await;
    let (name, document) = next_event(&mut stream).await.unwrap();
    assert_eq!(name, "snapshot");
    assert!(open(&issuer, &document).get("since").is_none());

    clock.advance(Seconds(3));
    issuer.revoke_session(SESSION);
    // A heartbeat may come before it.
    let claims = loop {
        let (name, document) = next_event(&mut stream).await.unwrap();
        assert_eq!(name, "delta");
        let claims = open(&issuer, &document);
        if claims["sids"] != "" {
            break claims;
        }
    };
    assert_eq!((&claims["since"], &claims["as_of"]), (&json!(NOW.0 * 1000), &json!((NOW.0 + 3) * 1000)));
    assert_eq!(claims["sids"].as_str().unwrap().len(), 22);

    issuer.rotate();
    let ring = loop {
        let (name, data) = next_event(&mut stream).await.unwrap();
        if name == "jwks" {
            break data;
        }
        assert_eq!(name, "delta");
    };
    assert_eq!(ring, "2");
    let (name, document) = next_event(&mut stream).await.unwrap();
    assert_eq!(name, "delta");
    assert_eq!(open(&issuer, &document)["since"], (NOW.0 + 3) * 1000);

    // A heartbeat comes by itself.
    let (name, document) = next_event(&mut stream).await.unwrap();
    assert_eq!(name, "delta");
    assert_eq!(open(&issuer, &document)["since"], (NOW.0 + 3) * 1000);

    issuer.fail(503);
    assert_eq!(next_event(&mut stream).await, None);
}

#[tokio::test]
async fn revocations_reach_the_verifier_and_its_guards() {
    let (issuer, _, verifier) = issuer_and_verifier().await;
    let token = issuer.token().session(SESSION).sign();
    let session: Verified = verifier.verify(&token).await.unwrap();
    let stolen: Verified = verifier.verify(&issuer.token().sign()).await.unwrap();
    let (session, stolen) = (verifier.guard(&session), verifier.guard(&stolen));
    eventually("a stream", || issuer.requests(STREAM) == 1).await;

    issuer.revoke_session(SESSION);
    assert_eq!(in_time("the end", session.ended()).await, Reason::RevokedSession);
    assert_eq!(verify(&verifier, &token).await, Err(VerifyError::Invalid(Reason::RevokedSession)));

    let old = issuer.kid();
    issuer.rotate();
    issuer.revoke_key(&old);
    let ended = in_time("the end", stolen.ended()).await;
    assert!(matches!(ended, Reason::RevokedKey | Reason::UnknownKey), "{ended}");
    assert_eq!(verify(&verifier, &issuer.token().sign()).await, Ok(()));
}

#[tokio::test]
async fn issuer_is_gone_with_its_value_and_so_are_its_streams() {
    let (issuer, ..) = issuer_and_verifier().await;
    let mut stream = get(&issuer, STREAM).await;
    assert!(next_event(&mut stream).await.is_some());
    let address = issuer.url().strip_prefix("http://").unwrap().to_owned();
    drop(issuer);
    let mut rest = Vec::new();
    // Reset or closed: over in any case.
    let _ = in_time("the end", stream.read_to_end(&mut rest)).await;
    let gone = async {
        while TcpStream::connect(&address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    in_time("a closed port", gone).await;
}
