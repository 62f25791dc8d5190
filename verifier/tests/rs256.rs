//! RS256 with a fresh key. Making one takes a while, so everything is one test.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{AUDIENCE, ISSUER, NOW};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
};
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::rand_core::{CryptoRng, Error, RngCore};
use verifier::testing::TestIssuer;
use verifier::{Expected, Jwk, JwkSet, KeySet, NoExtra, Reason, VerifyError};

/// ring's randomness in the form that key generation wants.
struct Random(SystemRandom);

impl RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        rsa::rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rsa::rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        self.0.fill(out).unwrap();
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for Random {}

#[expect(clippy::disallowed_methods, reason = "test keys are meant to differ every time")]
fn random() -> SystemRandom {
    SystemRandom::new()
}

#[test]
fn only_a_pkcs1_signature_with_sha256_of_exactly_this_text_is_accepted() {
    let private = rsa::RsaPrivateKey::new(&mut Random(random()), 2048).unwrap();
    let pair = RsaKeyPair::from_der(private.to_pkcs1_der().unwrap().as_bytes()).unwrap();
    let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
    let jwk = Jwk::rsa(&public.n, &public.e).unwrap();
    // One set with keys of two kinds: a name must not reach across.
    let other = TestIssuer::es256(ISSUER, AUDIENCE);
    let keys = JwkSet { keys: vec![jwk.clone(), other.jwk()], auth_ring: None };
    let keys = KeySet::from_jwks(&keys).unwrap();

    let header = serde_json::json!({ "typ": "at+jwt", "alg": "RS256", "kid": jwk.kid() });
    let claims = serde_json::to_vec(&other.claims(NOW)).unwrap();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
    let sign = |padding: &'static dyn RsaEncoding, text: &str| {
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(padding, &random(), text.as_bytes(), &mut signature).unwrap();
        signature
    };
    let verify = |signature: &[u8]| {
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        Expected::new(ISSUER, [AUDIENCE])
            .verify::<NoExtra>(&token, &keys, NOW)
            .map(|token| token.kid().clone())
    };

    let good = sign(&RSA_PKCS1_SHA256, &signed);
    assert_eq!(verify(&good).as_ref(), Ok(jwk.kid()));
    let mut flipped = good.clone();
    flipped[200] ^= 1;
    for bad in [
        sign(&RSA_PKCS1_SHA384, &signed),
        sign(&RSA_PSS_SHA256, &signed),
        sign(&RSA_PKCS1_SHA256, &signed[1..]),
        flipped,
        good[..255].to_vec(),
        [&[0], &good[..]].concat(),
        [&good[..], &[0]].concat(),
        vec![0; 256],
        vec![0xff; 256],
        public.n.clone(),
        vec![],
        vec![1; 2000],
    ] {
        assert_eq!(verify(&bad), Err(VerifyError::Invalid(Reason::BadSignature)));
    }
}
