//! The claims: who, for whom, and in which types. The signature is good in every case here.

use serde_json::{Value, json};

use super::{Cases, word};
use crate::lab::{and_raw, claims, with, with_raw, without};
use crate::{AUDIENCE, ISSUER};

pub(super) fn add(cases: &mut Cases<'_>) {
    good(cases);
    repeated(cases);
    issuer(cases);
    audience(cases);
    required(cases);
    types(cases);
    shapes(cases);
}

fn good(cases: &mut Cases<'_>) {
    for signer in &cases.lab.signers {
        for (name, more) in [
            ("plain", json!({})),
            (
                "unknown_claims",
                json!({ "tenant": 7, "act": { "sub": "x" }, "": null, "cnf": { "jkt": "x" } }),
            ),
            ("roles", json!({ "roles": ["a", "b"], "amr": ["pwd"], "auth_time": 1_799_999_000 })),
            ("other_alphabet", json!({ "sub": "иван\u{1f600}", "client_id": "日本", "jti": "\u{7f}" })),
            ("controls_escaped", json!({ "sub": "a\u{0}b\nc" })),
            ("long_subject", json!({ "sub": "s".repeat(4000) })),
            ("empty_scope", json!({ "scope": "" })),
            ("empty_sid", json!({ "sid": "" })),
            ("empty_arrays", json!({ "roles": [], "amr": [] })),
        ] {
            let mut claims = claims();
            for (claim, value) in more.as_object().unwrap() {
                claims[claim] = value.clone();
            }
            let token = signer.with_claims(claims.to_string());
            cases.accept("A14", format!("claims/{}_{name}", signer.name), token);
        }
        let spaced = serde_json::to_string_pretty(&claims()).unwrap();
        cases.accept(
            "A14",
            format!("claims/{}_pretty", signer.name),
            signer.with_claims(format!("\r\n\t {spaced} ")),
        );
    }
}

/// A13.
fn repeated(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    for name in ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "sid", "client_id", "scope"] {
        let same = claims()[name].to_string();
        let escaped = format!("\\u{:04x}{}", name.as_bytes()[0], &name[1..]);
        for (how, claim, value) in [
            ("same", name, same.as_str()),
            ("escaped", &escaped, &same),
            ("other", name, if same.starts_with('"') { "\"mallory\"" } else { "1" }),
        ] {
            let token = signer.with_claims(and_raw(&claims(), claim, value));
            cases.refuse("A13", format!("dup/claim_{name}_{how}"), token, "duplicate_name");
        }
    }
    for (name, first) in [
        ("roles", r#""roles":[],"roles"#),
        ("amr", r#""amr":[],"amr"#),
        ("unknown", r#""x":1,"x"#),
        ("unknown_escaped", r#""x":1,"\u0078"#),
        ("empty_name", r#""":1,""#),
        ("surrogate_pair", r#""\ud83d\ude00":1,"😀"#),
    ] {
        let token = signer.with_claims(claims().to_string().replacen('{', &format!("{{{first}\":[],"), 1));
        cases.refuse("A13", format!("dup/claim_{name}"), token, "duplicate_name");
    }
    let far = format!("{},\"sub\":\"mallory\"}}", claims().to_string().trim_end_matches('}'));
    cases.refuse("A13", "dup/claim_last", signer.with_claims(far), "duplicate_name");
    for (name, member) in
        [("case", "Sub"), ("space", "sub "), ("normal_form", "su\u{301}b"), ("nul", r"sub\u0000")]
    {
        let token = signer.with_claims(and_raw(&claims(), member, "\"mallory\""));
        cases.accept("A13", format!("dup/claim_other_name_by_{name}"), token);
    }
    // What is inside a claim of one's own is read by its own type.
    let inside = and_raw(&claims(), "act", r#"{"sub":"a","sub":"b"}"#);
    cases.accept("A13", "dup/inside_a_custom_claim", signer.with_claims(inside));
}

/// A15.
fn issuer(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    for (name, value) in [
        ("array", json!([ISSUER])),
        ("array_with_ours", json!(["https://evil.example", ISSUER])),
        ("empty_array", json!([])),
        ("nested_array", json!([[ISSUER]])),
        ("object", json!({ "iss": ISSUER })),
        ("null", json!(null)),
        ("number", json!(1)),
        ("true", json!(true)),
    ] {
        let token = signer.with_claims(with(claims(), "iss", value).to_string());
        cases.refuse("A15", format!("iss/as_{name}"), token, "bad_claim");
    }
    for (index, issuer) in [
        "https://auth.example.com/",
        "https://auth.example.com/.",
        "https://auth.example.co",
        "https://auth.example.com.",
        "https://auth.example.comm",
        "HTTPS://auth.example.com",
        "https://AUTH.example.com",
        "http://auth.example.com",
        "https://auth.example.com:443",
        "https://x@auth.example.com",
        "https://auth.example.com@evil.example",
        "https://auth.example.com.evil.example",
        "https://evil.example/https://auth.example.com",
        "auth.example.com",
        "//auth.example.com",
        "https://auth.example.com?",
        "https://auth.example.com#",
        " https://auth.example.com",
        "https://auth.example.com ",
        "https://auth.example.com\0",
        "https://auth.example.com\n",
        "https://auth.exаmple.com",
        "https://auth.example.com%20",
        "https:/auth.example.com",
        "https",
        "*",
        ".*",
        "%",
        "https://auth.example.com,x",
    ]
    .into_iter()
    .enumerate()
    {
        let token = signer.with_claims(with(claims(), "iss", issuer.into()).to_string());
        cases.refuse("A15", format!("iss/{}", word(index, issuer)), token, "wrong_issuer");
    }
    let escaped = with_raw(&claims(), "iss", r#""https:\/\/auth.example.com""#);
    cases.accept("A15", "iss/slashes_escaped", signer.with_claims(escaped));
}

/// A16.
fn audience(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    for (name, value) in [
        ("string", json!(AUDIENCE)),
        ("array", json!([AUDIENCE])),
        ("first", json!([AUDIENCE, "other"])),
        ("last", json!(["other", AUDIENCE])),
        ("twice", json!([AUDIENCE, AUDIENCE])),
        ("beside_empty", json!(["", AUDIENCE])),
    ] {
        let token = signer.with_claims(with(claims(), "aud", value).to_string());
        cases.accept("A16", format!("aud/accepted_{name}"), token);
    }
    for (name, value) in [
        ("null", json!(null)),
        ("number", json!(1)),
        ("true", json!(true)),
        ("object", json!({ "aud": AUDIENCE })),
        ("object_keyed", json!({ AUDIENCE: true })),
        ("nested", json!([[AUDIENCE]])),
        ("null_inside", json!([null])),
        ("null_beside_ours", json!([AUDIENCE, null])),
        ("number_beside_ours", json!([AUDIENCE, 1])),
        ("object_beside_ours", json!([AUDIENCE, {}])),
    ] {
        let token = signer.with_claims(with(claims(), "aud", value).to_string());
        cases.refuse("A16", format!("aud/as_{name}"), token, "bad_claim");
    }
    for (index, value) in [
        json!("other"),
        json!("orders"),
        json!("orders-api2"),
        json!("xorders-api"),
        json!("orders-ap"),
        json!("Orders-api"),
        json!("ORDERS-API"),
        json!("orders-api "),
        json!(" orders-api"),
        json!("orders-api\0"),
        json!("orders_api"),
        json!("orders\u{2010}api"),
        json!("*"),
        json!(".*"),
        json!("orders-*"),
        json!("%"),
        json!(""),
        json!("orders-api,x"),
        json!("x orders-api"),
        json!("[\"orders-api\"]"),
        json!("https://orders-api"),
        json!("orders-api/"),
        json!([]),
        json!([""]),
        json!(["other"]),
        json!(["orders", "api"]),
        json!(["o", "r"]),
        json!(["auth-admin"]),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("aud/other_{}", word(index, &value.to_string()));
        let token = signer.with_claims(with(claims(), "aud", value).to_string());
        cases.refuse("A16", name, token, "wrong_audience");
    }
    // An empty name of our own must not make tokens for nobody ours; no names accept nothing.
    let nobody = super::Asked {
        expected: verifier::Expected::new(ISSUER, [""; 0]).with_leeway(verifier::Seconds(0)),
        ..cases.asked.clone()
    };
    cases.asking(nobody, |cases| {
        cases.refuse("A16", "aud/none_expected", signer.good(), "wrong_audience");
        let empty = signer.with_claims(with(claims(), "aud", json!([])).to_string());
        cases.refuse("A16", "aud/none_expected_and_none_there", empty, "wrong_audience");
    });
}

fn required(cases: &mut Cases<'_>) {
    for signer in &cases.lab.signers {
        for name in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id"] {
            let token = signer.with_claims(without(claims(), name).to_string());
            cases.refuse("A14", format!("claims/{}_without_{name}", signer.name), token, "missing_claim");
        }
        for name in ["nbf", "sid", "scope"] {
            let token = signer.with_claims(without(claims(), name).to_string());
            cases.accept("A14", format!("claims/{}_without_{name}", signer.name), token);
        }
    }
    let signer = cases.lab.ed25519();
    for name in ["iss", "sub", "jti", "client_id"] {
        let token = signer.with_claims(with(claims(), name, "".into()).to_string());
        cases.refuse("A14", format!("claims/empty_{name}"), token, "missing_claim");
    }
}

/// A14: of the wrong type is never absent.
fn types(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    let wrong = |own: &str| -> Vec<(&'static str, Value)> {
        let all = [
            ("null", json!(null)),
            ("true", json!(true)),
            ("number", json!(1)),
            ("text", json!("x")),
            ("array", json!(["x"])),
            ("mixed", json!(["x", 1])),
            ("object", json!({})),
        ];
        all.into_iter().filter(|(kind, _)| *kind != own).collect()
    };
    for (name, own) in [
        ("sub", "text"),
        ("jti", "text"),
        ("sid", "text"),
        ("client_id", "text"),
        ("scope", "text"),
        ("roles", "array"),
        ("amr", "array"),
    ] {
        for (kind, value) in wrong(own) {
            let token = signer.with_claims(with(claims(), name, value).to_string());
            cases.refuse("A14", format!("claims/{name}_as_{kind}"), token, "bad_claim");
        }
    }
}

/// A28: claims that are no object.
fn shapes(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    let good = claims().to_string();
    for (name, body) in [
        ("null", "null".into()),
        ("number", "1".into()),
        ("string", format!("{good:?}")),
        ("array", format!("[{good}]")),
        ("two_objects", format!("{good}{good}")),
        ("open", good[..good.len() - 1].to_owned()),
        ("comma_after", format!("{good},")),
        ("trailing_comma", good.replace('}', ",}")),
        ("comment", format!("{good}/**/")),
        ("nan", and_raw(&claims(), "x", "NaN")),
        ("huge_number", and_raw(&claims(), "x", "1e400")),
        ("plus_number", and_raw(&claims(), "x", "+1")),
        ("lone_surrogate", and_raw(&claims(), "x", r#""\ud800""#)),
        ("half_surrogate_pair", and_raw(&claims(), "x", r#""\ud800\u0041""#)),
        ("raw_control", and_raw(&claims(), "x", "\"\u{1}\"")),
        ("nul_after", format!("{good}\0")),
        ("mark", format!("\u{feff}{good}")),
        ("xml", "<claims/>".into()),
        ("form", "sub=alice&iss=x".into()),
    ] as [(&str, String); 19]
    {
        cases.refuse("A28", format!("claims/shape_{name}"), signer.with_claims(body), "bad_claims");
    }
}
