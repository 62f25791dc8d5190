//! Signing and verifying one token, against ring's bare signature and check of the same bytes.

use std::hint::black_box;
use std::time::Duration;

use auth_service::domain::access::AccessClaims;
use auth_service::keys::signer::{Kind, Signer};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
    VerificationAlgorithm,
};
use rsa::pkcs8::EncodePrivateKey as _;
use verifier::{Algorithm, Clock as _, Expected, Jwk, JwkSet, KeySet, NoExtra, SystemClock, UnixTime};

use crate::{head, median, row};

const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "orders-api";
const NOW: UnixTime = UnixTime(1_800_000_000);
/// Rounds of each side, alternating, so that a change of the machine's speed meets both.
const ROUNDS: usize = 41;
const ROUND: Duration = Duration::from_millis(60);

struct Key {
    algorithm: Algorithm,
    secret: Vec<u8>,
    jwk: Jwk,
    public: Vec<u8>,
    check: &'static dyn VerificationAlgorithm,
}

/// Prints both tables.
pub(crate) fn run() {
    let keys = [ed25519(), p256(), rsa()];
    head("Verify a token: key in the cache, claims decoded; floor: ring's signature check");
    for (key, aim) in keys.iter().zip(["≤ 1.05", "≤ 1.05", "≤ 1.15"]) {
        let token = signer(key).sign(Kind::AccessToken, &claims()).expect("the claims are plain");
        let (signed, signature) = token.rsplit_once('.').expect("a JWS has dots");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        let jwks = JwkSet { keys: vec![key.jwk.clone()], auth_ring: None };
        let key_set = KeySet::from_jwks(&jwks).expect("one good key");
        let expected = Expected::new(ISSUER, [AUDIENCE]);
        let bare = UnparsedPublicKey::new(key.check, &key.public);
        let (ours, floor) = compare(
            || {
                let verified = expected.verify::<NoExtra>(black_box(&token), &key_set, NOW);
                black_box(verified.expect("a good token"));
            },
            || bare.verify(black_box(signed.as_bytes()), &signature).expect("a good signature"),
        );
        print(key.algorithm, ours, floor, aim);
    }
    head("Sign a token; floor: ring's signature of the same bytes");
    for key in &keys {
        let signer = signer(key);
        let token = signer.sign(Kind::AccessToken, &claims()).expect("the claims are plain");
        let (message, _) = token.rsplit_once('.').expect("a JWS has dots");
        let bare = bare_signature(key);
        let claims = claims();
        let (ours, floor) = compare(
            || drop(black_box(signer.sign(Kind::AccessToken, black_box(&claims)))),
            || bare(black_box(message.as_bytes())),
        );
        print(key.algorithm, ours, floor, "≤ 1.05");
    }
}

fn print(algorithm: Algorithm, ours: f64, floor: f64, aim: &str) {
    row(algorithm.as_str(), &format!("{ours:.2} µs"), &format!("{floor:.2} µs"), ours / floor, aim);
}

/// Microseconds a call of each: the medians of many rounds.
fn compare(mut ours: impl FnMut(), mut floor: impl FnMut()) -> (f64, f64) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        a.push(round(&mut ours));
        b.push(round(&mut floor));
    }
    (median(a), median(b))
}

fn round(call: &mut impl FnMut()) -> f64 {
    let clock = SystemClock::new();
    let start = clock.monotonic();
    let mut calls = 0_u32;
    loop {
        for _ in 0..16 {
            call();
        }
        calls += 16;
        let taken = clock.monotonic().saturating_sub(start);
        if taken >= ROUND {
            return taken.as_secs_f64() * 1e6 / f64::from(calls);
        }
    }
}

fn claims() -> AccessClaims<'static> {
    static EXTRA: std::sync::OnceLock<serde_json::Map<String, serde_json::Value>> =
        std::sync::OnceLock::new();
    static ROLES: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    AccessClaims {
        iss: ISSUER,
        sub: "0191d1f2-3c4b-4d5e-8f60-718293a4b5c6".to_owned(),
        aud: AUDIENCE,
        exp: UnixTime(NOW.0 + 300),
        iat: NOW,
        nbf: NOW,
        jti: "Zm9vYmFyYmF6cXV4cXV1eA".to_owned(),
        sid: "7b0f1d52-64a8-4f0d-9a0c-2f4f3f1b9e11".to_owned(),
        client_id: "first-party",
        scope: "orders:read orders:write",
        roles: ROLES.get_or_init(|| vec!["clerk".to_owned()]),
        auth_time: NOW,
        amr: ["pwd"],
        extra: EXTRA.get_or_init(serde_json::Map::new),
    }
}

fn signer(key: &Key) -> Signer {
    Signer::new(key.jwk.kid().clone(), key.algorithm, &key.secret).expect("a fresh key")
}

#[expect(clippy::disallowed_methods, reason = "the floor is ring as its users call it")]
fn random() -> SystemRandom {
    SystemRandom::new()
}

type BareSignature = Box<dyn Fn(&[u8])>;

fn bare_signature(key: &Key) -> BareSignature {
    let random = random();
    match key.algorithm {
        Algorithm::EdDSA => {
            let pair = Ed25519KeyPair::from_seed_unchecked(&key.secret).expect("a seed");
            Box::new(move |message| {
                black_box(pair.sign(message));
            })
        }
        Algorithm::ES256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.secret, &random);
            let pair = pair.expect("a key");
            Box::new(move |message| {
                black_box(pair.sign(&random, message)).expect("a signature");
            })
        }
        Algorithm::RS256 => {
            let pair = RsaKeyPair::from_pkcs8(&key.secret).expect("a key");
            Box::new(move |message| {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, black_box(&mut signature))
                    .expect("a signature");
            })
        }
    }
}

fn ed25519() -> Key {
    let secret = vec![7; 32];
    let pair = Ed25519KeyPair::from_seed_unchecked(&secret).expect("a seed");
    let public = pair.public_key().as_ref().to_vec();
    let jwk = Jwk::ed25519(public[..].try_into().expect("32 bytes"));
    Key { algorithm: Algorithm::EdDSA, secret, jwk, public, check: &ED25519 }
}

fn p256() -> Key {
    let random = random();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let secret = document.as_ref().to_vec();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &secret, &random).expect("a key");
    let public = pair.public_key().as_ref().to_vec();
    let jwk = Jwk::p256(&public).expect("a point");
    Key { algorithm: Algorithm::ES256, secret, jwk, public, check: &ECDSA_P256_SHA256_FIXED }
}

fn rsa() -> Key {
    let private = rsa::RsaPrivateKey::new(&mut OsRandom, 3072).expect("a key");
    let secret = private.to_pkcs8_der().expect("a document").as_bytes().to_vec();
    let pair = RsaKeyPair::from_pkcs8(&secret).expect("a key");
    let parts: ring::rsa::PublicKeyComponents<Vec<u8>> = pair.public().into();
    let jwk = Jwk::rsa(&parts.n, &parts.e).expect("a public key");
    let public = pair.public_key().as_ref().to_vec();
    Key { algorithm: Algorithm::RS256, secret, jwk, public, check: &RSA_PKCS1_2048_8192_SHA256 }
}

struct OsRandom;

impl rsa::rand_core::RngCore for OsRandom {
    fn next_u32(&mut self) -> u32 {
        rsa::rand_core::impls::next_u32_via_fill(self)
    }
    fn next_u64(&mut self) -> u64 {
        rsa::rand_core::impls::next_u64_via_fill(self)
    }
    fn fill_bytes(&mut self, out: &mut [u8]) {
        ring::rand::SecureRandom::fill(&random(), out).expect("randomness");
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl rsa::rand_core::CryptoRng for OsRandom {}
