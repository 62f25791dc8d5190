//! The same question to each library.

use std::collections::HashSet;
use std::task::{Context, Poll, Waker};

use axum_jwt_auth::{JwtDecoder as _, LocalDecoder};
use jwt_simple::prelude::{
    ECDSAP256PublicKeyLike as _, ES256PublicKey, Ed25519PublicKey, EdDSAPublicKeyLike as _, RS256PublicKey,
    RSAPublicKeyLike as _, VerificationOptions,
};
use serde::Deserialize;
use verifier::{Algorithm, Clock as _, Expected, JwkSet, KeySet, NoExtra, SystemClock};

use crate::tokens::{AUDIENCE, ISSUER, Key};

/// The back ends of `jsonwebtoken`.
pub const BACK_ENDS: [&str; 2] = ["rust_crypto", "aws_lc_rs"];

/// Whether a library accepts a token.
pub type Check = Box<dyn Fn(&str) -> bool>;

/// What an application reads from a token.
#[derive(Deserialize)]
#[expect(dead_code, reason = "decoding them is what is measured")]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: u64,
    iat: u64,
    nbf: u64,
    jti: String,
    sid: String,
    client_id: String,
    scope: String,
    roles: Vec<String>,
    auth_time: u64,
    amr: Vec<String>,
}

/// As `Claims`, without those that `jwt-simple` reads itself.
#[derive(serde::Serialize, Deserialize)]
struct Custom {
    sid: String,
    client_id: String,
    scope: String,
    roles: Vec<String>,
    auth_time: u64,
    amr: Vec<String>,
}

/// Chooses the back end of `jsonwebtoken` for this process.
pub fn install(back_end: &str) {
    let provider = match back_end {
        "rust_crypto" => &jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER,
        _ => &jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER,
    };
    provider.install_default().expect("nobody has chosen before");
}

/// Every library, with its name. Those that have nothing to do with the back end are asked in the first run only.
pub fn all(key: &Key, back_end: &str) -> Vec<(String, Check)> {
    let mut checks = vec![(format!("jsonwebtoken 11, {back_end}"), jsonwebtoken(key))];
    if back_end == BACK_ENDS[0] {
        let ours = if cfg!(feature = "fast-ed25519") { "verifier, fast-ed25519" } else { "verifier" };
        checks.insert(0, (ours.to_owned(), verifier(key)));
        checks.push(("jwt-simple 0.15, pure-rust".to_owned(), jwt_simple(key)));
        checks.push(("axum-jwt-auth 0.7".to_owned(), axum_jwt_auth(key)));
    }
    checks
}

fn verifier(key: &Key) -> Check {
    let jwks = JwkSet { keys: vec![key.jwk.clone()], keys_version: None };
    let keys = KeySet::from_jwks(&jwks).expect("one good key");
    let expected = Expected::new(ISSUER, [AUDIENCE]);
    let clock = SystemClock::new();
    Box::new(move |token| expected.verify::<NoExtra>(token, &keys, clock.now()).is_ok())
}

fn jsonwebtoken(key: &Key) -> Check {
    let jwk = serde_json::from_value(serde_json::json!(key.jwk)).expect("a JWK");
    let decoding = jsonwebtoken::DecodingKey::from_jwk(&jwk).expect("a key");
    let algorithm = match key.algorithm {
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
    };
    let mut validation = jsonwebtoken::Validation::new(algorithm);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.validate_nbf = true;
    Box::new(move |token| jsonwebtoken::decode::<Claims>(token, &decoding, &validation).is_ok())
}

fn jwt_simple(key: &Key) -> Check {
    let options = VerificationOptions {
        allowed_issuers: Some(HashSet::from([ISSUER.to_owned()])),
        allowed_audiences: Some(HashSet::from([AUDIENCE.to_owned()])),
        ..VerificationOptions::default()
    };
    match key.algorithm {
        Algorithm::EdDSA => {
            let public = Ed25519PublicKey::from_bytes(&key.public).expect("a key");
            Box::new(move |token| public.verify_token::<Custom>(token, Some(options.clone())).is_ok())
        }
        Algorithm::ES256 => {
            let public = ES256PublicKey::from_bytes(&key.public).expect("a key");
            Box::new(move |token| public.verify_token::<Custom>(token, Some(options.clone())).is_ok())
        }
        Algorithm::RS256 => {
            let (n, e) = key.components.as_ref().expect("an RSA key");
            let public = RS256PublicKey::from_components(n, e).expect("a key");
            Box::new(move |token| public.verify_token::<Custom>(token, Some(options.clone())).is_ok())
        }
    }
}

/// Its decoder for keys in hand; the one for a JWKS does the same after a look-up.
fn axum_jwt_auth(key: &Key) -> Check {
    let jwk = serde_json::from_value(serde_json::json!(key.jwk)).expect("a JWK");
    let decoding = jsonwebtoken10::DecodingKey::from_jwk(&jwk).expect("a key");
    let algorithm = match key.algorithm {
        Algorithm::EdDSA => jsonwebtoken10::Algorithm::EdDSA,
        Algorithm::ES256 => jsonwebtoken10::Algorithm::ES256,
        Algorithm::RS256 => jsonwebtoken10::Algorithm::RS256,
    };
    let mut validation = jsonwebtoken10::Validation::new(algorithm);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.validate_nbf = true;
    let decoder = LocalDecoder::new(vec![decoding], validation).expect("a whole description");
    Box::new(move |token| {
        let mut decoding = decoder.decode(token);
        // It has no await in it: the first poll is the answer.
        let mut context = Context::from_waker(Waker::noop());
        let answer: Poll<Result<jsonwebtoken10::TokenData<Claims>, _>> = decoding.as_mut().poll(&mut context);
        matches!(answer, Poll::Ready(Ok(_)))
    })
}
