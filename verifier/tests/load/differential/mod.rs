//! Another verifier is asked the same questions: `jsonwebtoken` with its own cryptography, the same key,
//! issuer, audience, leeway and time. Each way in which the two answer differently is listed here with its
//! reason, none of them makes us the laxer one, and each is met in every run.

mod tokens;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, Validation};
use ring::rand::SecureRandom;
use serde_json::Value;
use testkit::lab;
use testkit::lab::{Lab, Signer};
use testkit::mutate::Dice;
use testkit::pairs::Pairs;
use testkit::{AUDIENCE, ISSUER};
use verifier::{Clock, Expected, NoExtra, Reason, Seconds, SystemClock, UnixTime, VerifyError};

use crate::all_cpus;

const TOKENS: usize = 40_000;
const LEEWAY: i64 = 30;

/// What only the other one accepts, and why we do not.
const STRICTER: [(&str, &str); 20] = [
    (
        "crit",
        "RFC 7515 §4.1.11: a verifier that does not understand an extension must refuse; it is ignored there",
    ),
    ("b64", "RFC 7797 §7: must not be used in a JWT; it is ignored there"),
    ("header name twice", "RFC 7515 §4 lets us refuse; there the last one wins"),
    (
        "claim twice",
        "RFC 7519 §4 lets us refuse; there the last one wins, except for the few that are checked",
    ),
    ("typ", "RFC 9068 §4: only at+jwt is an access token; it is not looked at there"),
    ("typ null", "of the wrong type is never absent"),
    ("kid absent", "RFC 8725 §3.10: which key is meant must be told; the caller picks the key there"),
    ("kid unknown", "the caller picks the key there"),
    ("kid malformed", "null counts as absent there, and the empty name as a name"),
    ("too long", "no limit there"),
    ("iss array", "RFC 7519 §4.1.1: one string; one of many is enough there (CVE-2025-30144 elsewhere)"),
    ("exp out of range", "an end of time that is no date is taken for one there"),
    ("iat malformed", "RFC 9068 §2.2 requires it; it is not looked at there"),
    ("other claim malformed", "our claims have types; they are not looked at there"),
    ("claim missing", "RFC 9068 §2.2 requires iat, jti and client_id; they are not looked at there"),
    ("sub empty", "the empty name names nobody"),
    ("iat in the future", "it is not looked at there"),
    ("iat in the future for nbf", "without nbf a token starts when it was issued"),
    ("lives too long", "no limit there"),
    ("neutral r", "a point of small order that no signer makes"),
];

/// What only we accept, and why that is no laxity: each is either valid by its RFC, or says nothing about
/// trust.
const OTHERWISE: [(&str, &str); 3] = [
    ("alg Ed25519", "RFC 9864's name for EdDSA over Ed25519, which is not known there"),
    ("unused header member", "members that we never use have types there; ours are not even looked at"),
    ("nbf negative", "RFC 7519 §2 allows any number: before 1970 has passed"),
];

/// A token with the parts that can be read of it.
struct Read<'t> {
    token: &'t str,
    header: Option<BTreeMap<String, Value>>,
    claims: Option<BTreeMap<String, Value>>,
    signature: Vec<u8>,
}

impl<'t> Read<'t> {
    fn new(token: &'t str) -> Self {
        let parts: Vec<_> =
            token.splitn(3, '.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap_or_default()).collect();
        let object = |index: usize| -> Option<BTreeMap<String, Value>> {
            Some(serde_json::from_slice::<Pairs>(parts.get(index)?).ok()?.0.into_iter().collect())
        };
        let signature = parts.get(2).cloned().unwrap_or_default();
        Self { token, header: object(0), claims: object(1), signature }
    }

    fn header(&self, name: &str) -> &Value {
        self.header.as_ref().and_then(|header| header.get(name)).unwrap_or(&Value::Null)
    }

    fn claim(&self, name: &str) -> &Value {
        self.claims.as_ref().and_then(|claims| claims.get(name)).unwrap_or(&Value::Null)
    }

    fn has_header(&self, name: &str) -> bool {
        self.header.as_ref().is_some_and(|header| header.contains_key(name))
    }

    /// Whether the header, or else the claims, name something twice.
    fn has_twice(&self, part: usize) -> bool {
        let text = URL_SAFE_NO_PAD.decode(self.token.split('.').nth(part).unwrap()).unwrap();
        serde_json::from_slice::<Pairs>(&text).is_ok_and(|pairs| pairs.once().is_none())
    }

    /// Whether a time of the token is so close to its edge that two looks at the clock might differ.
    fn is_on_edge(&self, now: UnixTime) -> bool {
        let near = |name: &str| {
            let away = self.claim(name).as_f64().map(|at| (at - time_of(now)).abs());
            away.is_some_and(|away| (away - time_of(UnixTime(LEEWAY))).abs() < 60.0)
        };
        ["exp", "nbf", "iat"].into_iter().any(near)
    }

    /// Which of the listed reasons it is that we refuse what the other one accepts. The reason must be there
    /// for everyone to see.
    fn why_stricter(&self, reason: &Reason) -> Option<&'static str> {
        let named = |holds: bool, name: &'static str| holds.then_some(name);
        let time = |name: &str| self.claim(name).as_f64().unwrap_or_default();
        let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        match reason {
            Reason::TooLong => named(self.token.len() > 8192, "too long"),
            Reason::CriticalHeader if self.has_header("crit") => Some("crit"),
            Reason::CriticalHeader => named(self.has_header("b64"), "b64"),
            // Of two, the first may be malformed as well.
            Reason::DuplicateName | Reason::BadHeader if self.has_twice(0) => Some("header name twice"),
            Reason::DuplicateName | Reason::BadClaim(_) if self.has_twice(1) => Some("claim twice"),
            Reason::WrongType => named(self.header("typ").as_str() != Some("at+jwt"), "typ"),
            Reason::BadHeader if self.has_header("typ") && self.header("typ").is_null() => Some("typ null"),
            Reason::BadHeader => {
                named(self.has_header("kid") && !is_text(self.header("kid")), "kid malformed")
            }
            Reason::MissingKid => named(!self.has_header("kid"), "kid absent"),
            Reason::UnknownKey => named(is_text(self.header("kid")), "kid unknown"),
            Reason::BadClaim("iss") => named(self.claim("iss").is_array(), "iss array"),
            Reason::BadClaim("exp") => named(self.claim("exp").as_f64() > Some(9e15), "exp out of range"),
            Reason::BadClaim("iat") => named(self.claim("iat").as_i64().is_none(), "iat malformed"),
            Reason::BadClaim("roles" | "amr") => Some("other claim malformed"),
            Reason::BadClaim("auth_time") => {
                named(!self.claim("auth_time").is_number(), "other claim malformed")
            }
            Reason::BadClaim(name @ ("jti" | "client_id" | "sid" | "scope")) => {
                named(!self.claim(name).is_string(), "other claim malformed")
            }
            Reason::MissingClaim("sub") => named(self.claim("sub") == "", "sub empty"),
            Reason::MissingClaim(name @ ("iat" | "jti" | "client_id")) => {
                named(!is_text(self.claim(name)), "claim missing")
            }
            Reason::NotYetValid { now, .. } => {
                let is_iat = self.claim("nbf").is_null() && time("iat") > time_of(*now);
                named(is_iat, "iat in the future for nbf")
            }
            Reason::IssuedInFuture { now, .. } => named(time("iat") > time_of(*now), "iat in the future"),
            Reason::LivesTooLong { .. } => named(time("exp") - time("iat") > 3600.0, "lives too long"),
            Reason::BadSignature => {
                let neutral = [&[1][..], &[0; 31]].concat();
                named(self.signature.len() == 64 && self.signature[..32] == neutral, "neutral r")
            }
            _ => None,
        }
    }

    /// Which of the listed reasons it is that only we accept.
    fn why_otherwise(&self) -> Option<&'static str> {
        if self.header("alg") == "Ed25519" {
            return Some("alg Ed25519");
        }
        let is_mistyped = |name: &&str| match (*name, self.header(name)) {
            (_, Value::Null) => false,
            ("jwk", value) => value.get("kty").is_none(),
            ("x5c", value) => !value.is_array(),
            (_, value) => !value.is_string(),
        };
        if ["jku", "jwk", "x5u", "x5c", "cty", "zip", "enc", "nonce"].iter().any(is_mistyped) {
            return Some("unused header member");
        }
        self.claim("nbf").as_f64().is_some_and(|nbf| nbf < 0.0).then_some("nbf negative")
    }
}

#[expect(clippy::cast_precision_loss, reason = "no date here is that far away")]
fn time_of(time: UnixTime) -> f64 {
    time.0 as f64
}

/// The other verifier, set up as its documentation says, with everything that it can check switched on.
struct Other {
    key: DecodingKey,
    validation: Validation,
}

impl Other {
    fn new(signer: &Signer) -> Self {
        let jwk = serde_json::to_value(&signer.jwk).unwrap();
        let member = |name: &str| jwk[name].as_str().unwrap();
        let (key, algorithm) = match signer.name {
            "eddsa" => (DecodingKey::from_ed_components(member("x")), jsonwebtoken::Algorithm::EdDSA),
            "es256" => {
                (DecodingKey::from_ec_components(member("x"), member("y")), jsonwebtoken::Algorithm::ES256)
            }
            _ => (DecodingKey::from_rsa_components(member("n"), member("e")), jsonwebtoken::Algorithm::RS256),
        };
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.leeway = LEEWAY.unsigned_abs();
        validation.validate_nbf = true;
        Self { key: key.unwrap(), validation }
    }

    fn accepts(&self, token: &str) -> bool {
        jsonwebtoken::decode::<Value>(token, &self.key, &self.validation).is_ok()
    }
}

#[test]
fn another_verifier_agrees_but_for_what_is_listed_and_never_refuses_more() {
    let _cpus = all_cpus();
    let lab = Lab::new();
    let keys = lab.keys();
    let others: Vec<_> = lab.signers.iter().map(Other::new).collect();
    let expected = Expected::new(ISSUER, [AUDIENCE]).with_leeway(Seconds(LEEWAY));
    let mut seed = [0; 8];
    lab::random().fill(&mut seed).unwrap();
    let seed = u64::from_le_bytes(seed);
    println!("seed {seed}");
    let mut dice = Dice::new(seed);
    let clock = SystemClock::new();
    let mut classes = BTreeMap::<&str, usize>::new();
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..TOKENS {
        // The other one has a clock of its own, so the real time it is.
        let now = clock.now();
        let index = [0, 0, 0, 0, 0, 1, 1, 2][dice.below(8)];
        let token = tokens::draw(&mut dice, &lab.signers[index], &lab.strangers[index], now);
        let read = Read::new(&token);
        if read.is_on_edge(now) {
            continue;
        }
        let ours = expected.verify::<NoExtra>(&token, &keys, now).map(|_| ());
        let class = match (&ours, others[index].accepts(&token)) {
            (Ok(()), true) => {
                accepted += 1;
                continue;
            }
            (Err(_), false) => {
                refused += 1;
                continue;
            }
            (Ok(()), false) => read.why_otherwise(),
            (Err(VerifyError::Invalid(reason)), true) => read.why_stricter(reason),
            (Err(other), true) => panic!("offline checks say nothing else: {other}"),
        };
        let Some(class) = class else {
            panic!("not on the list, ours: {ours:?}, {:?} {:?} {token}", read.header, read.claims);
        };
        *classes.entry(class).or_default() += 1;
    }
    println!("both accept {accepted}, both refuse {refused}, {classes:?}");
    assert!(accepted > TOKENS / 10 && refused > TOKENS / 10);
    let mut listed: Vec<_> = STRICTER.iter().chain(&OTHERWISE).map(|(class, _)| *class).collect();
    listed.sort_unstable();
    assert_eq!(classes.into_keys().collect::<Vec<_>>(), listed);
}
