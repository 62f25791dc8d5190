//! A key of each algorithm, in the form of the service and in that of ring.

use std::hint::black_box;

use auth_service::keys::signer::Signer;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, VerificationAlgorithm,
};
use rsa::pkcs8::EncodePrivateKey as _;
use verifier::{Algorithm, Jwk, JwkSet};

pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    secret: Vec<u8>,
    pub(super) jwk: Jwk,
    /// The private key in the form that ring reads.
    pub(super) public: Vec<u8>,
    pub(super) check: &'static dyn VerificationAlgorithm,
}

impl Key {
    pub(super) fn all() -> [Self; 3] {
        [ed25519(), p256(), rsa()]
    }

    pub(super) fn signer(&self) -> Signer {
        Signer::new(self.jwk.kid().clone(), self.algorithm, &self.secret).expect("a fresh key")
    }

    pub(super) fn jwks(&self) -> JwkSet {
        JwkSet { keys: vec![self.jwk.clone()], keys_version: None }
    }

    /// Returns a function that signs bytes with ring and drops the signature.
    pub(super) fn bare_signature(&self) -> BareSignature {
        let random = random();
        match self.algorithm {
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::from_seed_unchecked(&self.secret).expect("a seed");
                Box::new(move |message| {
                    black_box(pair.sign(message));
                })
            }
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.secret, &random);
                let pair = pair.expect("a key");
                Box::new(move |message| {
                    black_box(pair.sign(&random, message)).expect("a signature");
                })
            }
            Algorithm::RS256 => {
                let pair = RsaKeyPair::from_pkcs8(&self.secret).expect("a key");
                Box::new(move |message| {
                    let mut signature = vec![0; pair.public().modulus_len()];
                    pair.sign(&RSA_PKCS1_SHA256, &random, message, black_box(&mut signature))
                        .expect("a signature");
                })
            }
        }
    }
}

/// See [`Key::bare_signature`].
pub(super) type BareSignature = Box<dyn Fn(&[u8])>;

#[expect(clippy::disallowed_methods, reason = "the floor uses ring directly")]
fn random() -> SystemRandom {
    SystemRandom::new()
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
