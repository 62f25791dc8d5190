//! What must hold for any bytes at all: the functions that the mutation tests call on stable Rust, and the
//! fuzz targets (`fuzz/`) with a guided search. Each makes its keys in every process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use verifier::testing::TestIssuer;
use verifier::{Algorithm, Expected, KeySet, ManualClock, NoExtra, Seconds, Verified, VerifyError};

use crate::pairs::Pairs;
use crate::{AUDIENCE, ISSUER, NOW};

/// An issuer with a key of each kind that signs fast.
pub struct Bench {
    pub issuers: [TestIssuer; 2],
    pub keys: KeySet,
    expected: Expected,
}

impl Bench {
    pub fn get() -> &'static Self {
        static BENCH: OnceLock<Bench> = OnceLock::new();
        BENCH.get_or_init(|| {
            let issuers = [TestIssuer::new(ISSUER, AUDIENCE), TestIssuer::es256(ISSUER, AUDIENCE)];
            let keys =
                verifier::JwkSet { keys: issuers.iter().map(TestIssuer::jwk).collect(), keys_version: None };
            let keys = KeySet::from_jwks(&keys).unwrap();
            let expected = Expected::new(ISSUER, [AUDIENCE]).with_leeway(Seconds(0));
            Self { issuers, keys, expected }
        })
    }

    fn verify(&self, token: &str) -> Result<Verified, VerifyError> {
        self.expected.verify::<NoExtra>(token, &self.keys, NOW)
    }
}

/// Unsigned bytes are not a token; signed, they are one only if they contain everything that a token
/// must.
///
/// What stands before the first line feed is taken for a header and the rest for claims, and all of it for
/// claims under a good header. Returns whether anything was accepted.
pub fn parse_token(data: &[u8]) -> bool {
    let bench = Bench::get();
    let text = String::from_utf8_lossy(data);
    let answer = bench.verify(&text);
    assert!(matches!(answer, Err(VerifyError::Invalid(_))), "{text:?}");

    let issuer = &bench.issuers[data.len() % 2];
    let mut is_accepted = false;
    if let Some(at) = data.iter().position(|byte| *byte == b'\n') {
        let (header, claims) = (&data[..at], &data[at + 1..]);
        if let Ok(token) = bench.verify(&issuer.sign_bytes(header, claims)) {
            is_accepted = true;
            assert_header(issuer, header);
            assert_claims(&token, claims);
        }
    }
    // With a good header, to come to the claims more often.
    let good = serde_json::json!({ "typ": "at+jwt", "alg": issuer.algorithm(), "kid": issuer.jwk().kid() });
    if let Ok(token) = bench.verify(&issuer.sign_bytes(good.to_string(), data)) {
        is_accepted = true;
        assert_claims(&token, data);
    }
    is_accepted
}

/// Reads the header again, with another reader.
fn assert_header(issuer: &TestIssuer, header: &[u8]) {
    let header: Pairs = serde_json::from_slice(header).unwrap();
    let header = header.once().expect("no duplicate member");
    assert_eq!(header["kid"], issuer.jwk().kid().as_str());
    let alg = header["alg"].as_str().unwrap();
    assert!(alg == issuer.algorithm().as_str() || alg == "Ed25519" && issuer.algorithm() == Algorithm::EdDSA);
    let typ = header["typ"].as_str().unwrap().to_ascii_lowercase();
    assert!(typ == "at+jwt" || typ == "application/at+jwt");
    assert!(!header.contains_key("crit") && !header.contains_key("b64"));
}

fn assert_claims(token: &Verified, claims: &[u8]) {
    let claims: Pairs = serde_json::from_slice(claims).unwrap();
    let claims = claims.once().expect("no duplicate member");
    assert_eq!(claims["iss"], ISSUER);
    let audiences = claims["aud"].as_array().cloned().unwrap_or_else(|| vec![claims["aud"].clone()]);
    assert!(audiences.contains(&AUDIENCE.into()) && audiences.iter().all(Value::is_string));
    assert!(claims["sub"].as_str().is_some_and(|sub| !sub.is_empty() && sub == token.subject()));
    let (exp, iat) = (claims["exp"].as_f64().unwrap(), claims["iat"].as_f64().unwrap());
    #[expect(clippy::cast_precision_loss, reason = "small enough")]
    let now = NOW.0 as f64;
    assert!(now < exp && iat <= now && exp - iat <= 3601.0);
    assert!(claims.get("nbf").is_none_or(|nbf| nbf.as_f64().unwrap() <= now));
}

/// Whatever stands in a key set, each key that comes out of it stands there once, whole and public, and
/// nobody can sign for it with nothing. Returns whether there was one.
pub fn parse_jwks(data: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Document {
        keys: Vec<Element>,
    }
    let Ok(keys) = KeySet::parse(data) else { return false };
    let document: Document = serde_json::from_slice(data).unwrap();
    assert!(keys.len() <= 64 && keys.len() <= document.keys.len());
    let mut found = BTreeMap::<String, usize>::new();
    for Element(members) in document.keys {
        let Some(members) = members else { continue };
        let Some((_, Value::String(kid))) = members.0.iter().find(|(name, _)| name == "kid") else {
            continue;
        };
        let Some(key) = keys.find(kid) else { continue };
        *found.entry(kid.clone()).or_default() += 1;
        let members = members.once().expect("no duplicate member");
        for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert!(!members.contains_key(name), "{name}");
        }
        assert!(members.get("use").is_none_or(|usage| usage == "sig"));
        let number = |name: &str| URL_SAFE_NO_PAD.decode(members[name].as_str().unwrap()).unwrap();
        let (kty, length) = match key.algorithm() {
            Algorithm::EdDSA => ("OKP", number("x").len()),
            Algorithm::ES256 => ("EC", number("x").len() + number("y").len()),
            Algorithm::RS256 => ("RSA", number("n").len()),
        };
        assert_eq!(members["kty"], kty);
        assert!(if kty == "RSA" { length >= 256 } else { length == 32 || length == 64 });
        for signature in
            [vec![], vec![0; 64], vec![0; length], vec![0xff; length], [vec![1], vec![0; 63]].concat()]
        {
            assert!(!key.has_signed(b"anything", &signature), "signed with {signature:?}");
        }
    }
    assert_eq!(found.len(), keys.len(), "a key that stands nowhere");
    assert!(found.values().all(|count| *count == 1), "one name for two keys");
    !keys.is_empty()
}

/// Bytes that nobody has signed revoke nothing. Signed, they revoke what they list, no more and no less.
/// Returns whether they were taken in.
pub fn parse_feed(data: &[u8]) -> bool {
    let bench = Bench::get();
    let issuer = &bench.issuers[data.len() % 2];
    let clock = std::sync::Arc::new(ManualClock::new(NOW));
    let verifier = issuer.verifier().static_jwks(&issuer.jwks()).clock(clock).build().unwrap();
    let text = String::from_utf8_lossy(data);
    assert!(verifier.merge_revocations(&text).is_err(), "{text:?}");
    assert_eq!((verifier.status().feed.sessions, verifier.status().feed.keys), (0, 0));

    let header = serde_json::json!({
        "typ": "revocations+jwt", "alg": issuer.algorithm(), "kid": issuer.jwk().kid(),
    });
    let is_accepted = verifier.merge_revocations(&issuer.sign_bytes(header.to_string(), data)).is_ok();
    let feed = verifier.status().feed;
    if is_accepted {
        let claims: Pairs = serde_json::from_slice(data).unwrap();
        let claims = claims.once().expect("no duplicate member");
        assert_eq!(claims["iss"], ISSUER);
        // A delta continues what was never heard.
        assert!(!claims.contains_key("since"));
        let sessions = URL_SAFE_NO_PAD.decode(claims["sids"].as_str().unwrap()).unwrap();
        let sessions: BTreeSet<&[u8]> = sessions.chunks(16).collect();
        let keys: BTreeSet<&str> =
            claims["kids"].as_array().unwrap().iter().map(|kid| kid.as_str().unwrap()).collect();
        // A `keep_for` of zero expires immediately.
        let is_kept = claims["keep_for"].as_f64().unwrap() > 0.0;
        assert_eq!((feed.sessions, feed.keys), (if is_kept { sessions.len() } else { 0 }, keys.len()));
    } else {
        assert_eq!(feed.staleness, None);
    }
    is_accepted
}

/// An object, or something else that is none of ours.
struct Element(Option<Pairs>);

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(raw.get()).ok()))
    }
}
