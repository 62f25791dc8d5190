//! Generation of private keys.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use rsa::pkcs8::EncodePrivateKey as _;
use rsa::rand_core;
use verifier::{Algorithm, Jwk, Kid};
use zeroize::Zeroizing;

use super::sealing::MasterKeys;
use crate::domain::key::{Chain, NewKey};
use crate::entropy::{Entropy, EntropyError};

/// RFC 7518 §3.3 requires at least 2048 bits; 3072 bits give 128-bit security.
const RSA_BITS: usize = 3072;

/// Why no key was generated.
#[derive(Debug, thiserror::Error)]
pub enum KeyMaterialError {
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The cryptographic library failed.
    #[error("the cryptographic library could not generate a key: {0}")]
    Generate(String),
}

/// Generates a key for `chain`. An RSA key takes seconds of CPU time: call this on a blocking thread.
pub fn generate(
    chain: Chain,
    master: &MasterKeys,
    entropy: &dyn Entropy,
) -> Result<NewKey, KeyMaterialError> {
    let (secret, public_jwk) = match chain {
        Chain::Signing(Algorithm::EdDSA) => ed25519(entropy)?,
        Chain::Signing(Algorithm::ES256) => p256()?,
        Chain::Signing(Algorithm::RS256) => rsa(entropy)?,
        Chain::RefreshMac => (random_32(entropy)?, None),
    };
    let kid = match &public_jwk {
        Some(jwk) => jwk.kid().clone(),
        None => Kid::from(crate::domain::random_name("mac", entropy)?),
    };
    let sealed = master.seal(&secret, &row(&kid), purpose(chain), entropy)?;
    Ok(NewKey { kid, public_jwk, sealed })
}

/// The row name of a key for the associated data of its sealed value.
pub(crate) fn row(kid: &Kid) -> String {
    format!("keys/{kid}")
}

/// The purpose of a key for the associated data of its sealed value.
pub(crate) fn purpose(chain: Chain) -> &'static str {
    chain.as_str()
}

type Made = (Zeroizing<Vec<u8>>, Option<Jwk>);

/// The secret is the 32-byte seed (RFC 8032 §5.1.5).
fn ed25519(entropy: &dyn Entropy) -> Result<Made, KeyMaterialError> {
    let seed = random_32(entropy)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(generate_error)?;
    let public = pair.public_key().as_ref().try_into().map_err(generate_error)?;
    Ok((seed, Some(Jwk::ed25519(public))))
}

/// The secret is a PKCS #8 document.
#[expect(clippy::disallowed_methods, reason = "ring makes ECDSA keys from its own random source only")]
fn p256() -> Result<Made, KeyMaterialError> {
    let random = SystemRandom::new();
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(generate_error)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random)
        .map_err(generate_error)?;
    let public = Jwk::p256(pair.public_key().as_ref()).map_err(generate_error)?;
    Ok((Zeroizing::new(document.as_ref().to_vec()), Some(public)))
}

/// The secret is a PKCS #8 document.
fn rsa(entropy: &dyn Entropy) -> Result<Made, KeyMaterialError> {
    let private = rsa::RsaPrivateKey::new(&mut FromEntropy(entropy), RSA_BITS).map_err(generate_error)?;
    let document = Zeroizing::new(private.to_pkcs8_der().map_err(generate_error)?.as_bytes().to_vec());
    let pair = RsaKeyPair::from_pkcs8(&document).map_err(generate_error)?;
    let public: ring::rsa::PublicKeyComponents<Vec<u8>> = pair.public().into();
    Ok((document, Some(Jwk::rsa(&public.n, &public.e).map_err(generate_error)?)))
}

fn random_32(entropy: &dyn Entropy) -> Result<Zeroizing<Vec<u8>>, EntropyError> {
    let mut bytes = Zeroizing::new(vec![0; 32]);
    entropy.fill(&mut bytes)?;
    Ok(bytes)
}

fn generate_error(error: impl std::fmt::Display) -> KeyMaterialError {
    KeyMaterialError::Generate(error.to_string())
}

/// Adapts [`Entropy`] for the `rsa` crate.
struct FromEntropy<'a>(&'a dyn Entropy);

impl rand_core::RngCore for FromEntropy<'_> {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        self.try_fill_bytes(out).expect("key generation must not continue without randomness");
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
        self.0.fill(out).map_err(rand_core::Error::new)
    }
}

impl rand_core::CryptoRng for FromEntropy<'_> {}
