//! An issuer without a network.

use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde::Serialize;

use crate::builder::VerifierBuilder;
use crate::core::base64url;
use crate::core::claims::AccessClaims;
use crate::core::jwk::{Algorithm, Jwk, JwkSet};
use crate::core::time::{Seconds, UnixTime};
use crate::verifier::Verifier;

/// Signs tokens with a key that is generated for each value. Clones share the key.
#[derive(Clone, Debug)]
pub struct TestIssuer {
    issuer: Arc<str>,
    audience: Arc<str>,
    key: Arc<SigningKey>,
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
        Self::with_algorithm(issuer, audience, Algorithm::EdDSA)
    }

    /// An issuer of `ES256` tokens.
    pub fn es256(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self::with_algorithm(issuer, audience, Algorithm::ES256)
    }

    fn with_algorithm(issuer: impl Into<String>, audience: impl Into<String>, algorithm: Algorithm) -> Self {
        let random = random();
        let key = SigningKey::generate(algorithm, &random);
        Self { issuer: issuer.into().into(), audience: audience.into().into(), key: Arc::new(key), random }
    }

    /// The same issuer with another key of the same algorithm.
    #[must_use]
    pub fn with_fresh_key(&self) -> Self {
        Self { key: Arc::new(SigningKey::generate(self.algorithm(), &self.random)), ..self.clone() }
    }

    /// A builder for a verifier of these tokens. It has the key and fetches nothing.
    pub fn verifier(&self) -> VerifierBuilder {
        Verifier::builder(&*self.issuer).audience(&*self.audience).static_jwks(&self.jwks())
    }

    /// The public key.
    pub fn jwk(&self) -> Jwk {
        match &*self.key {
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
        JwkSet { keys: vec![self.jwk()], keys_version: None }
    }

    /// Claims of `alice`, valid from `now` on for five minutes. Change what the test is about.
    pub fn claims(&self, now: UnixTime) -> AccessClaims {
        AccessClaims {
            iss: self.issuer.to_string(),
            sub: "alice".into(),
            aud: vec![self.audience.to_string()],
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

    /// A token with these claims, valid or not, and a valid header.
    pub fn sign(&self, claims: &impl Serialize) -> String {
        self.sign_as("at+jwt", claims)
    }

    pub(super) fn sign_as(&self, typ: &str, claims: &impl Serialize) -> String {
        let jwk = self.jwk();
        let header = serde_json::json!({ "typ": typ, "alg": jwk.algorithm(), "kid": jwk.kid() });
        let claims = serde_json::to_vec(claims).expect("test claims are JSON");
        self.sign_bytes(header.to_string(), claims)
    }

    /// A token with these bytes as header and claims, correctly signed.
    pub fn sign_bytes(&self, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", base64url::encode(header), base64url::encode(claims));
        let signature = match &*self.key {
            SigningKey::Ed25519(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
            SigningKey::P256(pair) => {
                let signature = pair.sign(&self.random, signed.as_bytes());
                signature.expect("the system has randomness").as_ref().to_vec()
            }
        };
        format!("{signed}.{}", base64url::encode(signature))
    }

    /// The algorithm of this issuer.
    pub fn algorithm(&self) -> Algorithm {
        match &*self.key {
            SigningKey::Ed25519(_) => Algorithm::EdDSA,
            SigningKey::P256(_) => Algorithm::ES256,
        }
    }
}

impl SigningKey {
    fn generate(algorithm: Algorithm, random: &SystemRandom) -> Self {
        match algorithm {
            Algorithm::EdDSA => {
                let seed = ring::rand::generate::<[u8; 32]>(random).expect("the system has randomness");
                let pair = Ed25519KeyPair::from_seed_unchecked(&seed.expose());
                Self::Ed25519(pair.expect("every seed of 32 bytes is a key"))
            }
            Algorithm::ES256 => {
                let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, random);
                let document = document.expect("the system has randomness");
                let pair =
                    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), random);
                Self::P256(pair.expect("ring reads what it wrote"))
            }
            Algorithm::RS256 => unreachable!("ring does not generate RSA keys"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "test keys must differ every time")]
fn random() -> SystemRandom {
    SystemRandom::new()
}
