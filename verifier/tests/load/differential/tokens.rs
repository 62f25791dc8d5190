//! Tokens drawn from a seed: a good one with up to three things changed before it is signed, and sometimes
//! one after.

use serde_json::{Value, json};
use verifier::UnixTime;

use testkit::lab::{Signer, and_raw, encode, resigned, signature_of, signed_part, with_raw, without};
use testkit::mutate::{self, Dice};
use testkit::{AUDIENCE, ISSUER};

const WORDS: [&[u8]; 12] = [
    b"\"",
    b",",
    b":",
    b"null",
    b"-1",
    b"1e400",
    b"0",
    b"[",
    b"}",
    b"none",
    b"\"exp\":1,",
    b"\"jti\":\"x\",",
];

/// Values for members of the header; none at all takes the member away.
const HEADER: [(&str, &[&str]); 15] = [
    ("alg", &["\"Ed25519\"", "\"none\"", "\"HS256\"", "\"ES256\"", "\"RS256\"", "\"EdDSA\"", "null", ""]),
    ("typ", &["\"JWT\"", "\"AT+JWT\"", "\"application/at+jwt\"", "null", "7", ""]),
    ("kid", &["\"other\"", "\"\"", "null", "7", ""]),
    ("crit", &["[\"exp\"]", "[]", "null", "7"]),
    ("b64", &["false", "true"]),
    ("jku", &["\"https://127.0.0.1/\"", "7", "null"]),
    ("jwk", &["{}", "{\"kty\":\"oct\",\"k\":\"AA\"}", "\"x\""]),
    ("x5c", &["[\"AA\"]", "\"AA\""]),
    ("x5u", &["\"https://127.0.0.1/\"", "[]"]),
    ("cty", &["\"JWT\"", "{}"]),
    ("zip", &["\"DEF\"", "1"]),
    ("enc", &["\"A256GCM\"", "[1]"]),
    ("nonce", &["\"x\"", "5"]),
    ("x", &["1", "1,\"x\":2", "{\"y\":[null]}", "1e400", "\"\\ud800\"", "NaN"]),
    ("", &["1"]),
];

/// Values for claims; `{n+…}` is so many seconds from now.
const CLAIMS: [(&str, &[&str]); 14] = [
    ("iss", &["[ISSUER]", "[\"other\",ISSUER]", "\"other\"", "null", "7", "[]", "{}", ""]),
    (
        "aud",
        &[
            "[AUDIENCE]",
            "[\"x\",AUDIENCE]",
            "\"other\"",
            "[\"other\"]",
            "[]",
            "null",
            "7",
            "[AUDIENCE,7]",
            "[[AUDIENCE]]",
            "{}",
            "",
        ],
    ),
    (
        "exp",
        &[
            "{n+300}",
            "{n-300}",
            "{n+300}.5",
            "{n-300}.5",
            "{n+99999}",
            "\"{n+300}\"",
            "null",
            "true",
            "[]",
            "-1",
            "0",
            "1e300",
            "1e17",
            "1e400",
            "18446744073709551615",
            "",
        ],
    ),
    (
        "nbf",
        &[
            "{n-300}",
            "{n+300}",
            "{n-300}.5",
            "{n+300}.5",
            "\"{n-300}\"",
            "null",
            "true",
            "[]",
            "-1",
            "0",
            "-0.5",
            "1e300",
            "",
        ],
    ),
    ("iat", &["{n-300}", "{n+300}", "{n-99999}", "\"{n}\"", "null", "true", "{}", "-1", "1e300", ""]),
    ("sub", &["\"bob\"", "\"\"", "null", "7", "[\"bob\"]", ""]),
    ("jti", &["\"x\"", "\"\"", "null", "7", ""]),
    ("client_id", &["\"x\"", "\"\"", "null", "7", ""]),
    ("sid", &["\"x\"", "\"\"", "null", "7", ""]),
    ("scope", &["\"a b\"", "\"\"", "null", "7", "[\"a\"]", ""]),
    ("roles", &["[\"a\"]", "[]", "\"a\"", "[7]", "null"]),
    ("auth_time", &["{n-300}", "\"x\"", "null"]),
    ("x", &["1", "{\"y\":[null]}", "1e400", "\"\\ud800\"", "NaN", "{\"a\":1,\"a\":2}"]),
    ("", &["1"]),
];

/// The texts of header and claims, and the token.
pub(crate) fn draw(dice: &mut Dice, signer: &Signer, stranger: &Signer, now: UnixTime) -> String {
    let mut header = signer.header().to_string();
    let mut claims = json!({
        "iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "exp": now.0 + 300, "iat": now.0 - 300, "nbf": now.0 - 300,
        "jti": "token-1", "client_id": "first-party", "scope": "ping",
    })
    .to_string();
    if dice.below(2) == 0 {
        claims = changed(dice, &claims, &[("nbf", &[""])], now);
    }
    for _ in 0..dice.below(4) {
        match dice.below(20) {
            0..7 => header = changed(dice, &header, &HEADER, now),
            7..18 => claims = changed(dice, &claims, &CLAIMS, now),
            18 => claims = flipped(dice, &claims),
            _ => header = flipped(dice, &header),
        }
    }
    if dice.below(40) == 0 {
        claims = claims.replacen('{', &format!("{{\"note\":{:?},", "x".repeat(dice.below(7000))), 1);
    }
    let by = if dice.below(12) == 0 { stranger } else { signer };
    let token = by.token(&header, &claims);
    match dice.below(12) {
        0 => {
            let mut text = token.into_bytes();
            mutate::bytes(dice, &mut text, header.as_bytes(), &WORDS);
            String::from_utf8_lossy(&text).into_owned()
        }
        1 => {
            let mut signature = signature_of(&token);
            mutate::bytes(dice, &mut signature, &[0; 64], &[&[0; 32], &[0xff; 32]]);
            resigned(&token, signature)
        }
        2 if signer.name == "eddsa" => {
            let signature = signer.sign_with_neutral_r(signed_part(&token).as_bytes());
            format!("{}.{}", signed_part(&token), encode(signature))
        }
        _ => token,
    }
}

/// The object with another value for one member, in its place or beside the one that is there.
fn changed(dice: &mut Dice, object: &str, choices: &[(&str, &[&str])], now: UnixTime) -> String {
    let Ok(object @ Value::Object(_)) = serde_json::from_str(object) else { return object.to_owned() };
    let (name, values) = choices[dice.below(choices.len())];
    let value = values[dice.below(values.len())];
    if value.is_empty() {
        return without(object, name).to_string();
    }
    let value = value.replace("ISSUER", &format!("{ISSUER:?}")).replace("AUDIENCE", &format!("{AUDIENCE:?}"));
    let value =
        [("{n}", 0), ("{n+300}", 300), ("{n-300}", -300), ("{n+99999}", 99_999), ("{n-99999}", -99_999)]
            .iter()
            .fold(value, |value, (name, offset)| value.replace(name, &(now.0 + offset).to_string()));
    if dice.below(8) == 0 { and_raw(&object, name, &value) } else { with_raw(&object, name, &value) }
}

fn flipped(dice: &mut Dice, text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    mutate::bytes(dice, &mut bytes, text.as_bytes(), &WORDS);
    String::from_utf8_lossy(&bytes).into_owned()
}
