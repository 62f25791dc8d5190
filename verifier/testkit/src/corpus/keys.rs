//! Which key a token names, and where it says that one is to be had.

use std::sync::Arc;

use serde_json::{Value, json};
use verifier::{Expected, KeySet, Seconds};

use super::{Asked, Cases, word};
use crate::lab::{Lab, Signer, claims, with, without};
use crate::{AUDIENCE, ISSUER, NOW};

/// Where a token's URLs point when nobody listens. `keyref.rs` replaces it by an address that is listened on.
pub const NOWHERE: &str = "http://127.0.0.1:9";

pub(super) fn add(cases: &mut Cases<'_>) {
    references(cases);
    names(cases);
    twins(cases);
    unusable(cases);
    issuers(cases);
}

/// A3: keys and addresses of keys inside the token.
fn references(cases: &mut Cases<'_>) {
    let lab: &Lab = cases.lab;
    for (name, header, issuer) in key_references(lab, NOWHERE) {
        let claims = with(claims(), "iss", issuer.as_str().into()).to_string();
        for (signer, stranger) in lab.signers.iter().zip(&lab.strangers) {
            let full = |names: &Signer| merged(names.header(), &header).to_string();
            let case = |what: &str| format!("keyref/{name}_{}_{what}", signer.name);
            // Signed by the key that the token brings along.
            cases.refuse("A3", case("own_key"), stranger.token(full(signer), &claims), "bad_signature");
            cases.refuse("A3", case("own_name"), stranger.token(full(stranger), &claims), "unknown_key");
            // Signed by ours: the reference is one more unknown name.
            let token = signer.token(full(signer), &claims);
            if issuer == ISSUER {
                cases.accept("A3", case("beside_good"), token);
            } else {
                cases.refuse("A3", case("issuer"), token, "wrong_issuer");
            }
        }
    }
}

/// Header members that refer to a key of a stranger at `address`, with the issuer the claims name.
pub fn key_references(lab: &Lab, address: &str) -> Vec<(&'static str, Value, String)> {
    let jwk = serde_json::to_value(&lab.strangers[0].jwk).unwrap();
    let url = |path: &str| Value::from(format!("{address}{path}"));
    [
        ("jwk", json!({ "jwk": jwk }), ISSUER.to_owned()),
        ("jku", json!({ "jku": url("/jwks.json") }), ISSUER.to_owned()),
        ("jku_of_issuer", json!({ "jku": format!("{ISSUER}@{}", &address[7..]) }), ISSUER.to_owned()),
        ("x5u", json!({ "x5u": url("/cert.pem") }), ISSUER.to_owned()),
        ("x5c", json!({ "x5c": ["MIIB", "MIIC"], "x5t": "AAAA", "x5t#S256": "AAAA" }), ISSUER.to_owned()),
        ("jwks", json!({ "jwks": { "keys": [jwk] }, "jwks_uri": url("/jwks.json") }), ISSUER.to_owned()),
        ("iss_header", json!({ "iss": address, "jku": 7, "x5u": null }), ISSUER.to_owned()),
        ("issuer_claim", json!({}), address.to_owned()),
        ("everything", json!({ "jwk": jwk, "jku": url("/a"), "x5u": url("/b") }), address.to_owned()),
    ]
    .into()
}

fn merged(mut header: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        header[name] = value.clone();
    }
    header
}

/// A4, A6: names that nobody has.
fn names(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    let (k256, k257) = ("k".repeat(256), "k".repeat(257));
    for (index, kid) in [
        "../../../../dev/null",
        "/etc/passwd",
        "..\\..\\windows\\win.ini",
        "file:///dev/null",
        "http://127.0.0.1:9/k",
        "' OR '1'='1",
        "x' UNION SELECT 'secret'--",
        "\"; DROP TABLE keys;--",
        "*)(uid=*))(|(uid=*",
        "$(id)",
        "`id`",
        "| id",
        "; id",
        "\0",
        "key\0.pem",
        "a\r\nSet-Cookie: a=b",
        "\u{1b}[31m",
        "${jndi:ldap://127.0.0.1/a}",
        "{{7*7}}",
        "%s%s%n",
        "%2e%2e%2f",
        "<script>",
        "\u{202e}",
        "\u{feff}",
        "kid",
        "0",
        "-1",
        "null",
        "true",
        "[]",
        "{}",
        "*",
        "?",
        "a b",
        &k256,
    ]
    .into_iter()
    .enumerate()
    {
        let token = signer.with_header(&with(signer.header(), "kid", kid.into()));
        cases.refuse("A4", format!("kid/injected_{}", word(index, kid)), token, "unknown_key");
    }
    for (name, kid) in [("257_bytes", k257.as_str()), ("5000_bytes", &"k".repeat(5000)), ("empty", "")] {
        let token = signer.with_header(&with(signer.header(), "kid", kid.into()));
        cases.refuse("A4", format!("kid/{name}"), token, "bad_header");
    }
    // 128 characters, 256 bytes: the limit is in bytes.
    let token = signer.with_header(&with(signer.header(), "kid", "é".repeat(129).into()));
    cases.refuse("A4", "kid/258_bytes_of_129_characters", token, "bad_header");

    for signer in &cases.lab.signers {
        let token = signer.with_header(&without(signer.header(), "kid"));
        cases.refuse("A6", format!("kid/missing_{}", signer.name), token, "missing_kid");
    }
    for stranger in &cases.lab.strangers {
        cases.refuse("A6", format!("kid/unknown_{}", stranger.name), stranger.good(), "unknown_key");
    }
    for (name, value) in [
        ("null", json!(null)),
        ("number", json!(1)),
        ("true", json!(true)),
        ("array", json!([signer.kid()])),
        ("object", json!({ "kid": signer.kid() })),
    ] {
        let token = signer.with_header(&with(signer.header(), "kid", value));
        cases.refuse("A6", format!("kid/as_{name}"), token, "bad_header");
    }
    // Two keys of one kind: the name decides, never what fits.
    let other = Signer::ed25519();
    let keys = json!({ "keys": [signer.jwk, other.jwk] });
    let asked = Asked { keys: parse(&keys), ..cases.asked.clone() };
    cases.asking(asked, |cases| {
        cases.refuse("A6", "kid/of_the_other_key", signer.with_header(&other.header()), "bad_signature");
        cases.accept("A6", "kid/of_the_first_key", signer.good());
        cases.accept("A6", "kid/of_the_second_key", other.good());
    });
}

/// A5: names that are nearly those of a key.
fn twins(cases: &mut Cases<'_>) {
    let key = Signer::ed25519();
    let mut jwk = serde_json::to_value(&key.jwk).unwrap();
    jwk["kid"] = "Kéy-1".into();
    let asked = Asked { keys: parse(&json!({ "keys": [jwk] })), ..cases.asked.clone() };
    cases.asking(asked, |cases| {
        for (index, kid) in [
            "kéy-1",
            "KÉY-1",
            "Key-1",
            "Ke\u{301}y-1",
            "Kéy-1 ",
            " Kéy-1",
            "Kéy-1\0",
            "Kéy-1\n",
            "\tKéy-1",
            "Kéy-",
            "Kéy-11",
            "éy-1",
            "Kéy\u{2010}1",
            "\u{212a}éy-1",
            "Kéy-01",
            "\"Kéy-1\"",
            "Kéy-1#",
            "Kéy-1/.",
        ]
        .into_iter()
        .enumerate()
        {
            let token = key.with_header(&with(key.header(), "kid", kid.into()));
            cases.refuse("A5", format!("kid/near_{}", word(index, kid)), token, "unknown_key");
        }
        let header = with(key.header(), "kid", "Kéy-1".into());
        cases.accept("A5", "kid/exact", key.with_header(&header));
        let escaped = r#"{"typ":"at+jwt","alg":"EdDSA","kid":"K\u00e9y\u002d1"}"#;
        cases.accept("A5", "kid/exact_escaped", key.token(escaped, claims().to_string()));
    });
}

/// A2: keys that the issuer publishes and that must not check a token.
fn unusable(cases: &mut Cases<'_>) {
    for signer in [Signer::ed25519(), Signer::p256()] {
        let good = serde_json::to_value(&signer.jwk).unwrap();
        for (name, jwk) in [
            ("without_alg", without(good.clone(), "alg")),
            ("alg_null", with(good.clone(), "alg", json!(null))),
            ("alg_hs256", with(good.clone(), "alg", json!("HS256"))),
            ("alg_none", with(good.clone(), "alg", json!("none"))),
            ("alg_rs256", with(good.clone(), "alg", json!("RS256"))),
            ("use_enc", with(good.clone(), "use", json!("enc"))),
            ("ops_sign", with(good.clone(), "key_ops", json!(["sign"]))),
            ("kty_oct", with(with(good.clone(), "kty", json!("oct")), "k", good["x"].clone())),
            ("private", with(good.clone(), "d", json!("AAAA"))),
        ] {
            let asked = Asked { keys: parse(&json!({ "keys": [jwk] })), ..cases.asked.clone() };
            cases.asking(asked, |cases| {
                cases.refuse("A2", format!("jwks/{}_{name}", signer.name), signer.good(), "unknown_key");
            });
        }
    }
}

/// A27: two issuers in one program that use one name for their keys.
fn issuers(cases: &mut Cases<'_>) {
    const OTHER: &str = "https://login.example.org";
    let pairs = [
        ("eddsa", Signer::ed25519(), Signer::ed25519()),
        ("es256", Signer::p256(), Signer::p256()),
        ("mixed", Signer::ed25519(), Signer::p256()),
    ];
    for (kind, ours, theirs) in pairs {
        let set = |signer: &Signer| {
            parse(
                &json!({ "keys": [with(serde_json::to_value(&signer.jwk).unwrap(), "kid", json!("key-1"))] }),
            )
        };
        let token = |signer: &Signer, issuer: &str| {
            let header = with(signer.header(), "kid", json!("key-1")).to_string();
            signer.token(header, with(claims(), "iss", issuer.into()).to_string())
        };
        let expected = |issuer| Expected::new(issuer, [AUDIENCE]).with_leeway(Seconds(0));
        let sides = [("first", ISSUER, &ours, OTHER, &theirs), ("second", OTHER, &theirs, ISSUER, &ours)];
        for (side, issuer, signer, other_issuer, other) in sides {
            let asked = Asked { keys: set(signer), expected: expected(issuer), now: NOW };
            let foreign = if kind == "mixed" { "wrong_algorithm" } else { "bad_signature" };
            cases.asking(asked, |cases| {
                let case = |what: &str| format!("issuers/{kind}_{side}_{what}");
                cases.accept("A27", case("own"), token(signer, issuer));
                cases.refuse("A27", case("swapped"), token(other, other_issuer), foreign);
                cases.refuse("A27", case("forged_for_us"), token(other, issuer), foreign);
                cases.refuse(
                    "A27",
                    case("own_key_other_issuer"),
                    token(signer, other_issuer),
                    "wrong_issuer",
                );
            });
        }
    }
}

fn parse(jwks: &Value) -> Arc<KeySet> {
    Arc::new(KeySet::parse(jwks.to_string().as_bytes()).unwrap())
}
