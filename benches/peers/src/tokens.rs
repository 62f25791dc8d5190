//! A key and a token of each algorithm.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, VerificationAlgorithm,
};
use rsa::pkcs8::EncodePrivateKey as _;
use verifier::{Algorithm, Jwk};

pub const ISSUER: &str = "https://auth.example.com";
pub const AUDIENCE: &str = "orders-api";

pub struct Key {
    pub algorithm: Algorithm,
    pub jwk: Jwk,
    /// As ring takes it.
    pub public: Vec<u8>,
    pub bare: &'static dyn VerificationAlgorithm,
    /// Modulus and exponent, for RSA.
    pub components: Option<(Vec<u8>, Vec<u8>)>,
    sign: Box<dyn Fn(&[u8]) -> Vec<u8>>,
}

pub fn keys() -> [Key; 3] {
    [ed25519(), p256(), rsa()]
}

impl Key {
    /// A token as the service writes it, good for an hour.
    pub fn token(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let header = serde_json::json!({ "typ": "at+jwt", "alg": self.algorithm, "kid": self.jwk.kid() });
        let claims = serde_json::json!({
            "iss": ISSUER,
            "sub": "0191d1f2-3c4b-4d5e-8f60-718293a4b5c6",
            "aud": AUDIENCE,
            "exp": now + 3600,
            "iat": now,
            "nbf": now,
            "jti": "Zm9vYmFyYmF6cXV4cXV1eA",
            "sid": "7b0f1d52-64a8-4f0d-9a0c-2f4f3f1b9e11",
            "client_id": "first-party",
            "scope": "orders:read orders:write",
            "roles": ["clerk"],
            "auth_time": now,
            "amr": ["pwd"],
        });
        let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = (self.sign)(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The signed part and the signature.
pub fn split(token: &str) -> (&str, Vec<u8>) {
    let (signed, signature) = token.rsplit_once('.').expect("a JWS has dots");
    (signed, URL_SAFE_NO_PAD.decode(signature).expect("base64url"))
}

/// The token with one bit of its signature turned.
pub fn spoilt(token: &str) -> String {
    let (signed, mut signature) = split(token);
    signature[0] ^= 1;
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn ed25519() -> Key {
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).expect("randomness");
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a seed");
    let public = pair.public_key().as_ref().to_vec();
    let jwk = Jwk::ed25519(public[..].try_into().expect("32 bytes"));
    let sign = Box::new(move |message: &[u8]| pair.sign(message).as_ref().to_vec());
    Key { algorithm: Algorithm::EdDSA, jwk, public, bare: &ED25519, components: None, sign }
}

fn p256() -> Key {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).expect("a key");
    let public = pair.public_key().as_ref().to_vec();
    let jwk = Jwk::p256(&public).expect("a point");
    let sign = Box::new(move |message: &[u8]| {
        pair.sign(&random, message).expect("a signature").as_ref().to_vec()
    });
    Key { algorithm: Algorithm::ES256, jwk, public, bare: &ECDSA_P256_SHA256_FIXED, components: None, sign }
}

fn rsa() -> Key {
    let private = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 3072).expect("a key");
    let document = private.to_pkcs8_der().expect("a document");
    let pair = RsaKeyPair::from_pkcs8(document.as_bytes()).expect("a key");
    let parts: ring::rsa::PublicKeyComponents<Vec<u8>> = pair.public().into();
    let jwk = Jwk::rsa(&parts.n, &parts.e).expect("a public key");
    let public = pair.public_key().as_ref().to_vec();
    let sign = Box::new(move |message: &[u8]| {
        let mut signature = vec![0; pair.public().modulus_len()];
        let random = SystemRandom::new();
        pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("a signature");
        signature
    });
    let components = Some((parts.n, parts.e));
    Key { algorithm: Algorithm::RS256, jwk, public, bare: &RSA_PKCS1_2048_8192_SHA256, components, sign }
}
