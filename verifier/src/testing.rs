//! A small issuer with fresh keys, for tests.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde::Serialize;

use crate::base64url;
use crate::claims::AccessClaims;
use crate::jwk::{Algorithm, Jwk, JwkSet};
use crate::time::{Seconds, UnixTime};

/// Signs tokens with a key that nobody else has, made anew for each value.
#[derive(Debug)]
pub struct TestIssuer {
    issuer: String,
    audience: String,
    key: SigningKey,
    random: SystemRandom,
}

#[derive(Debug)]
enum SigningKey {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl TestIssuer {
    /// An issuer of `EdDSA` tokens.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        let random = random();
        let seed = ring::rand::generate::<[u8; 32]>(&random).expect("the system has randomness");
        let pair =
            Ed25519KeyPair::from_seed_unchecked(&seed.expose()).expect("every seed of 32 bytes is a key");
        Self { issuer: issuer.into(), audience: audience.into(), key: SigningKey::Ed25519(pair), random }
    }

    /// An issuer of `ES256` tokens.
    pub fn es256(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        let random = random();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let pair = document
            .and_then(|document| {
                let reread =
                    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random);
                reread.map_err(|_| ring::error::Unspecified)
            })
            .expect("the system has randomness");
        Self { issuer: issuer.into(), audience: audience.into(), key: SigningKey::P256(pair), random }
    }

    /// The public key.
    pub fn jwk(&self) -> Jwk {
        match &self.key {
            SigningKey::Ed25519(pair) => {
                let point = pair.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes");
                Jwk::ed25519(point)
            }
            SigningKey::P256(pair) => {
                Jwk::p256(pair.public_key().as_ref()).expect("ring writes points uncompressed")
            }
        }
    }

    /// The key set that this issuer publishes.
    pub fn jwks(&self) -> JwkSet {
        JwkSet { keys: vec![self.jwk()], auth_ring: None }
    }

    /// Claims of `alice` that are accepted at `now` and for five minutes; change what the test is about.
    pub fn claims(&self, now: UnixTime) -> AccessClaims {
        AccessClaims {
            iss: self.issuer.clone(),
            sub: "alice".into(),
            aud: vec![self.audience.clone()],
            exp: now + Seconds(300),
            iat: now,
            nbf: now,
            jti: "token-1".into(),
            sid: Some("session-1".into()),
            client_id: "first-party".into(),
            scope: "ping".into(),
            ..AccessClaims::default()
        }
    }

    /// A token with these claims, whatever they are, and a good header.
    pub fn sign(&self, claims: &impl Serialize) -> String {
        let jwk = self.jwk();
        let header = serde_json::json!({ "typ": "at+jwt", "alg": jwk.algorithm(), "kid": jwk.kid() });
        let claims = serde_json::to_vec(claims).expect("test claims are JSON");
        self.sign_bytes(header.to_string(), claims)
    }

    /// A signature over whatever `header` and `claims` are.
    pub fn sign_bytes(&self, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", base64url::encode(header), base64url::encode(claims));
        let signature = match &self.key {
            SigningKey::Ed25519(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
            SigningKey::P256(pair) => {
                let signature = pair.sign(&self.random, signed.as_bytes());
                signature.expect("the system has randomness").as_ref().to_vec()
            }
        };
        format!("{signed}.{}", base64url::encode(signature))
    }

    /// The one algorithm of this issuer.
    pub fn algorithm(&self) -> Algorithm {
        self.jwk().algorithm()
    }
}

#[expect(clippy::disallowed_methods, reason = "test keys are meant to differ every time")]
fn random() -> SystemRandom {
    SystemRandom::new()
}
