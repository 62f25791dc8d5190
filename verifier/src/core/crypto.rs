//! Verification of signatures, and the only use of a cryptographic library for them. A public key is prepared
//! once, when its key set is loaded.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};

use crate::core::jwk::{Algorithm, PublicKey};
use crate::core::weak;

/// A public key that is ready to verify signatures of its one algorithm.
#[derive(Clone, Debug)]
pub(crate) enum PreparedKey {
    Ed25519(ed25519::Key),
    P256(UnparsedPublicKey<[u8; 65]>),
    Rsa(RsaPublicKeyComponents<Box<[u8]>>),
}

impl PreparedKey {
    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ed25519(_) => Algorithm::EdDSA,
            Self::P256(_) => Algorithm::ES256,
            Self::Rsa(_) => Algorithm::RS256,
        }
    }

    /// Returns whether `signature` is a valid signature of `message` by this key.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => is_strict(signature) && key.has_signed(message, signature),
            Self::P256(key) => key.verify(message, signature).is_ok(),
            Self::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok(),
        }
    }
}

impl From<PublicKey> for PreparedKey {
    fn from(key: PublicKey) -> Self {
        match key {
            PublicKey::Ed25519(point) => Self::Ed25519(ed25519::Key::new(&point)),
            // FIXED: R and S concatenated, 64 bytes, not DER (RFC 7518 §3.4).
            PublicKey::P256(point) => Self::P256(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)),
            PublicKey::Rsa { n, e } => Self::Rsa(RsaPublicKeyComponents { n, e }),
        }
    }
}

/// The order of the base point, 2^252 + 27742317777372353535851937790883648493, little-endian.
const ED25519_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// Decides the cases in which Ed25519 libraries differ, so that the choice of a library cannot change what is
/// accepted: S must be reduced (RFC 8032 §5.1.7), otherwise S + L is a second valid signature, and R must not
/// have small order, which no signer produces. Keys of small order are refused in `weak.rs`, and all
/// libraries compare R byte for byte.
fn is_strict(signature: &[u8]) -> bool {
    match signature.as_chunks() {
        ([r, s], []) => s.iter().rev().lt(ED25519_ORDER.iter().rev()) && !weak::has_small_order(r),
        _ => false,
    }
}

#[cfg(not(feature = "fast-ed25519"))]
mod ed25519 {
    use ring::signature::{ED25519, UnparsedPublicKey};

    #[derive(Clone, Debug)]
    pub(crate) struct Key(UnparsedPublicKey<[u8; 32]>);

    impl Key {
        pub(super) fn new(point: &[u8; 32]) -> Self {
            Self(UnparsedPublicKey::new(&ED25519, *point))
        }

        pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
            self.0.verify(message, signature).is_ok()
        }
    }
}

#[cfg(feature = "fast-ed25519")]
mod ed25519 {
    use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};

    /// The point, decompressed once. `None`: the bytes are not a point of the curve, so no signature is valid
    /// under them; ring discovers that with each signature.
    #[derive(Clone, Debug)]
    pub(crate) struct Key(Option<VerifyingKey>);

    impl Key {
        pub(super) fn new(point: &[u8; 32]) -> Self {
            Self(VerifyingKey::from_bytes(point).ok())
        }

        pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
            match (&self.0, Signature::from_slice(signature)) {
                // `verify_strict` would decompress R to learn what `is_strict` has read from its bytes; that
                // costs an eighth of the check.
                (Some(key), Ok(signature)) => key.verify(message, &signature).is_ok(),
                _ => false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_is_less_than_the_order_and_r_has_a_large_one() {
        let r = [7; 32];
        let strict = |r: [u8; 32], s: [u8; 32]| is_strict(&[r, s].concat());
        let with_low = |low: u8| {
            let mut s = ED25519_ORDER;
            s[0] = low;
            s
        };
        assert!(strict(r, [0; 32]) && strict(r, with_low(0xec)));
        assert!(!strict(r, ED25519_ORDER) && !strict(r, with_low(0xee)) && !strict(r, [0xff; 32]));
        let mut high = [0; 32];
        high[31] = 0x11;
        assert!(!strict(r, high));
        for sign in [0, 0x80] {
            let mut neutral = [0; 32];
            (neutral[0], neutral[31]) = (1, sign);
            assert!(!strict(neutral, [0; 32]));
        }
        assert!(!is_strict(&[7; 63]) && !is_strict(&[7; 65]) && !is_strict(&[]));
    }

    /// Half of all numbers are not a coordinate of a point. One library notices earlier than the other; the
    /// result must be the same.
    #[test]
    fn number_off_the_curve_is_kept_as_a_key_that_verifies_nothing() {
        for y in 2..40 {
            let mut point = [0; 32];
            point[0] = y;
            let key = PublicKey::Ed25519(point);
            assert!(key.check_strength().is_ok(), "{y}");
            assert!(!PreparedKey::from(key).has_signed(b"", &[[7; 32], [0; 32]].concat()), "{y}");
        }
    }
}
