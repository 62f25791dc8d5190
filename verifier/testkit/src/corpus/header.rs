//! The members of the header, and how they are spelt.

use serde_json::{Value, json};

use super::{Cases, word};
use crate::ISSUER;
use crate::lab::{Signer, and_raw, claims, encode, with, without};

pub(super) fn add(cases: &mut Cases<'_>) {
    for signer in &cases.lab.signers {
        good(cases, signer);
        repeated(cases, signer);
    }
    critical(cases);
    types(cases);
    shapes(cases);
}

fn good(cases: &mut Cases<'_>, signer: &Signer) {
    let (kid, alg) = (signer.kid(), signer.alg());
    let members = [r#""typ":"at+jwt""#.to_owned(), format!(r#""alg":"{alg}""#), format!(r#""kid":"{kid}""#)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let spelt = order.map(|index| members[index].as_str());
        for (name, header) in [
            ("", format!("{{{}}}", spelt.join(","))),
            ("_spaced", format!(" {{ {} }} ", spelt.join(" ,\n "))),
            ("_and_more", format!("{{{},\"x\":[1,null,{{\"y\":\"z\"}}]}}", spelt.join(","))),
        ] {
            let order = order.map(|index| ["typ", "alg", "kid"][index]).join("_");
            let token = signer.token(header, claims().to_string());
            cases.accept("A19", format!("header/{}_{order}{name}", signer.name), token);
        }
    }
    let escaped = format!(r#"{{"t\u0079p":"at\u002Bjwt","\u0061lg":"{alg}","kid":"{kid}"}}"#);
    cases.accept(
        "A19",
        format!("header/{}_escaped", signer.name),
        signer.token(escaped, claims().to_string()),
    );
}

/// A13.
fn repeated(cases: &mut Cases<'_>, signer: &Signer) {
    let kid = format!("\"{}\"", signer.kid());
    let alg = format!("\"{}\"", signer.alg());
    for (name, member, value) in [
        ("alg_same", "alg", alg.as_str()),
        ("alg_none", "alg", "\"none\""),
        ("alg_null_type", "alg", "\"\""),
        ("kid_same", "kid", &kid),
        ("kid_other", "kid", "\"other\""),
        ("typ_same", "typ", "\"at+jwt\""),
        ("typ_other", "typ", "\"JWT\""),
        ("alg_escaped", r"\u0061lg", &alg),
        ("kid_escaped", r"k\u0069d", &kid),
        ("typ_escaped", r"\u0074\u0079\u0070", "\"at+jwt\""),
        ("crit", "crit\":[],\"crit", "[]"),
        ("unknown", "x\":1,\"x", "1"),
        ("unknown_escaped", r#"x":1,"\u0078"#, "2"),
        ("empty_name", "\":1,\"", "1"),
    ] {
        let header = and_raw(&signer.header(), member, value);
        let token = signer.token(header, claims().to_string());
        cases.refuse("A13", format!("dup/{}_header_{name}", signer.name), token, "duplicate_name");
    }
    // Names differ by case: unknown ones beside ours.
    for (name, member) in [("alg", "Alg"), ("kid", "KID"), ("typ", "Typ")] {
        let header = and_raw(&signer.header(), member, "\"none\"");
        let token = signer.token(header, claims().to_string());
        cases.accept("A13", format!("dup/{}_header_{name}_in_other_case", signer.name), token);
    }
}

/// A17, A18.
fn critical(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    for (name, value) in [
        ("unknown", json!(["urn:example:ext"])),
        ("exp", json!(["exp"])),
        ("kid", json!(["kid"])),
        ("b64", json!(["b64"])),
        ("empty", json!([])),
        ("null", json!(null)),
        ("string", json!("b64")),
        ("number", json!(1)),
        ("true", json!(true)),
        ("false", json!(false)),
        ("object", json!({})),
        ("nested", json!([["exp"]])),
        ("null_inside", json!([null])),
        ("empty_name", json!([""])),
        ("twice", json!(["exp", "exp"])),
        ("itself", json!(["crit"])),
        ("many", json!(vec!["x"; 500])),
    ] {
        let header = with(signer.header(), "crit", value);
        cases.refuse("A17", format!("crit/{name}"), signer.with_header(&header), "critical_header");
    }
    let header = and_raw(&signer.header(), r"cr\u0069t", "[\"x\"]");
    cases.refuse("A17", "crit/escaped_name", signer.token(header, claims().to_string()), "critical_header");
    let header = with(with(signer.header(), "crit", json!(["x"])), "x", json!(1));
    cases.refuse("A17", "crit/with_its_member", signer.with_header(&header), "critical_header");
    let header = with(signer.header(), "Crit", json!(["x"]));
    cases.accept("A17", "crit/in_other_case_is_another_name", signer.with_header(&header));
    let inside = with(claims(), "crit", json!(["x"])).to_string();
    cases.accept("A17", "crit/as_a_claim", signer.with_claims(inside));

    for (name, value) in
        [("false", json!(false)), ("true", json!(true)), ("null", json!(null)), ("text", json!("false"))]
    {
        let header = with(signer.header(), "b64", value.clone());
        cases.refuse("A18", format!("crit/b64_{name}"), signer.with_header(&header), "critical_header");
        let header = with(header, "crit", json!(["b64"]));
        cases.refuse(
            "A18",
            format!("crit/b64_{name}_listed"),
            signer.with_header(&header),
            "critical_header",
        );
        // RFC 7797: the claims stand there as they are, and are signed so.
        let text = format!("{}.{}", encode(header.to_string()), claims());
        let token = format!("{text}.{}", encode(signer.sign(text.as_bytes())));
        cases.refuse("A18", format!("crit/b64_{name}_claims_as_they_are"), token, "not_jws");
    }
}

/// A19.
fn types(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    for (index, typ) in
        ["at+jwt", "AT+JWT", "At+Jwt", "application/at+jwt", "APPLICATION/AT+JWT", "Application/at+JWT"]
            .into_iter()
            .enumerate()
    {
        let token = signer.with_header(&with(signer.header(), "typ", typ.into()));
        cases.accept("A19", format!("typ/accepted_{}", word(index, typ)), token);
    }
    for (index, typ) in [
        "JWT",
        "jwt",
        "JOSE",
        "JOSE+JSON",
        "application/jwt",
        "id+jwt",
        "logout+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "statuslist+jwt",
        "revocations+jwt",
        "oauth-authz-req+jwt",
        "token-introspection+jwt",
        "rt+jwt",
        "vc+sd-jwt",
        "at",
        "at+",
        "+jwt",
        "at jwt",
        "at+jwt ",
        " at+jwt",
        "at+jwt\0",
        "at+jwt;v=1",
        "at+jwt+x",
        "xat+jwt",
        "text/at+jwt",
        "application/application/at+jwt",
        "/at+jwt",
        "application/",
        "application/at+jwt ",
        "аt+jwt",
        "at+\u{ff4a}wt",
        "",
        "*",
        "at%2Bjwt",
    ]
    .into_iter()
    .enumerate()
    {
        let token = signer.with_header(&with(signer.header(), "typ", typ.into()));
        cases.refuse("A19", format!("typ/{}", word(index, typ)), token, "wrong_type");
    }
    for signer in &cases.lab.signers {
        let token = signer.with_header(&without(signer.header(), "typ"));
        cases.refuse("A19", format!("typ/absent_{}", signer.name), token, "wrong_type");
    }
    for (name, value) in
        [("null", json!(null)), ("number", json!(1)), ("array", json!(["at+jwt"])), ("object", json!({}))]
    {
        let token = signer.with_header(&with(signer.header(), "typ", value));
        cases.refuse("A19", format!("typ/as_{name}"), token, "bad_header");
    }
    let token = signer.with_header(&with(without(signer.header(), "typ"), "cty", "at+jwt".into()));
    cases.refuse("A19", "typ/in_cty", token, "wrong_type");
    let inside = with(claims(), "typ", "at+jwt".into()).to_string();
    let token = signer.token(without(signer.header(), "typ").to_string(), inside);
    cases.refuse("A19", "typ/in_the_claims", token, "wrong_type");
    // A document of the revocation feed, with a good signature of the same key.
    let feed =
        json!({ "iss": ISSUER, "iat": 1, "exp": 2, "as_of": 3, "keep_for": 4, "sids": "", "kids": [] });
    let header = with(signer.header(), "typ", "revocations+jwt".into()).to_string();
    cases.refuse("A19", "typ/feed_document", signer.token(header, feed.to_string()), "wrong_type");
    cases.refuse(
        "A19",
        "typ/feed_claims_as_access_token",
        signer.with_claims(feed.to_string()),
        "missing_claim",
    );
}

/// A28: headers that are no object.
fn shapes(cases: &mut Cases<'_>) {
    let signer = cases.lab.ed25519();
    let good = signer.header().to_string();
    for (name, header) in [
        ("null", "null".into()),
        ("true", "true".into()),
        ("number", "1".into()),
        ("string", format!("{:?}", "at+jwt")),
        ("array", format!("[{good}]")),
        ("array_of_pairs", r#"[["alg","EdDSA"]]"#.into()),
        ("two_objects", format!("{good}{good}")),
        ("comma_after", format!("{good},")),
        ("open", good[..good.len() - 1].to_owned()),
        ("single_quotes", good.replace('"', "'")),
        ("comment", format!("/* */{good}")),
        ("comment_after", format!("{good}//")),
        ("trailing_comma", good.replace('}', ",}")),
        ("name_without_quotes", good.replace("\"typ\"", "typ")),
        ("number_as_name", good.replace("\"typ\"", "1")),
        ("nan", and_raw(&signer.header(), "x", "NaN")),
        ("infinity", and_raw(&signer.header(), "x", "-Infinity")),
        ("huge_number", and_raw(&signer.header(), "x", "1e400")),
        ("leading_zero", and_raw(&signer.header(), "x", "01")),
        ("hex_number", and_raw(&signer.header(), "x", "0x10")),
        ("raw_newline_in_text", and_raw(&signer.header(), "x", "\"\n\"")),
        ("bad_escape", and_raw(&signer.header(), "x", r#""\x41""#)),
        ("lone_surrogate", and_raw(&signer.header(), "x", r#""\udc00""#)),
        ("nul_after", format!("{good}\0")),
        ("form_feed", format!("\u{c}{good}")),
        ("no_break_space", format!("\u{a0}{good}")),
    ] as [(&str, String); 26]
    {
        let token = signer.token(header, claims().to_string());
        cases.refuse("A28", format!("header/shape_{name}"), token, "bad_header");
    }
    let unknown: Value =
        json!({ "x5t": 7, "zip": null, "cty": [], "nonce": {}, "epk": { "kty": "EC" }, "": 1 });
    let mut header = signer.header();
    for (name, value) in unknown.as_object().unwrap() {
        header[name] = value.clone();
    }
    cases.accept("A19", "header/unknown_names", signer.with_header(&header));
}
