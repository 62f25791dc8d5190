//! Signs compact JWS (RFC 7515 §7.1) with a private key that is parsed once.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde::Serialize;
use verifier::{Algorithm, Kid};

/// The kind of the signed document. The header `typ` keeps the kinds apart (RFC 8725 §3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An access token (RFC 9068 §2.1).
    AccessToken,
    /// A document of the revocation feed.
    Revocations,
}

impl Kind {
    fn typ(self) -> &'static str {
        match self {
            Self::AccessToken => "at+jwt",
            Self::Revocations => "revocations+jwt",
        }
    }
}

/// A signer with one key.
pub struct Signer {
    kid: Kid,
    /// The encoded header and the dot after it, the same for every token of this key.
    token_head: String,
    feed_head: String,
    pair: Pair,
    random: SystemRandom,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Why a token was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The claims could not be serialised.
    #[error("the claims could not be serialised as JSON")]
    Claims(#[from] serde_json::Error),
    /// `ring` failed without a reason.
    #[error("signing failed")]
    Sign,
}

impl Signer {
    /// Parses a secret from [`generate`](super::material::generate) for `algorithm`.
    #[expect(clippy::disallowed_methods, reason = "ring signs with its own random source only")]
    pub fn new(kid: Kid, algorithm: Algorithm, secret: &[u8]) -> Result<Self, ring::error::KeyRejected> {
        let random = SystemRandom::new();
        let pair = match algorithm {
            Algorithm::EdDSA => Pair::Ed25519(Ed25519KeyPair::from_seed_unchecked(secret)?),
            Algorithm::ES256 => {
                Pair::P256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, secret, &random)?)
            }
            Algorithm::RS256 => Pair::Rsa(RsaKeyPair::from_pkcs8(secret)?),
        };
        let [token_head, feed_head] =
            [Kind::AccessToken, Kind::Revocations].map(|kind| head(kind, &kid, algorithm));
        Ok(Self { kid, token_head, feed_head, pair, random })
    }

    /// The key id in the header of its tokens.
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// Returns `header.claims.signature`.
    pub fn sign(&self, kind: Kind, claims: &impl Serialize) -> Result<String, SignatureError> {
        let head = match kind {
            Kind::AccessToken => &self.token_head,
            Kind::Revocations => &self.feed_head,
        };
        let json = serde_json::to_vec(claims)?;
        let signature_room = 1 + 512;
        let mut token = String::with_capacity(head.len() + json.len() * 4 / 3 + signature_room);
        token.push_str(head);
        URL_SAFE_NO_PAD.encode_string(&json, &mut token);
        match &self.pair {
            Pair::Ed25519(pair) => {
                let signature = pair.sign(token.as_bytes());
                append(&mut token, signature.as_ref());
            }
            Pair::P256(pair) => {
                let signature =
                    pair.sign(&self.random, token.as_bytes()).map_err(|_| SignatureError::Sign)?;
                append(&mut token, signature.as_ref());
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, token.as_bytes(), &mut signature)
                    .map_err(|_| SignatureError::Sign)?;
                append(&mut token, &signature);
            }
        }
        Ok(token)
    }
}

fn head(of: Kind, kid: &Kid, algorithm: Algorithm) -> String {
    let header = jsonwebtoken::Header {
        typ: Some(of.typ().to_owned()),
        kid: Some(kid.as_str().to_owned()),
        ..jsonwebtoken::Header::new(header_algorithm(algorithm))
    };
    let json = serde_json::to_vec(&header).expect("a header is plain strings");
    URL_SAFE_NO_PAD.encode(json) + "."
}

fn append(token: &mut String, signature: &[u8]) {
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, token);
}

fn header_algorithm(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
    }
}
