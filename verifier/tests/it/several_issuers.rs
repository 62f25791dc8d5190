//! Several issuers in one process: who checks which token, and that nothing crosses from one to the other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{AUDIENCE, NOW};
use verifier::testing::TestIssuer;
use verifier::{
    BuildError, FetchError, FetchFuture, Fetched, JwksRequest, JwksSource, ManualClock, MultiVerifier,
    Reason, Verified, Verifier, VerifierBuilder, VerifyError,
};

const STAFF: &str = "https://staff.example.com";
const SHOPS: &str = "https://shops.example.com";

fn builder(issuer: &str) -> VerifierBuilder {
    Verifier::builder(issuer).audience(AUDIENCE).clock(Arc::new(ManualClock::new(NOW)))
}

/// The key of `issuer` under the name `kid`.
fn document(issuer: &TestIssuer, kid: &str) -> Vec<u8> {
    let mut jwks = serde_json::to_value(issuer.jwks()).unwrap();
    jwks["keys"][0]["kid"] = kid.into();
    serde_json::to_vec(&jwks).unwrap()
}

fn sign(issuer: &TestIssuer, kid: &str, claims: &Value) -> String {
    let header = json!({ "typ": "at+jwt", "alg": issuer.algorithm(), "kid": kid });
    issuer.sign_bytes(header.to_string(), claims.to_string())
}

fn claims(issuer: &TestIssuer) -> Value {
    serde_json::to_value(issuer.claims(NOW)).unwrap()
}

fn refusal(verifier: &MultiVerifier, token: &str) -> Reason {
    match verifier.verify_now::<verifier::NoExtra>(token) {
        Err(VerifyError::Invalid(reason)) => reason,
        other => panic!("should be refused: {other:?}"),
    }
}

/// Responds with a document or an error, and counts the requests.
#[derive(Debug)]
struct Counting(Mutex<Option<Vec<u8>>>, AtomicUsize);

impl Counting {
    fn new(document: Option<Vec<u8>>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(document), AtomicUsize::new(0)))
    }
}

impl JwksSource for Counting {
    fn fetch<'a>(&'a self, _: &'a JwksRequest) -> FetchFuture<'a> {
        self.1.fetch_add(1, Ordering::SeqCst);
        let answer = self.0.lock().unwrap().clone();
        Box::pin(async { answer.map(Fetched::new).ok_or(FetchError::Status(500)) })
    }
}

#[test]
fn each_token_is_checked_by_its_own_issuers_verifier() {
    let (staff, shops) = (TestIssuer::new(STAFF, "staff"), TestIssuer::es256(SHOPS, "shops"));
    let clock = Arc::new(ManualClock::new(NOW));
    let build = |issuer: &TestIssuer, url: &str, audience: &str| {
        let builder = Verifier::builder(url).audience(audience).clock(clock.clone());
        builder.static_jwks(&issuer.jwks()).build().unwrap()
    };
    let both = MultiVerifier::new([build(&staff, STAFF, "staff"), build(&shops, SHOPS, "shops")]).unwrap();
    for (issuer, url) in [(&staff, STAFF), (&shops, SHOPS)] {
        let verified: Verified = both.verify_now(&issuer.sign(&issuer.claims(NOW))).unwrap();
        assert_eq!((verified.issuer(), verified.kid()), (url, issuer.jwk().kid()));
    }
    // The audience is the one that this issuer knows us by.
    let mut claims = staff.claims(NOW);
    claims.aud = vec!["shops".into()];
    assert_eq!(refusal(&both, &staff.sign(&claims)), Reason::WrongAudience);
}

/// THREATS A27.
#[test]
fn keys_of_one_name_at_two_issuers_do_not_cross() {
    let (staff, shops) = (TestIssuer::new(STAFF, AUDIENCE), TestIssuer::new(SHOPS, AUDIENCE));
    let both = MultiVerifier::new([
        builder(STAFF).static_jwks_document(document(&staff, "one")).build().unwrap(),
        builder(SHOPS).static_jwks_document(document(&shops, "one")).build().unwrap(),
    ])
    .unwrap();
    for (mine, other) in [(&staff, &shops), (&shops, &staff)] {
        let good: Verified = both.verify_now(&sign(mine, "one", &claims(mine))).unwrap();
        assert_eq!(good.kid().as_str(), "one");
        assert_eq!(refusal(&both, &sign(other, "one", &claims(mine))), Reason::BadSignature);
    }
}

#[test]
fn second_iss_in_a_token_opens_nothing() {
    let (staff, shops) = (TestIssuer::new(STAFF, AUDIENCE), TestIssuer::new(SHOPS, AUDIENCE));
    let both = MultiVerifier::new([
        builder(STAFF).static_jwks_document(document(&staff, "one")).build().unwrap(),
        builder(SHOPS).static_jwks_document(document(&shops, "one")).build().unwrap(),
    ])
    .unwrap();
    for (first, second) in [(STAFF, SHOPS), (SHOPS, STAFF), (STAFF, STAFF)] {
        let rest = claims(&staff).to_string().replacen(&format!("\"iss\":\"{STAFF}\""), "\"x\":0", 1);
        for name in ["iss", "\\u0069ss"] {
            let spoilt = rest.replacen('{', &format!("{{\"iss\":\"{first}\",\"{name}\":\"{second}\","), 1);
            let header = json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": "one" }).to_string();
            let signed_by_first = if first == STAFF { &staff } else { &shops };
            assert_eq!(refusal(&both, &signed_by_first.sign_bytes(&header, &spoilt)), Reason::DuplicateName);
        }
    }
}

#[tokio::test]
async fn unknown_issuer_is_refused_without_a_fetch() {
    let stranger = TestIssuer::new("https://evil.example.com", AUDIENCE);
    let sources = [Counting::new(None), Counting::new(None)];
    let both = MultiVerifier::new([
        builder(STAFF).source(sources[0].clone()).build().unwrap(),
        builder(SHOPS).source(sources[1].clone()).build().unwrap(),
    ])
    .unwrap();
    let wrong = |reason| Some(VerifyError::Invalid(reason));
    let mut prefix = stranger.claims(NOW);
    prefix.iss = format!("{STAFF}/");
    let without_iss = stranger.sign(&json!({ "sub": "alice" }));
    for token in [stranger.sign(&stranger.claims(NOW)), stranger.sign(&prefix), without_iss] {
        let refused = both.verify::<verifier::NoExtra>(&token).await.err();
        assert_eq!(refused, wrong(Reason::WrongIssuer));
    }
    for (token, reason) in [("a.b", Reason::NotJws), ("a.=.b", Reason::NotJws)] {
        assert_eq!(both.verify::<verifier::NoExtra>(token).await.err(), wrong(reason));
    }
    let long = format!("a.{}.b", "e".repeat(9000));
    assert_eq!(both.verify::<verifier::NoExtra>(&long).await.err(), wrong(Reason::TooLong));
    assert_eq!(sources.each_ref().map(|source| source.1.load(Ordering::SeqCst)), [0, 0]);
}

#[test]
fn two_verifiers_of_one_issuer_or_none_at_all_cannot_be_built() {
    let one = || builder(STAFF).static_jwks(&TestIssuer::new(STAFF, AUDIENCE).jwks()).build().unwrap();
    assert_eq!(
        MultiVerifier::new([one(), one()]).unwrap_err(),
        BuildError::DuplicateIssuer(STAFF.to_owned())
    );
    assert_eq!(MultiVerifier::new([]).unwrap_err(), BuildError::NoIssuer);
}

#[tokio::test(start_paused = true)]
async fn ready_waits_for_every_issuer_at_the_same_time() {
    let staff = TestIssuer::new(STAFF, AUDIENCE);
    let good = Counting::new(Some(document(&staff, "one")));
    let down = Counting::new(None);
    let both = MultiVerifier::new([
        builder(STAFF).source(down.clone()).build().unwrap(),
        builder(SHOPS).source(good.clone()).build().unwrap(),
    ])
    .unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(both.ready(Duration::from_secs(5)).await, Err(FetchError::Status(500)));
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(good.1.load(Ordering::SeqCst), 1);

    let sources = [good.clone(), good];
    let both = MultiVerifier::new([
        builder(STAFF).source(sources[0].clone()).build().unwrap(),
        builder(SHOPS).source(sources[1].clone()).build().unwrap(),
    ])
    .unwrap();
    assert_eq!(both.ready(Duration::from_secs(5)).await, Ok(()));
    assert_eq!(start.elapsed().as_secs(), 5);
}
