//! One test for each reason why a token is refused. Keys are fresh in every test; nothing is canned.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testkit::{AUDIENCE, ISSUER, NOW};
use verifier::testing::TestIssuer;
use verifier::{
    AccessClaims, Algorithm, Expected, KeySet, NoExtra, Reason, Seconds, UnixTime, Verified, VerifyError,
};

/// An issuer and its keys, and a token to be spoilt in one way.
struct Bench {
    issuer: TestIssuer,
    keys: KeySet,
    expected: Expected,
}

impl Bench {
    fn new() -> Self {
        Self::with(TestIssuer::new(ISSUER, AUDIENCE))
    }

    fn with(issuer: TestIssuer) -> Self {
        let keys = KeySet::from_jwks(&issuer.jwks()).unwrap();
        Self { issuer, keys, expected: Expected::new(ISSUER, [AUDIENCE]).with_leeway(Seconds(0)) }
    }

    fn verify(&self, token: &str, now: UnixTime) -> Result<Verified, Reason> {
        match self.expected.verify(token, &self.keys, now) {
            Ok(verified) => Ok(verified),
            Err(VerifyError::Invalid(reason)) => Err(reason),
            Err(other) => panic!("offline checks say nothing else: {other}"),
        }
    }

    fn refusal(&self, token: &str) -> Reason {
        self.verify(token, NOW).expect_err("token should be refused")
    }

    fn header(&self) -> Value {
        let key = self.issuer.jwk();
        json!({ "typ": "at+jwt", "alg": key.algorithm(), "kid": key.kid() })
    }

    fn claims(&self) -> Value {
        serde_json::to_value(self.issuer.claims(NOW)).unwrap()
    }

    /// A token whose header is this text.
    fn with_header(&self, header: &str) -> String {
        self.issuer.sign_bytes(header, self.claims().to_string())
    }

    /// A token whose claims are this text.
    fn with_claims(&self, claims: &str) -> String {
        self.issuer.sign_bytes(self.header().to_string(), claims)
    }

    fn with_header_member(&self, name: &str, value: Value) -> String {
        self.with_header(&changed(self.header(), name, value).to_string())
    }

    fn with_claim(&self, name: &str, value: Value) -> String {
        self.with_claims(&changed(self.claims(), name, value).to_string())
    }

    fn without_claim(&self, name: &str) -> String {
        self.with_claims(&without(self.claims(), name).to_string())
    }

    /// As `with_claim`, for numbers that `Value` cannot hold.
    fn with_raw_claim(&self, name: &str, value: &str) -> String {
        let rest = without(self.claims(), name).to_string();
        self.with_claims(&rest.replacen('{', &format!("{{{name:?}:{value},"), 1))
    }
}

fn changed(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name);
    object
}

#[test]
fn good_tokens_of_every_kind_are_accepted() {
    for issuer in [TestIssuer::new(ISSUER, AUDIENCE), TestIssuer::es256(ISSUER, AUDIENCE)] {
        let bench = Bench::with(issuer);
        let verified = bench.verify(&bench.issuer.sign(&bench.issuer.claims(NOW)), NOW).unwrap();
        assert_eq!(verified.subject(), "alice");
        assert_eq!(verified.kid(), bench.issuer.jwk().kid());
        assert_eq!(verified.registered(), &bench.issuer.claims(NOW));
        assert!(
            verified.has_permission("ping")
                && !verified.has_permission("pin")
                && !verified.has_permission("")
        );
    }
}

#[test]
fn header_may_be_spelt_in_any_order_with_any_unknown_name() {
    let bench = Bench::new();
    let kid = bench.issuer.jwk().kid().to_string();
    for header in [
        json!({ "typ": "AT+JWT", "alg": "EdDSA", "kid": kid }).to_string(),
        json!({ "typ": "application/at+jwt", "alg": "EdDSA", "kid": kid }).to_string(),
        json!({ "typ": "at+jwt", "alg": "Ed25519", "kid": kid }).to_string(),
        format!(r#" {{ "kid" : "{kid}" , "alg" : "EdDSA" , "typ" : "at+jwt" }} "#),
        format!(r#"{{"kid":"{kid}","alg":"EdDSA","typ":"at+jwt"}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}"#),
        format!(r#"{{"\u0061lg":"EdDSA","typ":"at\u002bjwt","kid":"{kid}"}}"#),
        json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": kid, "x": { "y": [1, null] }, "zip": "DEF" })
            .to_string(),
    ] {
        assert!(bench.verify(&bench.with_header(&header), NOW).is_ok(), "{header}");
    }
}

#[test]
fn token_longer_than_8_kib_is_refused_unread() {
    let bench = Bench::new();
    assert_eq!(bench.refusal(&"a".repeat(8 * 1024 + 1)), Reason::TooLong);
    assert_eq!(bench.refusal(&"a".repeat(8 * 1024)), Reason::NotJws);
    let long = bench.with_claim("note", "x".repeat(5000).into());
    assert!(long.len() <= 8192 && bench.verify(&long, NOW).is_ok());
}

#[test]
fn anything_but_three_parts_of_canonical_base64url_is_refused() {
    let bench = Bench::new();
    let good = bench.issuer.sign(&bench.issuer.claims(NOW));
    let parts: Vec<_> = good.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    // An Ed25519 signature ends in a group of two characters, of which the last has four spare bits.
    let (stem, last) = signature.split_at(signature.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let with_spare_bit = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    for bad in [
        String::new(),
        ".".into(),
        header.into(),
        format!("{header}.{claims}"),
        format!("{good}."),
        format!("{good}.{signature}"),
        format!(".{good}"),
        format!("{header}..{claims}.{signature}"),
        format!("{good}="),
        format!("{good}=="),
        format!("{good} "),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{header}.{claims}\n.{signature}"),
        format!("{header}.{claims}.{stem}{with_spare_bit}"),
        format!("{header}.{claims}.{stem}+"),
        format!("{header}.{claims}.{stem}/"),
        format!("{header}.{claims}.{stem}é"),
        json!({ "protected": header, "payload": claims, "signature": signature }).to_string(),
    ] {
        assert_eq!(bench.refusal(&bad), Reason::NotJws, "{bad:?}");
    }
}

#[test]
fn header_that_is_not_an_object_of_the_right_types_is_refused() {
    let bench = Bench::new();
    let kid = bench.issuer.jwk().kid().to_string();
    for bad in [
        "",
        "null",
        "[]",
        "\"at+jwt\"",
        "{",
        "{}x",
        "{} {}",
        "\u{feff}{}",
        "{\"alg\":\"EdDSA\",}",
        "{'alg':'EdDSA'}",
        "{\"alg\":NaN}",
    ] {
        assert_eq!(bench.refusal(&bench.with_header(bad)), Reason::BadHeader, "{bad}");
    }
    let not_utf8 = bench.issuer.sign_bytes(b"{\"typ\":\"\xff\"}", "{}");
    assert_eq!(bench.refusal(&not_utf8), Reason::BadHeader);
    for name in ["alg", "kid", "typ"] {
        for value in [json!(null), json!(1), json!(true), json!([bench.header()[name]]), json!({})] {
            assert_eq!(bench.refusal(&bench.with_header_member(name, value)), Reason::BadHeader, "{name}");
        }
    }
    for bad in [String::new(), "k".repeat(257)] {
        assert_eq!(bench.refusal(&bench.with_header_member("kid", bad.into())), Reason::BadHeader);
    }
    assert_eq!(bench.refusal(&bench.with_header_member("kid", "k".repeat(256).into())), Reason::UnknownKey);
    let deep = format!(
        r#"{{"typ":"at+jwt","alg":"EdDSA","kid":"{kid}","x":{}1{}}}"#,
        "[".repeat(500),
        "]".repeat(500)
    );
    assert_eq!(bench.refusal(&bench.with_header(&deep)), Reason::BadHeader);
}

#[test]
fn duplicate_member_is_refused() {
    let bench = Bench::new();
    let (header, claims) = (bench.header().to_string(), bench.claims().to_string());
    let twice = |object: &str, first: &str| object.replacen('{', &format!("{{{first},"), 1);
    for first in [
        r#""alg":"EdDSA""#,
        r#""alg":"none""#,
        r#""kid":"other""#,
        r#""typ":"at+jwt""#,
        r#""\u0061lg":"EdDSA""#,
        r#""x":1,"x":1"#,
        r#""x":1,"\u0078":2"#,
    ] {
        assert_eq!(
            bench.refusal(&bench.with_header(&twice(&header, first))),
            Reason::DuplicateName,
            "{first}"
        );
    }
    for first in [
        r#""sub":"alice""#,
        r#""sub":"mallory""#,
        r#""exp":1"#,
        r#""aud":[]"#,
        r#""s\u0075b":"mallory""#,
        r#""role":"a","role":"b""#,
        r#""role":"a","r\u006fle":"b""#,
    ] {
        assert_eq!(
            bench.refusal(&bench.with_claims(&twice(&claims, first))),
            Reason::DuplicateName,
            "{first}"
        );
    }
}

#[test]
fn critical_extension_is_refused_whatever_it_says() {
    let bench = Bench::new();
    for value in [json!(["exp"]), json!([]), json!(null), json!("b64"), json!(["b64"]), json!({})] {
        assert_eq!(bench.refusal(&bench.with_header_member("crit", value)), Reason::CriticalHeader);
    }
    assert_eq!(bench.refusal(&bench.with_header_member("b64", json!(false))), Reason::CriticalHeader);
}

#[test]
fn other_types_of_token_are_refused() {
    let bench = Bench::new();
    for typ in
        ["JWT", "jwt", "at+jwt ", "at", "dpop+jwt", "revocations+jwt", "application/jwt", "text/at+jwt", ""]
    {
        assert_eq!(bench.refusal(&bench.with_header_member("typ", typ.into())), Reason::WrongType, "{typ}");
    }
    assert_eq!(
        bench.refusal(&bench.with_header(&without(bench.header(), "typ").to_string())),
        Reason::WrongType
    );
}

#[test]
fn algorithm_that_is_not_ours_is_refused() {
    let bench = Bench::new();
    for alg in ["none", "None", "NONE", "HS256", "PS256", "ES384", "Ed448", "eddsa", "EdDSA ", ""] {
        assert_eq!(
            bench.refusal(&bench.with_header_member("alg", alg.into())),
            Reason::UnsupportedAlgorithm,
            "{alg}"
        );
    }
    let token = bench.with_header(&without(bench.header(), "alg").to_string());
    assert_eq!(bench.refusal(&token), Reason::UnsupportedAlgorithm);
}

#[test]
fn algorithm_of_another_kind_of_key_is_refused() {
    let bench = Bench::new();
    for alg in ["ES256", "RS256"] {
        assert_eq!(bench.refusal(&bench.with_header_member("alg", alg.into())), Reason::WrongAlgorithm);
    }
    let bench = Bench::with(TestIssuer::es256(ISSUER, AUDIENCE));
    for alg in ["EdDSA", "Ed25519", "RS256"] {
        assert_eq!(bench.refusal(&bench.with_header_member("alg", alg.into())), Reason::WrongAlgorithm);
    }
}

#[test]
fn key_must_be_named_exactly() {
    let bench = Bench::new();
    let kid = bench.issuer.jwk().kid().to_string();
    assert_eq!(
        bench.refusal(&bench.with_header(&without(bench.header(), "kid").to_string())),
        Reason::MissingKid
    );
    for other in
        [kid.to_uppercase(), format!("{kid} "), format!(" {kid}"), format!("{kid}\0"), kid[1..].to_owned()]
    {
        assert_eq!(bench.refusal(&bench.with_header_member("kid", other.into())), Reason::UnknownKey);
    }
    let stranger = TestIssuer::new(ISSUER, AUDIENCE);
    assert_eq!(bench.refusal(&stranger.sign(&stranger.claims(NOW))), Reason::UnknownKey);
}

#[test]
fn key_in_the_token_is_not_used() {
    let bench = Bench::new();
    let stranger = TestIssuer::new(ISSUER, AUDIENCE);
    let header = changed(bench.header(), "jwk", serde_json::to_value(stranger.jwk()).unwrap());
    let token = stranger.sign_bytes(header.to_string(), bench.claims().to_string());
    assert_eq!(bench.refusal(&token), Reason::BadSignature);
}

#[test]
fn signature_over_anything_else_is_refused() {
    for issuer in [TestIssuer::new(ISSUER, AUDIENCE), TestIssuer::es256(ISSUER, AUDIENCE)] {
        let bench = Bench::with(issuer);
        let good = bench.issuer.sign(&bench.issuer.claims(NOW));
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let (r, s) = signature.split_at(32);
        for bad in [
            vec![],
            vec![0; 64],
            signature[..63].to_vec(),
            [&signature[..], &[0]].concat(),
            [&[0], &signature[..]].concat(),
            [s, r].concat(),
            [&[0; 32], s].concat(),
            [r, &[0; 32]].concat(),
        ] {
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&bad));
            assert_eq!(bench.refusal(&token), Reason::BadSignature, "{bad:?}");
        }
        let mallory = changed(bench.claims(), "sub", "mallory".into());
        let other = bench.issuer.sign(&mallory);
        let (other, _) = other.rsplit_once('.').unwrap();
        let token = format!("{other}.{}", URL_SAFE_NO_PAD.encode(&signature));
        assert_eq!(bench.refusal(&token), Reason::BadSignature);
    }
}

/// What the claims say is nobody's business before the signature is good.
#[test]
fn signature_is_checked_before_the_claims() {
    let bench = Bench::new();
    let stranger = TestIssuer::new(ISSUER, AUDIENCE);
    for claims in ["not json", "{}", r#"{"exp":1}"#] {
        assert_eq!(
            bench.refusal(&stranger.sign_bytes(bench.header().to_string(), claims)),
            Reason::BadSignature
        );
    }
}

#[test]
fn claims_that_are_no_object_are_refused() {
    let bench = Bench::new();
    let good = bench.claims().to_string();
    for bad in [
        String::new(),
        "null".into(),
        "[]".into(),
        "\"x\"".into(),
        format!("[{good}]"),
        format!("{good}{good}"),
        format!("\u{feff}{good}"),
        good.replacen('{', &format!("{{\"x\":{}1{},", "[".repeat(500), "]".repeat(500)), 1),
        good.replacen('{', "{\"x\":1e400,", 1),
        good.replacen('{', "{\"x\":\"\\ud800\",", 1),
    ] {
        assert_eq!(bench.refusal(&bench.with_claims(&bad)), Reason::BadClaims, "{bad}");
    }
    let not_utf8 = bench.issuer.sign_bytes(bench.header().to_string(), b"{\"sub\":\"\xff\"}");
    assert_eq!(bench.refusal(&not_utf8), Reason::BadClaims);
}

#[test]
fn claim_of_the_wrong_type_is_refused_and_never_counts_as_absent() {
    let bench = Bench::new();
    let others = [json!(null), json!(true), json!({}), json!([1]), json!([["x"]])];
    for name in ["iss", "sub", "jti", "sid", "client_id", "scope"] {
        for value in others.iter().cloned().chain([json!(1), json!(["x"])]) {
            assert_eq!(bench.refusal(&bench.with_claim(name, value)), Reason::BadClaim(name));
        }
    }
    for name in ["aud", "roles", "amr"] {
        for value in others.iter().cloned().chain([json!(1), json!([AUDIENCE, 1])]) {
            assert_eq!(bench.refusal(&bench.with_claim(name, value)), Reason::BadClaim(name));
        }
    }
    for name in ["exp", "iat", "nbf", "auth_time"] {
        for value in others.iter().cloned().chain([json!("1800000001"), json!("")]) {
            assert_eq!(bench.refusal(&bench.with_claim(name, value)), Reason::BadClaim(name));
        }
        for raw in ["1e400", "-1e400", "1e300", "9223372036854775808", "18446744073709551616", "NaN", "+1"] {
            assert_eq!(
                bench.refusal(&bench.with_raw_claim(name, raw)),
                Reason::BadClaim(name),
                "{name} {raw}"
            );
        }
    }
}

#[test]
fn required_claims_are_required_and_not_empty() {
    let bench = Bench::new();
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id"] {
        assert_eq!(bench.refusal(&bench.without_claim(name)), Reason::MissingClaim(name));
    }
    for name in ["iss", "sub", "jti", "client_id"] {
        assert_eq!(bench.refusal(&bench.with_claim(name, "".into())), Reason::MissingClaim(name));
    }
    for name in ["nbf", "sid", "scope", "roles", "amr", "auth_time"] {
        assert!(bench.verify(&bench.without_claim(name), NOW).is_ok(), "{name} is optional");
    }
}

#[test]
fn issuer_is_compared_exactly() {
    let bench = Bench::new();
    for other in [
        "https://auth.example.com/",
        "https://AUTH.example.com",
        "http://auth.example.com",
        "auth.example.com",
    ] {
        assert_eq!(bench.refusal(&bench.with_claim("iss", other.into())), Reason::WrongIssuer);
    }
}

#[test]
fn audience_must_be_a_member() {
    let bench = Bench::new();
    for good in [json!(AUDIENCE), json!([AUDIENCE]), json!(["other", AUDIENCE])] {
        assert!(bench.verify(&bench.with_claim("aud", good), NOW).is_ok());
    }
    for other in [
        json!("other"),
        json!("orders"),
        json!("orders-api "),
        json!("*"),
        json!(""),
        json!([]),
        json!(["other"]),
    ] {
        assert_eq!(bench.refusal(&bench.with_claim("aud", other)), Reason::WrongAudience);
    }
    let nobody = Expected::new(ISSUER, [""; 0]);
    let token = bench.issuer.sign(&bench.issuer.claims(NOW));
    assert!(nobody.verify::<NoExtra>(&token, &bench.keys, NOW).is_err());
}

#[test]
fn token_is_valid_in_a_half_open_interval_widened_by_the_leeway() {
    let Bench { issuer, keys, .. } = Bench::new();
    let (start, end) = (NOW, NOW + Seconds(300));
    let token = issuer.sign(&AccessClaims { iat: start - Seconds(1000), ..issuer.claims(NOW) });
    for leeway in [0, 1, 30, 120] {
        let expected = Expected::new(ISSUER, [AUDIENCE]).with_leeway(Seconds(leeway));
        let verify = |now: UnixTime| expected.verify::<NoExtra>(&token, &keys, now).map(|_| ());
        let leeway = Seconds(leeway);
        let early = start - leeway - Seconds(1);
        assert_eq!(verify(early), Err(Reason::NotYetValid { nbf: start, now: early }.into()));
        for now in [start - leeway, start - leeway + Seconds(1), end + leeway - Seconds(1)] {
            assert_eq!(verify(now), Ok(()));
        }
        for now in [end + leeway, end + leeway + Seconds(1), UnixTime(i64::MAX)] {
            assert_eq!(verify(now), Err(Reason::Expired { exp: end, now }.into()));
        }
    }
}

#[test]
fn leeway_is_capped_at_two_minutes_and_never_negative() {
    let Bench { issuer, keys, .. } = Bench::new();
    let token = issuer.sign(&issuer.claims(NOW));
    let ends = |leeway| {
        let expected = Expected::new(ISSUER, [AUDIENCE]).with_leeway(Seconds(leeway));
        (0..1000).find(|late| expected.verify::<NoExtra>(&token, &keys, NOW + Seconds(300 + late)).is_err())
    };
    assert_eq!(
        (ends(-5), ends(0), ends(120), ends(121), ends(i64::MAX)),
        (Some(0), Some(0), Some(120), Some(120), Some(120))
    );
}

#[test]
fn token_from_the_future_is_refused() {
    let bench = Bench::new();
    let issued_at = |iat: UnixTime| bench.issuer.sign(&AccessClaims { iat, ..bench.issuer.claims(NOW) });
    assert!(bench.verify(&issued_at(NOW - Seconds(1)), NOW).is_ok());
    assert!(bench.verify(&issued_at(NOW), NOW).is_ok());
    let iat = NOW + Seconds(1);
    assert_eq!(bench.refusal(&issued_at(iat)), Reason::IssuedInFuture { iat, now: NOW });
}

#[test]
fn token_that_lives_longer_than_an_hour_is_refused() {
    let bench = Bench::new();
    let life =
        |life| bench.issuer.sign(&AccessClaims { exp: NOW + Seconds(life), ..bench.issuer.claims(NOW) });
    assert!(bench.verify(&life(3599), NOW).is_ok());
    assert!(bench.verify(&life(3600), NOW).is_ok());
    let refused = Reason::LivesTooLong { life: Seconds(3601), limit: Seconds(3600) };
    assert_eq!(bench.refusal(&life(3601)), refused);
    let strict = Bench { expected: bench.expected.clone().with_max_token_life(Seconds(299)), ..bench };
    assert_eq!(
        strict.refusal(&strict.issuer.sign(&strict.issuer.claims(NOW))),
        Reason::LivesTooLong { life: Seconds(300), limit: Seconds(299) }
    );
}

#[test]
fn fraction_of_a_second_counts() {
    let bench = Bench::new();
    let verify =
        |name, raw: &str, at: i64| bench.verify(&bench.with_raw_claim(name, raw), UnixTime(at)).map(|_| ());
    let (exp, now) = (UnixTime(NOW.0 + 101), UnixTime(NOW.0 + 101));
    assert_eq!(verify("exp", "1800000100.5", NOW.0 + 100), Ok(()), "half a second is left");
    assert_eq!(verify("exp", "1800000100.5", NOW.0 + 101), Err(Reason::Expired { exp, now }));
    assert_eq!(verify("exp", "1.8000001e9", NOW.0 + 99), Ok(()));
    assert_eq!(verify("exp", "1800000100.0", NOW.0 + 99), Ok(()));
    let nbf = UnixTime(NOW.0 + 1);
    assert_eq!(verify("nbf", "1800000000.5", NOW.0), Err(Reason::NotYetValid { nbf, now: NOW }));
    assert_eq!(verify("nbf", "1800000000.5", NOW.0 + 1), Ok(()));
}

#[test]
fn extreme_times_never_wrap() {
    let bench = Bench::new();
    for (name, raw) in [
        ("exp", "9223372036854775807"),
        ("exp", "-9223372036854775808"),
        ("exp", "-1"),
        ("iat", "9223372036854775807"),
        ("iat", "-9223372036854775808"),
        ("nbf", "9223372036854775807"),
    ] {
        for now in [UnixTime(i64::MIN), UnixTime(0), NOW, UnixTime(i64::MAX)] {
            assert!(bench.verify(&bench.with_raw_claim(name, raw), now).is_err(), "{name} {raw}");
        }
    }
}

#[test]
fn expired_token_is_accepted_only_with_danger_accept_expired() {
    let bench = Bench::new();
    let token = bench.issuer.sign(&bench.issuer.claims(NOW));
    let late = NOW + Seconds(86_400);
    assert!(bench.verify(&token, late).is_err());
    let lenient = Bench { expected: bench.expected.clone().danger_accept_expired(), ..bench };
    assert_eq!(lenient.verify(&token, late).unwrap().session_id(), Some("session-1"));
    assert!(lenient.verify(&lenient.with_claim("iss", "https://other".into()), late).is_err());
}

#[test]
fn custom_claims_are_typed() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Tenant {
        tenant: u32,
    }
    let bench = Bench::new();
    let verify = |token: &str| bench.expected.verify::<Tenant>(token, &bench.keys, NOW);
    assert_eq!(verify(&bench.with_claim("tenant", 7.into())).unwrap().claims(), &Tenant { tenant: 7 });
    let refused = Err(VerifyError::Invalid(Reason::CustomClaims));
    assert_eq!(verify(&bench.with_claim("tenant", "7".into())).map(|_| ()), refused);
    assert_eq!(verify(&bench.issuer.sign(&bench.issuer.claims(NOW))).map(|_| ()), refused);
}

#[test]
fn permission_that_is_missing_is_forbidden_not_invalid() {
    let bench = Bench::new();
    let verified = bench.verify(&bench.with_claim("scope", "a  b ".into()), NOW).unwrap();
    assert_eq!(verified.scopes().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(verified.require_permission("b"), Ok(()));
    let forbidden = verified.require_permission("a b").unwrap_err();
    assert_eq!(forbidden.status(), 403);
    assert_eq!(forbidden.www_authenticate().unwrap(), r#"Bearer error="insufficient_scope", scope="a b""#);
}

#[test]
fn no_message_contains_the_token() {
    let bench = Bench::new();
    let secret = "c2VjcmV0LXNlY3JldA";
    for token in [
        secret.to_owned(),
        format!("{secret}.{secret}.{secret}"),
        bench.with_header_member("kid", secret.into()),
        bench.with_header_member("typ", secret.into()),
        bench.with_claim("iss", secret.into()),
        bench.with_claim("aud", secret.into()),
        bench.with_claim("exp", secret.into()),
    ] {
        let error = bench.expected.verify::<NoExtra>(&token, &bench.keys, NOW).unwrap_err();
        let texts = [error.to_string(), format!("{error:?}"), error.www_authenticate().unwrap().into_owned()];
        assert!(texts.iter().all(|text| !text.contains(secret)), "{texts:?}");
    }
}

#[test]
fn algorithms_of_the_test_issuers_differ() {
    assert_eq!(TestIssuer::new(ISSUER, AUDIENCE).algorithm(), Algorithm::EdDSA);
    assert_eq!(TestIssuer::es256(ISSUER, AUDIENCE).algorithm(), Algorithm::ES256);
}
