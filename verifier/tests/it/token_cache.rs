//! The cache of verified tokens answers as a verifier without one would, token by token and second by second.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use testkit::{AUDIENCE, ISSUER, NOW, eventually};
use verifier::testing::TestIssuer;
use verifier::{
    AccessClaims, Clock, FetchError, FetchFuture, Fetched, JwksRequest, JwksSource, ManualClock, NoExtra,
    Reason, Seconds, Verified, Verifier, VerifierBuilder, VerifyError,
};

/// A verifier with a cache, and one without to compare it with, under one clock.
struct Bench {
    issuer: TestIssuer,
    clock: Arc<ManualClock>,
    cached: Verifier,
    plain: Verifier,
}

impl Bench {
    fn new(issuer: TestIssuer) -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let builder = || builder(&clock).static_jwks(&issuer.jwks());
        let (cached, plain) = (builder().token_cache(1024).build().unwrap(), builder().build().unwrap());
        Self { issuer, clock, cached, plain }
    }

    /// The answer that both verifiers give.
    fn answer(&self, token: &str) -> Result<Verified, VerifyError> {
        let (cached, plain) =
            (self.cached.verify_now::<NoExtra>(token), self.plain.verify_now::<NoExtra>(token));
        match (&cached, &plain) {
            (Ok(cached), Ok(plain)) => assert_eq!(cached.registered(), plain.registered()),
            (cached, plain) => assert_eq!(cached.as_ref().err(), plain.as_ref().err()),
        }
        cached
    }
}

fn builder(clock: &Arc<ManualClock>) -> VerifierBuilder {
    Verifier::builder(ISSUER).audience(AUDIENCE).clock(clock.clone())
}

fn ed25519() -> TestIssuer {
    TestIssuer::new(ISSUER, AUDIENCE)
}

/// Whether the second answer came out of the cache: then both share their claims.
fn is_hit(first: &Verified, second: &Verified) -> bool {
    std::ptr::eq(first.registered(), second.registered())
}

/// THREATS A26: two tokens that differ in their permissions alone.
#[test]
fn hundred_thousand_pairs_of_similar_tokens_are_never_swapped() {
    let bench = Bench::new(ed25519());
    let sign = |scope: &str| -> Vec<String> {
        let token = |number| {
            let claims = AccessClaims { scope: scope.into(), ..bench.issuer.claims(NOW) };
            bench.issuer.sign(&AccessClaims { jti: format!("token-{number}"), ..claims })
        };
        (0..320).map(token).collect()
    };
    let (readers, writers) = (sign("orders:read"), sign("orders:write"));
    let scope = |token: &str| {
        let verified: Verified = bench.cached.verify_now(token).unwrap();
        verified.registered().scope.clone()
    };
    for reader in &readers {
        for writer in &writers {
            assert_eq!(scope(reader), "orders:read");
            assert_eq!(scope(writer), "orders:write");
        }
    }
    // The place is chosen by the signature; what is found there is compared as a whole.
    for (reader, writer) in readers.iter().zip(&writers) {
        let (_, signature) = reader.rsplit_once('.').unwrap();
        let (signed, _) = writer.rsplit_once('.').unwrap();
        let mixed = format!("{signed}.{signature}");
        let refused = bench.cached.verify_now::<NoExtra>(&mixed).unwrap_err();
        assert_eq!(refused, VerifyError::Invalid(Reason::BadSignature));
    }
}

#[test]
fn token_shown_again_is_found_and_shares_its_claims() {
    let bench = Bench::new(ed25519());
    let token = bench.issuer.sign(&bench.issuer.claims(NOW));
    let answers: Vec<_> = (0..3).map(|_| bench.answer(&token).unwrap()).collect();
    assert!(is_hit(&answers[0], &answers[1]) && is_hit(&answers[0], &answers[2]));
    let plain = || bench.plain.verify_now(&token).unwrap();
    assert!(!is_hit(&plain(), &plain()));
}

#[test]
fn held_token_expires_at_the_second_at_which_it_would_without_a_cache() {
    let bench = Bench::new(ed25519());
    let token = bench.issuer.sign(&bench.issuer.claims(NOW));
    let end = NOW + Seconds(300 + 30);
    for now in
        [NOW, end - Seconds(1), end, end + Seconds(1), end - Seconds(1), NOW - Seconds(30), NOW - Seconds(31)]
    {
        bench.clock.set(now);
        let is_current = NOW - Seconds(30) <= now && now < end;
        assert_eq!(bench.answer(&token).is_ok(), is_current, "at {now:?}");
    }
    bench.clock.set(end);
    let expired = Reason::Expired { exp: NOW + Seconds(300), now: end };
    assert_eq!(bench.answer(&token).unwrap_err(), VerifyError::Invalid(expired));
}

#[test]
fn second_spelling_of_a_signature_is_a_token_of_its_own() {
    let bench = Bench::new(TestIssuer::es256(ISSUER, AUDIENCE));
    let token = bench.issuer.sign(&bench.issuer.claims(NOW));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    negate(&mut signature[32..]);
    let twin = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&signature));
    let first = [bench.answer(&token).unwrap(), bench.answer(&twin).unwrap()];
    let again = [bench.answer(&token).unwrap(), bench.answer(&twin).unwrap()];
    assert!(!is_hit(&first[0], &first[1]));
    assert!(is_hit(&first[0], &again[0]) && is_hit(&first[1], &again[1]));
}

/// `s` becomes n − s, n being the order of P-256: the other signature of the same message.
fn negate(s: &mut [u8]) {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut borrow = false;
    for (digit, order) in s.iter_mut().zip(ORDER).rev() {
        let (less, first) = order.overflowing_sub(*digit);
        let (less, second) = less.overflowing_sub(u8::from(borrow));
        (*digit, borrow) = (less, first || second);
    }
}

#[derive(Debug, serde::Deserialize)]
struct Tenant {
    tenant: u32,
}

#[test]
fn custom_claims_are_read_from_the_token_at_hand() {
    let bench = Bench::new(ed25519());
    let with_tenant = |tenant: u32| {
        let mut claims = serde_json::to_value(bench.issuer.claims(NOW)).unwrap();
        claims["tenant"] = tenant.into();
        bench.issuer.sign(&claims)
    };
    let (one, two, none) = (with_tenant(1), with_tenant(2), bench.issuer.sign(&bench.issuer.claims(NOW)));
    for _ in 0..2 {
        for (token, tenant) in [(&one, 1), (&two, 2)] {
            bench.answer(token).unwrap();
            assert_eq!(bench.cached.verify_now::<Tenant>(token).unwrap().claims().tenant, tenant);
        }
        bench.answer(&none).unwrap();
        let refused = bench.cached.verify_now::<Tenant>(&none).unwrap_err();
        assert_eq!(refused, VerifyError::Invalid(Reason::CustomClaims));
    }
}

/// Responds with a key set that the test can replace, with a freshness of zero.
#[derive(Debug)]
struct Source(Mutex<Option<Vec<u8>>>);

impl Source {
    /// `issuer`'s key under this name.
    fn publish(&self, issuer: &TestIssuer, kid: &str) {
        let mut jwks = serde_json::to_value(issuer.jwks()).unwrap();
        jwks["keys"][0]["kid"] = kid.into();
        *self.0.lock().unwrap() = Some(serde_json::to_vec(&jwks).unwrap());
    }
}

impl JwksSource for Source {
    fn fetch<'a>(&'a self, _: &'a JwksRequest) -> FetchFuture<'a> {
        let document = self.0.lock().unwrap().clone();
        Box::pin(async {
            let mut answer = Fetched::new(document.ok_or(FetchError::Status(500))?);
            answer.max_age = Some(Seconds(0));
            Ok(answer)
        })
    }
}

#[tokio::test]
async fn held_token_falls_with_its_key() {
    let (alice, mallory, clock) = (ed25519(), ed25519(), Arc::new(ManualClock::new(NOW)));
    let source = Arc::new(Source(Mutex::default()));
    source.publish(&alice, "one");
    let verifier = builder(&clock).source(source.clone()).token_cache(64).build().unwrap();
    verifier.ready(Duration::from_secs(5)).await.unwrap();
    let header = serde_json::json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": "one" });
    let claims = serde_json::to_vec(&alice.claims(NOW)).unwrap();
    let token = alice.sign_bytes(header.to_string(), claims);
    let answer = || verifier.verify_now::<NoExtra>(&token);
    assert!(is_hit(&answer().unwrap(), &answer().unwrap()));

    // Withdrawn, replaced under its name, and published again.
    for (issuer, kid, reason) in [
        (&alice, "two", Some(Reason::UnknownKey)),
        (&mallory, "one", Some(Reason::BadSignature)),
        (&alice, "one", None),
    ] {
        source.publish(issuer, kid);
        clock.advance(Seconds(2));
        let expected = reason.map(VerifyError::Invalid);
        eventually("the new key set", || answer().err() == expected).await;
        assert_eq!(answer().err(), expected);
    }
}

#[tokio::test]
async fn held_token_needs_a_key_set_that_may_still_be_trusted() {
    let (alice, clock) = (ed25519(), Arc::new(ManualClock::new(NOW)));
    let source = Arc::new(Source(Mutex::default()));
    source.publish(&alice, "one");
    let builder = builder(&clock).source(source.clone()).token_cache(64).max_token_life(Seconds(1_000_000));
    let verifier = builder.build().unwrap();
    verifier.ready(Duration::from_secs(5)).await.unwrap();
    let claims = AccessClaims { exp: NOW + Seconds(900_000), ..alice.claims(clock.now()) };
    let header = serde_json::json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": "one" });
    let token = alice.sign_bytes(header.to_string(), serde_json::to_vec(&claims).unwrap());
    let answer = || verifier.verify_now::<NoExtra>(&token);
    assert!(answer().is_ok());
    *source.0.lock().unwrap() = None;
    clock.advance(Seconds(24 * 3600 - 1));
    assert!(answer().is_ok());
    clock.advance(Seconds(1));
    assert!(matches!(answer(), Err(VerifyError::Unavailable(_))));
}
