//! One test for each rule about a revocation document. Whatever is refused changes nothing.

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::feed::{claims_of, delta, header, sids, signed, snapshot};
use testkit::{AUDIENCE, ISSUER, NOW};
use verifier::testing::TestIssuer;
use verifier::{
    Clock, FeedError, FeedState, JwkSet, ManualClock, NoExtra, Reason, Seconds, UnixTime, Verifier,
    VerifierBuilder, VerifyError,
};

const NOW_MS: i64 = NOW.0 * 1000;

struct Bench {
    issuer: TestIssuer,
    clock: Arc<ManualClock>,
    verifier: Verifier,
}

impl Bench {
    fn new() -> Self {
        Self::trusting(TestIssuer::new(ISSUER, AUDIENCE), &[])
    }

    fn trusting(issuer: TestIssuer, others: &[&TestIssuer]) -> Self {
        Self::with(issuer, others, |builder| builder)
    }

    fn with_leeway(leeway: Seconds) -> Self {
        Self::with(TestIssuer::new(ISSUER, AUDIENCE), &[], |builder| builder.leeway(leeway))
    }

    fn with(
        issuer: TestIssuer,
        others: &[&TestIssuer],
        describe: impl FnOnce(VerifierBuilder) -> VerifierBuilder,
    ) -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let keys = std::iter::once(issuer.jwk()).chain(others.iter().map(|other| other.jwk())).collect();
        let jwks = JwkSet { keys, keys_version: None };
        let builder = Verifier::builder(ISSUER).audience(AUDIENCE).static_jwks(&jwks).clock(clock.clone());
        let verifier = describe(builder).build().unwrap();
        Self { issuer, clock, verifier }
    }

    fn hear(&self, claims: &Value) -> Result<(), FeedError> {
        self.verifier.merge_revocations(&signed(&self.issuer, claims))
    }

    fn hear_text(&self, document: &str) -> Result<(), FeedError> {
        self.verifier.merge_revocations(document)
    }

    fn hear_json(&self, claims: &str) -> Result<(), FeedError> {
        self.verifier.merge_revocations(&self.issuer.sign_bytes(header(&self.issuer).to_string(), claims))
    }

    fn is_revoked(&self, number: u64) -> bool {
        let token = self.issuer.sign(&claims_of(&self.issuer, number, self.clock.now()));
        match self.verifier.verify_now::<NoExtra>(&token) {
            Ok(_) => false,
            Err(VerifyError::Invalid(Reason::RevokedSession)) => true,
            Err(other) => panic!("{other}"),
        }
    }

    fn staleness(&self) -> Option<u64> {
        self.verifier.status().feed.staleness.map(|age| age.as_secs())
    }

    /// Sessions and keys in the set, and how old it is.
    fn state(&self) -> (usize, usize, Option<u64>) {
        let feed = self.verifier.status().feed;
        (feed.sessions, feed.keys, self.staleness())
    }

    fn refuses(&self, claims: &Value, reason: Reason) {
        let before = self.state();
        assert_eq!(self.hear(claims), Err(FeedError::Document(reason)), "{claims}");
        assert_eq!(self.state(), before, "{claims}");
    }
}

fn with(mut claims: Value, name: &str, value: impl Into<Value>) -> Value {
    claims[name] = value.into();
    claims
}

fn refused(reason: Reason) -> Result<(), FeedError> {
    Err(FeedError::Document(reason))
}

#[test]
fn sessions_of_a_document_are_refused_from_then_on() {
    for issuer in [TestIssuer::new(ISSUER, AUDIENCE), TestIssuer::es256(ISSUER, AUDIENCE)] {
        let bench = Bench::trusting(issuer, &[]);
        assert_eq!(bench.state(), (0, 0, None));
        bench.hear(&snapshot(NOW, [1, 2, 3])).unwrap();
        assert_eq!(bench.state(), (3, 0, Some(0)));
        assert!((1..=3).all(|number| bench.is_revoked(number)));
        assert!(!bench.is_revoked(0) && !bench.is_revoked(4));
    }
}

#[test]
fn documents_are_merged_and_never_replace_each_other() {
    let bench = Bench::new();
    bench.hear(&snapshot(NOW, [1, 2])).unwrap();
    bench.hear(&snapshot(NOW, [3])).unwrap();
    bench.hear(&snapshot(NOW, [])).unwrap();
    assert_eq!(bench.hear(&delta(NOW_MS, NOW_MS, [4])), Err(FeedError::Gap));
    assert!((1..=4).all(|number| bench.is_revoked(number)));
}

#[test]
fn order_of_documents_makes_no_difference() {
    let documents = [snapshot(NOW - Seconds(3), [1]), snapshot(NOW, [2]), snapshot(NOW - Seconds(9), [1, 3])];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let bench = Bench::new();
        for index in order.into_iter().chain(order) {
            bench.hear(&documents[index]).unwrap();
        }
        assert_eq!(bench.state(), (3, 0, Some(0)), "{order:?}");
        assert!((1..=3).all(|number| bench.is_revoked(number)));
    }
}

#[test]
fn older_document_adds_and_does_not_turn_the_time_back() {
    let bench = Bench::new();
    bench.hear(&snapshot(NOW, [])).unwrap();
    bench.hear(&snapshot(NOW - Seconds(100), [1])).unwrap();
    assert_eq!(bench.state(), (1, 0, Some(0)));
}

#[test]
fn delta_that_comes_alone_adds_and_does_not_move_the_time() {
    let bench = Bench::new();
    assert_eq!(bench.hear(&delta(0, NOW_MS, [1])), Err(FeedError::Gap), "nothing was known before");
    assert_eq!(bench.state(), (1, 0, None));
    bench.hear(&snapshot(NOW - Seconds(10), [])).unwrap();
    // It may be of another replica than the snapshot, with another clock: their times cannot be compared.
    let heard = NOW_MS - 10_000;
    for (since, session) in [(heard + 1, 2), (heard, 3), (heard - 1, 4), (0, 5)] {
        assert_eq!(bench.hear(&delta(since, NOW_MS, [session])), Err(FeedError::Gap), "since {since}");
        assert!(bench.is_revoked(session));
        assert_eq!(bench.staleness(), Some(10), "since {since}");
    }
    bench.hear(&snapshot(NOW - Seconds(4), [])).unwrap();
    assert_eq!(bench.state(), (5, 0, Some(4)));
}

#[test]
fn session_is_forgotten_some_time_after_its_last_token_and_not_before() {
    let bench = Bench::new();
    bench.hear(&snapshot(NOW, [1])).unwrap();
    // Nothing is dropped while nobody listens; hearing the next thousand makes room.
    bench.clock.advance(Seconds(430));
    bench.hear(&snapshot(bench.clock.now(), 1000..2000)).unwrap();
    assert!(bench.is_revoked(1));
    bench.clock.advance(Seconds(50));
    bench.hear(&snapshot(bench.clock.now(), 3000..5000)).unwrap();
    assert!(!bench.is_revoked(1));
    assert_eq!(bench.state().0, 3000);
}

#[test]
fn revoked_key_signs_nothing_any_more_neither_token_nor_document() {
    let thief = TestIssuer::new(ISSUER, AUDIENCE);
    let bench = Bench::trusting(TestIssuer::new(ISSUER, AUDIENCE), &[&thief]);
    bench.hear_text(&signed(&thief, &snapshot(NOW - Seconds(9), [1]))).unwrap();
    bench.hear(&with(snapshot(NOW, []), "kids", json!([thief.jwk().kid(), "unknown"]))).unwrap();
    assert_eq!(bench.state(), (1, 2, Some(0)));
    let later = NOW + Seconds(10);
    let refused = Err(FeedError::Document(Reason::RevokedKey));
    assert_eq!(bench.hear_text(&signed(&thief, &snapshot(later, [2]))), refused);
    assert_eq!(bench.state(), (1, 2, Some(0)));
    let token = thief.sign(&thief.claims(NOW));
    let error = bench.verifier.verify_now::<NoExtra>(&token).unwrap_err();
    assert_eq!(error, VerifyError::Invalid(Reason::RevokedKey));
    bench.clock.advance(Seconds(1_000_000));
    bench.hear(&snapshot(bench.clock.now(), 0..2000)).unwrap();
    assert_eq!(bench.state().1, 2, "a key is never forgotten");
}

#[test]
fn name_of_a_revoked_key_need_not_be_a_key_of_the_set() {
    let bench = Bench::new();
    let stranger = TestIssuer::new(ISSUER, AUDIENCE);
    bench.hear(&with(snapshot(NOW, []), "kids", json!([stranger.jwk().kid()]))).unwrap();
    let document = signed(&stranger, &snapshot(NOW, [1]));
    assert_eq!(bench.hear_text(&document), refused(Reason::RevokedKey), "and it costs no fetch");
}

#[test]
fn token_is_not_a_document_and_document_is_not_a_token() {
    let bench = Bench::new();
    let token = bench.issuer.sign(&bench.issuer.claims(NOW));
    assert_eq!(bench.hear_text(&token), refused(Reason::WrongType));

    // Even with the claims of both.
    let mut both = serde_json::to_value(bench.issuer.claims(NOW)).unwrap();
    let document = snapshot(NOW, [1]);
    both.as_object_mut().unwrap().extend(document.as_object().unwrap().clone());
    both["exp"] = (NOW.0 + 300).into();
    let (as_token, as_document) = (bench.issuer.sign(&both), signed(&bench.issuer, &both));
    assert_eq!(bench.hear_text(&as_token), refused(Reason::WrongType));
    let wrong_type = VerifyError::Invalid(Reason::WrongType);
    assert_eq!(bench.verifier.verify_now::<NoExtra>(&as_document).unwrap_err(), wrong_type);
    assert!(bench.verifier.verify_now::<NoExtra>(&as_token).is_ok());
    assert_eq!(bench.hear_text(&as_document), Ok(()));
}

#[test]
fn header_is_held_to_the_rules_of_tokens() {
    let bench = Bench::new();
    let es256 = TestIssuer::es256(ISSUER, AUDIENCE);
    let (kid, foreign_kid) = (bench.issuer.jwk().kid().clone(), es256.jwk().kid().clone());
    let claims = snapshot(NOW, [1]).to_string();
    let good = json!({ "typ": "revocations+jwt", "alg": "EdDSA", "kid": kid });
    for (header, reason) in [
        (with(good.clone(), "typ", "at+jwt"), Reason::WrongType),
        (with(good.clone(), "typ", "JWT"), Reason::WrongType),
        (with(good.clone(), "typ", "revocations+jws"), Reason::WrongType),
        (with(good.clone(), "typ", "x/revocations+jwt"), Reason::WrongType),
        (json!({ "alg": "EdDSA", "kid": kid }), Reason::WrongType),
        (with(good.clone(), "alg", "none"), Reason::UnsupportedAlgorithm),
        (with(good.clone(), "alg", "HS256"), Reason::UnsupportedAlgorithm),
        (with(good.clone(), "alg", "ES256"), Reason::WrongAlgorithm),
        (json!({ "typ": "revocations+jwt", "alg": "EdDSA" }), Reason::MissingKid),
        (with(good.clone(), "kid", foreign_kid.as_str()), Reason::UnknownKey),
        (with(good.clone(), "kid", 7), Reason::BadHeader),
        (with(good.clone(), "crit", json!(["x"])), Reason::CriticalHeader),
        (with(good.clone(), "b64", false), Reason::CriticalHeader),
    ] {
        let document = bench.issuer.sign_bytes(header.to_string(), &claims);
        assert_eq!(bench.hear_text(&document), refused(reason), "{header}");
    }
    let twice = format!(r#"{{"typ":"revocations+jwt","typ":"revocations+jwt","alg":"EdDSA","kid":"{kid}"}}"#);
    assert_eq!(bench.hear_text(&bench.issuer.sign_bytes(twice, &claims)), refused(Reason::DuplicateName));
    assert_eq!(bench.state(), (0, 0, None));
    for typ in ["revocations+jwt", "Revocations+JWT", "application/revocations+jwt"] {
        let header = with(good.clone(), "typ", typ).to_string();
        assert_eq!(bench.hear_text(&bench.issuer.sign_bytes(header, &claims)), Ok(()), "{typ}");
    }
}

#[test]
fn signature_must_be_the_keys() {
    let bench = Bench::new();
    let stranger = TestIssuer::new(ISSUER, AUDIENCE);
    let claims = snapshot(NOW, [1]).to_string();
    let forged = stranger.sign_bytes(header(&bench.issuer).to_string(), &claims);
    assert_eq!(bench.hear_text(&forged), refused(Reason::BadSignature));
    let good = signed(&bench.issuer, &snapshot(NOW, [1]));
    let other = signed(&bench.issuer, &snapshot(NOW, [2]));
    let part = |document: &str, index: usize| document.split('.').nth(index).unwrap().to_owned();
    let spliced = [part(&good, 0), part(&good, 1), part(&other, 2)].join(".");
    assert_eq!(bench.hear_text(&spliced), refused(Reason::BadSignature));
    assert_eq!(bench.state(), (0, 0, None));
}

#[test]
fn anything_but_three_parts_of_canonical_base64url_is_refused() {
    let bench = Bench::new();
    let good = signed(&bench.issuer, &snapshot(NOW, [1]));
    for bad in
        ["", ".", "..", "a.b", &good[1..], &format!("{good}."), &format!("{good}="), &format!(" {good}")]
    {
        let answer = bench.hear_text(bad);
        let is_refused = matches!(answer, Err(FeedError::Document(Reason::NotJws | Reason::BadHeader)));
        assert!(is_refused, "{bad:?} {answer:?}");
    }
    assert_eq!(bench.state(), (0, 0, None));
}

#[test]
fn claims_are_typed_required_and_stand_once() {
    let bench = Bench::new();
    let good = snapshot(NOW, [1]);
    for name in ["iss", "iat", "exp", "as_of", "keep_for", "sids", "kids"] {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        bench.refuses(&claims, Reason::MissingClaim(name));
        bench.refuses(&with(good.clone(), name, Value::Null), Reason::BadClaim(name));
        bench.refuses(&with(good.clone(), name, json!({})), Reason::BadClaim(name));
        let twice = good.to_string().replacen('{', &format!("{{\"{name}\":{},", good[name]), 1);
        assert_eq!(bench.hear_json(&twice), refused(Reason::DuplicateName), "{name}");
    }
    for (name, bad) in [
        ("iss", json!(7)),
        ("iss", json!([ISSUER])),
        ("iat", json!("1")),
        ("exp", json!("1")),
        ("as_of", json!(NOW_MS.to_string())),
        ("as_of", json!(1.5)),
        ("as_of", json!(-1)),
        ("as_of", json!(1e300)),
        ("keep_for", json!(0.5)),
        ("keep_for", json!(-1)),
        ("since", json!(-1)),
        ("since", json!("0")),
        ("since", json!(null)),
        ("sids", json!([])),
        ("kids", json!("stolen")),
        ("kids", json!([7])),
        ("kids", json!([""])),
        ("kids", json!(["x".repeat(257)])),
    ] {
        bench.refuses(&with(good.clone(), name, bad), Reason::BadClaim(name));
    }
    let twice = good.to_string().replacen('{', r#"{"new":1,"n\u0065w":2,"#, 1);
    assert_eq!(bench.hear_json(&twice), refused(Reason::DuplicateName));
    for bad in ["", "[]", "null", "7", "{", &format!("{good} x"), "\u{FEFF}{}"] {
        assert_eq!(bench.hear_json(bad), refused(Reason::BadClaims), "{bad:?}");
    }
    assert_eq!(bench.state(), (0, 0, None));
    assert_eq!(bench.hear(&with(good, "later", json!({ "x": [1] }))), Ok(()), "unknown names are accepted");
}

#[test]
fn claims_in_another_encoding_are_refused() {
    let bench = Bench::new();
    let mut claims = snapshot(NOW, [1]).to_string().into_bytes();
    let end = claims.len() - 1;
    claims.splice(end.., *b",\"x\":\"\xff\"}");
    let document = bench.issuer.sign_bytes(header(&bench.issuer).to_string(), claims);
    assert_eq!(bench.hear_text(&document), refused(Reason::BadClaims));
}

#[test]
fn session_ids_are_whole_and_in_canonical_base64url() {
    let bench = Bench::new();
    let good = sids([1]);
    for bad in [
        &good[..good.len() - 2],
        &format!("{good}AAAA"),
        &format!("{good}=="),
        &good.replacen(|_| true, "+", 1),
        &good.replacen(|_| true, " ", 1),
        "A",
    ] {
        bench.refuses(&with(snapshot(NOW, []), "sids", bad), Reason::BadClaim("sids"));
    }
    assert_eq!(bench.hear(&with(snapshot(NOW, []), "sids", "")), Ok(()));
    let unsorted = with(snapshot(NOW, []), "sids", sids([2, 1, 2, 2]));
    assert_eq!(bench.hear(&unsorted), Ok(()), "the reader does not depend on the order");
    assert_eq!(bench.state().0, 2);
}

#[test]
fn issuer_is_compared_exactly() {
    let bench = Bench::new();
    for other in ["", "https://auth.example.com/", "https://AUTH.example.com", "http://auth.example.com"] {
        bench.refuses(&with(snapshot(NOW, [1]), "iss", other), Reason::WrongIssuer);
    }
}

#[test]
fn document_ends_at_exp_and_the_leeway() {
    let exp = NOW + Seconds(86_400);
    for (now, good) in [(exp + Seconds(29), true), (exp + Seconds(30), false), (exp + Seconds(31), false)] {
        let bench = Bench::new();
        bench.clock.set(now);
        let answer = bench.hear(&snapshot(NOW, [1]));
        let expected = if good { Ok(()) } else { refused(Reason::Expired { exp, now }) };
        assert_eq!(answer, expected);
        assert_eq!(bench.state().0, usize::from(good));
    }
}

#[test]
fn document_from_the_future_is_refused_beyond_the_leeway_and_two_seconds() {
    let most = i64::MAX - NOW_MS;
    for (leeway, ahead, good) in [
        (30, 32_000, true),
        (30, 32_001, false),
        (30, most, false),
        (0, 5, true),
        (0, 2000, true),
        (0, 2001, false),
        (0, most, false),
    ] {
        let bench = Bench::with_leeway(Seconds(leeway));
        let answer = bench.hear(&with(snapshot(NOW, [1]), "as_of", NOW_MS + ahead));
        assert_eq!(answer.is_ok(), good, "as_of {ahead} ms ahead, leeway {leeway} s");
        assert_eq!(bench.state(), if good { (1, 0, Some(0)) } else { (0, 0, None) });
    }
    for (leeway, ahead, good) in
        [(30, 32, true), (30, 33, false), (0, 2, true), (0, 3, false), (0, 1_000_000, false)]
    {
        let (iat, bench) = (NOW + Seconds(ahead), Bench::with_leeway(Seconds(leeway)));
        let claims = with(snapshot(NOW, [1]), "iat", iat.0);
        let expected = if good { Ok(()) } else { refused(Reason::IssuedInFuture { iat, now: NOW }) };
        assert_eq!(bench.hear(&claims), expected, "iat {ahead} s ahead, leeway {leeway} s");
    }
}

#[test]
fn extreme_numbers_never_wrap() {
    let bench = Bench::new();
    bench.hear(&with(snapshot(NOW, [1]), "keep_for", i64::MAX)).unwrap();
    bench.hear(&with(snapshot(NOW, [2]), "exp", i64::MAX)).unwrap();
    bench.hear(&with(snapshot(NOW, [3]), "iat", i64::MIN)).unwrap();
    assert!((1..=3).all(|number| bench.is_revoked(number)));
    assert_eq!(bench.hear(&with(snapshot(NOW, []), "since", i64::MAX)), Err(FeedError::Gap));
    bench.clock.set(UnixTime(i64::MIN));
    assert!(bench.hear(&snapshot(NOW, [5])).is_err());
    bench.clock.set(UnixTime(i64::MAX));
    assert!(bench.hear(&snapshot(NOW, [5])).is_err());
    assert!(bench.staleness().is_some());
}

#[test]
fn document_larger_than_16_mib_is_refused_unread() {
    let bench = Bench::new();
    assert_eq!(bench.hear_text(&"x".repeat(16 << 20)), refused(Reason::NotJws));
    assert_eq!(bench.hear_text(&"x".repeat((16 << 20) + 1)), Err(FeedError::TooLarge));
}

#[test]
fn staleness_follows_the_wall_clock() {
    let bench = Bench::new();
    bench.hear(&snapshot(NOW, [1])).unwrap();
    bench.clock.advance(Seconds(7));
    assert_eq!(bench.staleness(), Some(7));
    bench.clock.set(NOW + Seconds(3600));
    assert_eq!(bench.staleness(), Some(3600));
    bench.clock.set(NOW - Seconds(3600));
    assert_eq!(bench.staleness(), Some(0));
    assert!(bench.is_revoked(1));
}

#[test]
fn verifier_without_a_feed_says_so() {
    let feed = Bench::new().verifier.status().feed;
    assert_eq!((feed.state, feed.staleness, feed.losses, feed.last_error), (FeedState::Off, None, 0, None));
}

#[test]
fn no_message_contains_the_document() {
    let bench = Bench::new();
    let canary = "Q2FuYXJ5";
    for document in [format!("{canary}.{canary}.{canary}"), canary.to_owned()] {
        let error = bench.hear_text(&document).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(canary), "{error:?}");
    }
    let error = bench.hear(&with(snapshot(NOW, []), "iss", canary)).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(canary), "{error:?}");
}
