//! Project Wycheproof. Every vector is run; what we answer otherwise than published is listed here by `tcId`,
//! with the reason, and the list is exact: a vector that begins to behave as published fails the test, too.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testkit::{AUDIENCE, ISSUER, NOW};
use verifier::{Expected, Jwk, KeySet, NoExtra};

/// How the vectors of one file went.
#[derive(Debug, PartialEq)]
struct Tally {
    /// Published as valid, accepted.
    accepted: usize,
    /// Published as invalid, refused.
    refused: usize,
    /// Published as valid, refused by us.
    stricter: Vec<u64>,
    /// Published as `acceptable`, which means that both answers are right.
    either: Vec<(u64, bool)>,
    /// Published as invalid, accepted by us. There is no reason that could excuse one.
    laxer: Vec<u64>,
}

fn vectors(file: &str) -> Value {
    let path = format!("{}/tests/vectors/wycheproof/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Asks `accepts` about each vector of `file`, with its group.
fn run(file: &str, accepts: impl Fn(&Value, &Value) -> bool) -> Tally {
    let mut tally = Tally { accepted: 0, refused: 0, stricter: vec![], either: vec![], laxer: vec![] };
    let document = vectors(file);
    let mut count = 0;
    for group in document["testGroups"].as_array().unwrap() {
        for vector in group["tests"].as_array().unwrap() {
            count += 1;
            let id = vector["tcId"].as_u64().unwrap();
            match (vector["result"].as_str().unwrap(), accepts(group, vector)) {
                ("valid", true) => tally.accepted += 1,
                ("invalid", false) => tally.refused += 1,
                ("valid", false) => tally.stricter.push(id),
                ("invalid", true) => tally.laxer.push(id),
                (_, answer) => tally.either.push((id, answer)),
            }
        }
    }
    assert_eq!(document["numberOfTests"], count, "a vector was passed over");
    tally
}

fn hex(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Whether a published key, read as an issuer's key set, has signed the vector's message.
fn has_signed(key: &Value, vector: &Value) -> bool {
    let keys = KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes()).unwrap();
    let kid = key["kid"].as_str().unwrap();
    keys.find(kid).is_some_and(|key| key.has_signed(&hex(&vector["msg"]), &hex(&vector["sig"])))
}

#[test]
fn ed25519() {
    let tally = run("ed25519_test.json", |group, vector| {
        let mut key = group["publicKeyJwk"].clone();
        key["alg"] = "EdDSA".into();
        has_signed(&key, vector)
    });
    assert_eq!(tally, Tally { accepted: 88, refused: 63, stricter: vec![], either: vec![], laxer: vec![] });
}

#[test]
fn ecdsa_p256_with_r_and_s_side_by_side() {
    let tally = run("ecdsa_secp256r1_sha256_p1363_test.json", |group, vector| {
        // Some groups have the key in this form only.
        let point = hex(&group["publicKey"]["uncompressed"]);
        has_signed(&serde_json::to_value(Jwk::p256(&point).unwrap()).unwrap(), vector)
    });
    assert_eq!(tally, Tally { accepted: 173, refused: 89, stricter: vec![], either: vec![], laxer: vec![] });
}

#[test]
fn rsa_pkcs1_with_sha256() {
    let tally =
        run("rsa_signature_2048_sha256_test.json", |group, vector| has_signed(&group["keyJwk"], vector));
    // 8: the NULL after the name of the hash is left out, as some old signers did.
    let either = vec![(8, false)];
    // The keys have e = 3 (RFC 8017 allows it; forgers of padding have loved it).
    let stricter = vec![258, 259];
    assert_eq!(tally, Tally { accepted: 7, refused: 249, stricter, either, laxer: vec![] });
}

/// Whether a key of the group has signed the token under its own algorithm. The signed texts are no access
/// tokens, so `Expected` refuses all of them: asked as well, and the header is then read here.
fn accepts(group: &Value, vector: &Value) -> bool {
    let key = if group["public"].is_null() { &group["private"] } else { &group["public"] };
    let set = if key["keys"].is_array() { key.clone() } else { json!({ "keys": [key] }) };
    let Ok(keys) = KeySet::parse(set.to_string().as_bytes()) else { return false };
    let token = &vector[if vector["jwe"].is_null() { "jws" } else { "jwe" }];
    let token = token.as_str().map_or_else(|| token.to_string(), str::to_owned);
    let answer = Expected::new(ISSUER, [AUDIENCE]).verify::<NoExtra>(&token, &keys, NOW);
    assert!(answer.is_err(), "{token}");
    let Some((signed, signature)) = token.rsplit_once('.') else { return false };
    let Some((header, claims)) = signed.split_once('.') else { return false };
    let [Ok(header), Ok(_), Ok(signature)] =
        [header, claims, signature].map(|part| URL_SAFE_NO_PAD.decode(part))
    else {
        return false;
    };
    let Ok(header) = serde_json::from_slice::<Value>(&header) else { return false };
    let (Some(kid), Some(alg)) = (header["kid"].as_str(), header["alg"].as_str()) else { return false };
    keys.find(kid)
        .is_some_and(|key| key.algorithm().as_str() == alg && key.has_signed(signed.as_bytes(), &signature))
}

#[test]
fn json_web_signatures() {
    // A verifier has no secrets, so no HS256.
    let mac: [&[u64]; 3] = [&[1], &[348, 352], &[357, 358, 359, 372, 373, 376, 377]];
    // One hash with RSA is enough, and PSS is one padding too many: RS384, RS512, PS256, PS384, PS512.
    let rsa: [&[u64]; 7] = [
        &[264, 265, 266, 267],
        &[268, 269, 270, 271],
        &[272, 273, 274, 275, 287, 288],
        &[320, 321, 322, 323],
        &[325, 326, 327, 328],
        &[346],
        &[350],
    ];
    // P-521, in a key whose alg (ES521) is none.
    let p521: [&[u64]; 1] = [&[347, 351]];
    let mut stricter = [&mac[..], &rsa[..], &p521[..]].concat().concat();
    stricter.sort_unstable();
    assert_eq!(
        run("json_web_signature_test.json", accepts),
        Tally { accepted: 10, refused: 355, stricter, either: vec![], laxer: vec![] }
    );
}

#[test]
fn json_web_keys() {
    // Secrets for HS256, HS384 and HS512.
    let stricter = vec![2, 13, 14, 15];
    assert_eq!(
        run("json_web_key_test.json", accepts),
        Tally { accepted: 1, refused: 21, stricter, either: vec![], laxer: vec![] }
    );
}

#[test]
fn json_web_crypto() {
    // 1, 48: HS256. 50, 67: encrypted tokens, which are no access tokens here.
    let stricter = vec![1, 48, 50, 67];
    assert_eq!(
        run("json_web_crypto_test.json", accepts),
        Tally { accepted: 2, refused: 77, stricter, either: vec![], laxer: vec![] }
    );
}
