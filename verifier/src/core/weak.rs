//! Keys that are well-formed but must not be trusted.

use crate::core::jwk::{JwkError, PublicKey};

impl PublicKey {
    /// Refuses keys with which anyone can sign, or nobody (RFC 8725 §3.4, §3.5).
    pub(crate) fn check_strength(&self) -> Result<(), JwkError> {
        match self {
            Self::Ed25519(point) => check_ed25519(point),
            Self::P256(point) => check_p256(point),
            Self::Rsa { n, e } => check_rsa(n, e),
        }
    }
}

/// 2^255 − 19, little-endian.
const ED25519_PRIME: [u8; 32] = {
    let mut prime = [0xff; 32];
    prime[0] = 0xed;
    prime[31] = 0x7f;
    prime
};

/// The y coordinates, little-endian, of the eight points whose order divides the cofactor. Anyone can make
/// signatures that are valid under such a key.
const ED25519_SMALL_ORDER: [[u8; 32]; 5] = {
    let (zero, mut one, mut minus_one) = ([0; 32], [0; 32], ED25519_PRIME);
    one[0] = 1;
    minus_one[0] = 0xec;
    [
        zero,
        one,
        minus_one,
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
            0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
            0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ]
};

/// Accepts a y that is not a coordinate of any point: no signature is valid under it.
fn check_ed25519(point: &[u8; 32]) -> Result<(), JwkError> {
    let mut y = *point;
    y[31] &= 0x7f; // the top bit is the sign of x
    if y.iter().rev().ge(ED25519_PRIME.iter().rev()) {
        return Err(JwkError("Ed25519 coordinate is not canonical"));
    }
    if has_small_order(point) {
        return Err(JwkError("Ed25519 point has small order"));
    }
    Ok(())
}

/// Returns whether these bytes are the canonical encoding, with either sign, of a point whose order divides
/// the cofactor.
pub(crate) fn has_small_order(point: &[u8; 32]) -> bool {
    let mut y = *point;
    y[31] &= 0x7f;
    ED25519_SMALL_ORDER.contains(&y)
}

/// ring validates a point only when it is used. A key agreement uses it without a signature; its result is
/// discarded.
fn check_p256(point: &[u8; 65]) -> Result<(), JwkError> {
    use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
    #[expect(
        clippy::disallowed_methods,
        reason = "the private key is discarded; no result depends on its value"
    )]
    let random = ring::rand::SystemRandom::new();
    EphemeralPrivateKey::generate(&ECDH_P256, &random)
        .and_then(|private| agree_ephemeral(private, &UnparsedPublicKey::new(&ECDH_P256, point), |_| ()))
        .map_err(|_| JwkError("point is not on P-256"))
}

/// The bounds of ring for the modulus, and its upper bound for the exponent; the lower bound is 65537.
fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), JwkError> {
    let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let exponent = e.iter().try_fold(0_u64, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
    if !(2048..=8192).contains(&bits) || !is_odd(n) {
        return Err(JwkError("RSA modulus is not an odd number of 2048 to 8192 bits"));
    }
    if !exponent.is_some_and(|e| (65_537..1 << 33).contains(&e)) || !is_odd(e) {
        return Err(JwkError("RSA exponent is not an odd number from 65537 up"));
    }
    if is_roca(n) {
        return Err(JwkError("RSA modulus was made by the flawed generator of CVE-2017-15361"));
    }
    Ok(())
}

/// Detects moduli of the flawed generator of CVE-2017-15361: they are powers of 65537 modulo each of the 126
/// small primes that it uses for keys of this size. A random modulus practically never is.
fn is_roca(n: &[u8]) -> bool {
    let is_prime =
        |number: u32| (2..number).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d));
    (3..=701).filter(|number| is_prime(*number)).all(|prime| {
        let residue = n.iter().fold(0, |sum, byte| (sum * 256 + u32::from(*byte)) % prime);
        let next = |power: &u32| Some(power * (65_537 % prime) % prime).filter(|power| *power != 1);
        std::iter::successors(Some(1), next).any(|power| power == residue)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_order_points_are_refused_with_either_sign() {
        for y in ED25519_SMALL_ORDER {
            for sign in [0, 0x80] {
                let mut point = y;
                point[31] |= sign;
                assert!(check_ed25519(&point).is_err(), "{point:02x?}");
            }
        }
    }

    #[test]
    fn coordinates_from_the_prime_up_are_refused() {
        let mut y = ED25519_PRIME;
        for low in 0xed..=0xff {
            y[0] = low;
            assert!(check_ed25519(&y).is_err(), "{low:x}");
        }
        y[0] = 0xeb; // p - 2
        assert!(check_ed25519(&y).is_ok());
    }

    #[test]
    fn rsa_bounds_are_exact() {
        let modulus = |bits: usize| {
            let mut n = vec![0xff; bits.div_ceil(8)];
            n[0] >>= (8 - bits % 8) % 8;
            n
        };
        for (bits, good) in [(2047, false), (2048, true), (8192, true), (8193, false)] {
            assert_eq!(check_rsa(&modulus(bits), &[1, 0, 1]).is_ok(), good, "{bits} bits");
        }
        for (e, good) in [
            (&[1][..], false),
            (&[3], false),
            (&[0xff, 0xff], false),
            (&[1, 0, 1], true),
            (&[1, 0, 2], false),
            (&[1, 0xff, 0xff, 0xff, 0xff], true),
            (&[2, 0, 0, 0, 1], false),
            (&[1; 9], false),
        ] {
            assert_eq!(check_rsa(&modulus(2048), e).is_ok(), good, "{e:?}");
        }
        let mut even = modulus(2048);
        even[255] = 0xfe;
        assert!(check_rsa(&even, &[1, 0, 1]).is_err());
    }

    /// Project Wycheproof, `json_web_key_test.json`, tcId 7.
    #[test]
    fn modulus_of_the_flawed_generator_is_refused() {
        let mut n = crate::core::base64url::decode(
            "AanFpofbj7KjD4Lf-N2hVMKR7yewSyXhhbirIMTGpfYEhZ_lnt5UoK98DnKIgArXGTu3MaW_HhFw16HGaTDUHqPrId7fe4r11CqRw09y\
             BFuW79V8sYIwHdzCaWflUI6auImYbVfoN9_nD5n8N8SY9DwXw7mwZM9wREPXoDPgOoIWl6q_MPsp7n0zs3Z5ZaiQWOOzl1S9OhwAfSii\
             Owz6efnXEaxuTEtPd7BjSx7NaFka8Dx9U7YqXy2RFj1O9PjyaDGuRh7YXsX3iMUSP_wSyHQg_c_qHRtKUsNSGCT7OZg0hzm2Kphtjnay\
             KJvC64vAbROBR4Ubg6Bxg9IQVZ-QYyE",
        )
        .unwrap();
        assert!(check_rsa(&n, &[1, 0, 1]).is_err());
        n[9] ^= 1;
        assert!(check_rsa(&n, &[1, 0, 1]).is_ok());
    }

    #[test]
    fn point_off_the_curve_is_refused() {
        let mut point = [7; 65];
        point[0] = 4;
        assert!(check_p256(&point).is_err());
    }
}
