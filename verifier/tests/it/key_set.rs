//! Which keys of a published set are used, and which sets are refused as a whole.

use serde_json::{Value, json};
use verifier::testing::TestIssuer;
use verifier::{Algorithm, JwkSet, JwksError, KeySet};

const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "orders-api";

fn good() -> Value {
    serde_json::to_value(TestIssuer::new(ISSUER, AUDIENCE).jwk()).unwrap()
}

fn parse(keys: &[Value]) -> Result<KeySet, JwksError> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

fn with(mut key: Value, name: &str, value: Value) -> Value {
    key[name] = value;
    key
}

fn without(mut key: Value, name: &str) -> Value {
    key.as_object_mut().unwrap().remove(name);
    key
}

fn rsa(n: &[u8], e: &[u8]) -> Value {
    serde_json::to_value(verifier::Jwk::rsa(n, e).unwrap()).unwrap()
}

#[test]
fn unusable_key_is_skipped_and_the_others_are_kept() {
    let p256 = serde_json::to_value(TestIssuer::es256(ISSUER, AUDIENCE).jwk()).unwrap();
    let other_x = serde_json::to_value(TestIssuer::es256(ISSUER, AUDIENCE).jwk()).unwrap()["x"].clone();
    let modulus = [0xff; 256];
    let unusable = [
        json!(null),
        json!(7),
        json!([]),
        json!({}),
        without(good(), "kid"),
        without(good(), "alg"),
        without(good(), "kty"),
        without(good(), "crv"),
        without(good(), "x"),
        with(good(), "kid", json!(7)),
        with(good(), "kid", json!("")),
        with(good(), "kid", json!("k".repeat(257))),
        with(good(), "alg", json!("ES256")),
        with(good(), "alg", json!("none")),
        with(good(), "crv", json!("X25519")),
        with(good(), "use", json!("enc")),
        with(good(), "use", json!(null)),
        with(good(), "key_ops", json!(["sign"])),
        with(good(), "key_ops", json!("verify")),
        with(good(), "x", json!("AA")),
        with(good(), "x", json!("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")), // the identity
        with(p256.clone(), "x", other_x),                                        // off the curve
        with(p256.clone(), "alg", json!("ES384")),
        without(p256, "y"),
        rsa(&modulus[..128], &[1, 0, 1]),
        rsa(&modulus, &[1]),
        rsa(&modulus, &[3]),
        json!({ "kid": "secret", "kty": "oct", "alg": "HS256", "k": "AAAA" }),
        json!({ "kid": "future", "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA" }),
    ];
    for key in unusable {
        let wanted = good();
        let keys = parse(&[key.clone(), wanted.clone()]).unwrap();
        assert_eq!(keys.len(), 1, "{key}");
        assert!(keys.find(wanted["kid"].as_str().unwrap()).is_some(), "{key}");
    }
}

#[test]
fn key_with_a_private_member_is_skipped_whatever_the_member_holds() {
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        for value in [json!("AA"), json!(null), json!([])] {
            assert!(parse(&[with(good(), name, value)]).unwrap().is_empty(), "{name}");
        }
    }
}

#[test]
fn members_that_are_unknown_or_optional_do_no_harm() {
    let more = with(with(good(), "x5t", json!("AA")), "key_ops", json!(["sign", "verify"]));
    for key in [without(good(), "use"), with(good(), "alg", json!("Ed25519")), more] {
        assert_eq!(parse(std::slice::from_ref(&key)).unwrap().len(), 1, "{key}");
    }
    let key = good();
    let keys =
        KeySet::parse(json!({ "keys": [key], "keys_version": 7, "x": 1 }).to_string().as_bytes()).unwrap();
    assert_eq!((keys.len(), keys.keys_version()), (1, Some(7)));
    assert_eq!(keys.find(key["kid"].as_str().unwrap()).unwrap().algorithm(), Algorithm::EdDSA);
}

#[test]
fn version_is_read_under_its_name_and_under_that_of_the_release_before() {
    let version = |json: &str| KeySet::parse(json.as_bytes()).unwrap().keys_version();
    assert_eq!(version(r#"{"keys":[],"keys_version":7,"auth_ring":6}"#), Some(7));
    assert_eq!(version(r#"{"keys":[],"auth_ring":6}"#), Some(6));
    assert_eq!(version(r#"{"keys":[]}"#), None);
}

#[test]
fn leading_zero_of_an_rsa_number_is_dropped() {
    let modulus = [0xff; 256];
    let padded = rsa(&[&[0], &modulus[..]].concat(), &[0, 1, 0, 1]);
    assert_eq!(padded, rsa(&modulus, &[1, 0, 1]));
    assert_eq!(parse(&[padded]).unwrap().len(), 1);
}

#[test]
fn duplicate_kid_refuses_the_set_even_if_neither_key_is_usable() {
    let (one, two) = (good(), good());
    let kid = one["kid"].clone();
    let secret = json!({ "kid": kid, "kty": "oct", "alg": "HS256", "k": "AAAA" });
    for pair in [
        [one.clone(), one.clone()],
        [one.clone(), with(two, "kid", kid.clone())],
        [secret.clone(), one],
        [secret.clone(), secret],
    ] {
        assert_eq!(parse(&pair).unwrap_err(), JwksError::DuplicateKid(kid.as_str().unwrap().into()));
    }
    let jwk = TestIssuer::new(ISSUER, AUDIENCE).jwk();
    let twice = JwkSet { keys: vec![jwk.clone(), jwk], keys_version: None };
    assert!(matches!(KeySet::from_jwks(&twice), Err(JwksError::DuplicateKid(_))));
}

#[test]
fn duplicate_member_disqualifies_its_key() {
    let key = good();
    for name in ["kid", "x", "alg", "note"] {
        let twice = key.to_string().replacen('{', &format!("{{{name:?}:\"other\","), 1);
        let twice = if name == "note" { twice.replacen('{', "{\"note\":1,", 1) } else { twice };
        let keys = KeySet::parse(format!("{{\"keys\":[{twice}]}}").as_bytes()).unwrap();
        assert!(keys.is_empty(), "{name}");
    }
}

#[test]
fn document_that_is_not_a_key_set_is_refused() {
    for bad in [
        "",
        "null",
        "[]",
        "{}",
        "{\"keys\":null}",
        "{\"keys\":{}}",
        "{\"keys\":[]}x",
        "{\"keys\":[],\"keys\":[]}",
        "{\"keys\":[],\"keys_version\":\"7\"}",
        "{\"keys\":[],\"keys_version\":-1}",
        "{\"keys\":[],\"auth_ring\":\"7\"}",
        "<html>",
    ] {
        assert_eq!(KeySet::parse(bad.as_bytes()).unwrap_err(), JwksError::Malformed, "{bad}");
    }
    assert!(KeySet::parse(b"{\"keys\":[]}").unwrap().is_empty());
}

#[test]
fn sizes_are_bounded() {
    let keys = |count: usize| (0..count).map(|_| good()).collect::<Vec<_>>();
    assert_eq!(parse(&keys(64)).unwrap().len(), 64);
    assert_eq!(parse(&keys(65)).unwrap_err(), JwksError::TooManyKeys);
    let padded = |length: usize| format!("{{\"keys\":[]{}}}", " ".repeat(length - 11));
    assert!(KeySet::parse(padded(256 * 1024).as_bytes()).is_ok());
    assert_eq!(KeySet::parse(padded(256 * 1024 + 1).as_bytes()).unwrap_err(), JwksError::TooLarge);
}
