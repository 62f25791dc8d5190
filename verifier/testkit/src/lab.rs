//! Keys made for this run, and what is needed to sign anything at all with them, correctly or not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA512, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaEncoding,
    RsaKeyPair,
};
use rsa::BigUint;
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::rand_core::{CryptoRng, Error, RngCore};
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use serde_json::{Value, json};
use verifier::{AccessClaims, Jwk, JwkSet, KeySet, Seconds};

use crate::{AUDIENCE, ISSUER, NOW};

/// One private key of an issuer.
pub struct Signer {
    /// Begins the names of cases: `eddsa`, `es256`, `rs256`.
    pub name: &'static str,
    pub jwk: Jwk,
    key: Key,
}

enum Key {
    Ed25519 { pair: Ed25519KeyPair, seed: [u8; 32] },
    P256(EcdsaKeyPair),
    Rsa { pair: Box<RsaKeyPair>, n: BigUint, d: BigUint },
}

impl Signer {
    pub fn ed25519() -> Self {
        let mut seed = [0; 32];
        random().fill(&mut seed).unwrap();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let jwk = Jwk::ed25519(pair.public_key().as_ref().try_into().unwrap());
        Self { name: "eddsa", jwk, key: Key::Ed25519 { pair, seed } }
    }

    pub fn p256() -> Self {
        let scheme = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(scheme, &random()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(scheme, document.as_ref(), &random()).unwrap();
        let jwk = Jwk::p256(pair.public_key().as_ref()).unwrap();
        Self { name: "es256", jwk, key: Key::P256(pair) }
    }

    pub fn rsa(bits: usize) -> Self {
        let private = rsa::RsaPrivateKey::new(&mut Random, bits).unwrap();
        let pair = RsaKeyPair::from_der(private.to_pkcs1_der().unwrap().as_bytes()).unwrap();
        let jwk = Jwk::rsa(&private.n().to_bytes_be(), &private.e().to_bytes_be()).unwrap();
        let (n, d) = (private.n().clone(), private.d().clone());
        Self { name: "rs256", jwk, key: Key::Rsa { pair: Box::new(pair), n, d } }
    }

    pub fn kid(&self) -> &str {
        self.jwk.kid().as_str()
    }

    pub fn alg(&self) -> &'static str {
        self.jwk.algorithm().as_str()
    }

    /// The public numbers, one after another.
    pub fn public_bytes(&self) -> Vec<u8> {
        match &self.key {
            Key::Ed25519 { pair, .. } => pair.public_key().as_ref().to_vec(),
            Key::P256(pair) => pair.public_key().as_ref().to_vec(),
            Key::Rsa { n, .. } => n.to_bytes_be(),
        }
    }

    /// A header as the issuer writes it.
    pub fn header(&self) -> Value {
        json!({ "typ": "at+jwt", "alg": self.alg(), "kid": self.kid() })
    }

    /// A good signature over anything.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.key {
            Key::Ed25519 { pair, .. } => pair.sign(message).as_ref().to_vec(),
            Key::P256(pair) => pair.sign(&random(), message).unwrap().as_ref().to_vec(),
            Key::Rsa { .. } => self.sign_padded(&RSA_PKCS1_SHA256, message),
        }
    }

    /// A token of these texts with a good signature.
    pub fn token(&self, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.sign(signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    pub fn with_header(&self, header: &Value) -> String {
        self.token(header.to_string(), claims().to_string())
    }

    pub fn with_claims(&self, claims: impl AsRef<[u8]>) -> String {
        self.token(self.header().to_string(), claims)
    }

    pub fn good(&self) -> String {
        self.with_claims(claims().to_string())
    }

    /// RSA with another padding or hash than ours.
    pub fn sign_padded(&self, padding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let Key::Rsa { pair, .. } = &self.key else { panic!("not an RSA key") };
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(padding, &random(), message, &mut signature).unwrap();
        signature
    }

    /// RSA of any block at all, as only the holder of the key can make it.
    pub fn sign_block(&self, block: &[u8]) -> Vec<u8> {
        let Key::Rsa { n, d, .. } = &self.key else { panic!("not an RSA key") };
        to_be(&BigUint::from_bytes_be(block).modpow(d, n), block.len())
    }

    /// An Ed25519 signature whose R is the neutral element. It satisfies the equation.
    pub fn sign_with_neutral_r(&self, message: &[u8]) -> Vec<u8> {
        let Key::Ed25519 { pair, seed } = &self.key else { panic!("not an Ed25519 key") };
        let mut r = [0; 32];
        r[0] = 1;
        let mut a = digest(&SHA512, seed).as_ref()[..32].to_vec();
        a[0] &= 0xf8;
        a[31] = a[31] & 0x7f | 0x40;
        let hashed = digest(&SHA512, &[&r, pair.public_key().as_ref(), message].concat());
        let s = BigUint::from_bytes_le(hashed.as_ref()) * BigUint::from_bytes_le(&a) % ed25519_order();
        [&r[..], &to_le(&s)].concat()
    }
}

/// The issuer of the corpus: one key of each algorithm, all in one set, and a stranger for each.
pub struct Lab {
    pub signers: [Signer; 3],
    pub strangers: [Signer; 3],
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Lab {
    pub fn new() -> Self {
        let keys = || [Signer::ed25519(), Signer::p256(), Signer::rsa(2048)];
        Self { signers: keys(), strangers: keys() }
    }

    pub fn ed25519(&self) -> &Signer {
        &self.signers[0]
    }

    pub fn p256(&self) -> &Signer {
        &self.signers[1]
    }

    pub fn rsa(&self) -> &Signer {
        &self.signers[2]
    }

    pub fn jwks(&self) -> JwkSet {
        JwkSet { keys: self.signers.iter().map(|signer| signer.jwk.clone()).collect(), keys_version: None }
    }

    pub fn keys(&self) -> KeySet {
        KeySet::from_jwks(&self.jwks()).unwrap()
    }
}

/// Claims that are accepted at `NOW` and for five minutes.
pub fn claims() -> Value {
    serde_json::to_value(AccessClaims {
        iss: ISSUER.into(),
        sub: "alice".into(),
        aud: vec![AUDIENCE.into()],
        exp: NOW + Seconds(300),
        iat: NOW,
        nbf: NOW,
        jti: "token-1".into(),
        sid: Some("session-1".into()),
        client_id: "first-party".into(),
        scope: "ping".into(),
        ..AccessClaims::default()
    })
    .unwrap()
}

pub fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

pub fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name);
    object
}

/// The object with this member, given as text, put first; a member of that name is left where it is.
pub fn and_raw(object: &Value, name: &str, value: &str) -> String {
    object.to_string().replacen('{', &format!("{{\"{name}\":{value},"), 1)
}

/// The object with this member, given as text.
pub fn with_raw(object: &Value, name: &str, value: &str) -> String {
    and_raw(&without(object.clone(), name), name, value)
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The token with another signature.
pub fn resigned(token: &str, signature: impl AsRef<[u8]>) -> String {
    format!("{}.{}", signed_part(token), encode(signature))
}

pub fn signed_part(token: &str) -> &str {
    token.rsplit_once('.').unwrap().0
}

pub fn signature_of(token: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(token.rsplit_once('.').unwrap().1).unwrap()
}

/// 2^252 + 27742317777372353535851937790883648493.
pub fn ed25519_order() -> BigUint {
    (BigUint::from(1_u8) << 252)
        + BigUint::parse_bytes(b"27742317777372353535851937790883648493", 10).unwrap()
}

/// The order of P-256.
pub fn p256_order() -> BigUint {
    BigUint::parse_bytes(b"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16).unwrap()
}

pub fn to_be(number: &BigUint, length: usize) -> Vec<u8> {
    let bytes = number.to_bytes_be();
    [vec![0; length - bytes.len()], bytes].concat()
}

pub fn to_le(number: &BigUint) -> Vec<u8> {
    let mut bytes = number.to_bytes_le();
    bytes.resize(32, 0);
    bytes
}

#[expect(clippy::disallowed_methods, reason = "test keys are meant to differ every time")]
pub fn random() -> SystemRandom {
    SystemRandom::new()
}

/// ring's randomness in the form that key generation wants.
struct Random;

impl RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        rsa::rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rsa::rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        random().fill(out).unwrap();
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for Random {}
