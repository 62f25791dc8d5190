//! A public key in the format of other programs: `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7) in DER.

use crate::core::jwk::{Jwk, PublicKey};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// The object identifier 1.3.101.112; there are no parameters (RFC 8410 §3).
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
/// 1.2.840.10045.2.1 with the curve 1.2.840.10045.3.1.7 (RFC 5480 §2.1.1).
const P256: &[u8] = &[
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07,
];
/// 1.2.840.113549.1.1.1 with NULL (RFC 3279 §2.3.1).
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

impl Jwk {
    /// The key for programs that do not read JWKs: `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7) in DER. In
    /// base64 it is the body of a PEM block `PUBLIC KEY`.
    ///
    /// ```
    /// let der = verifier::Jwk::ed25519(&[9; 32]).to_spki();
    /// assert_eq!((der.len(), &der[12..]), (44, &[9; 32][..]));
    /// ```
    pub fn to_spki(&self) -> Vec<u8> {
        let (algorithm, key) = match self.key() {
            PublicKey::Ed25519(key) => (ED25519, key.to_vec()),
            PublicKey::P256(point) => (P256, point.to_vec()),
            PublicKey::Rsa { n, e } => (RSA, tlv(SEQUENCE, &[unsigned(n), unsigned(e)].concat())),
        };
        // The first octet counts the unused bits of the last one: none.
        let key = tlv(BIT_STRING, &[&[0], &key[..]].concat());
        tlv(SEQUENCE, &[tlv(SEQUENCE, algorithm), key].concat())
    }
}

/// Encodes a big-endian number without leading zeros. An INTEGER is signed, so a number whose first bit is
/// set gets a leading zero.
fn unsigned(number: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if number.first().is_some_and(|first| first & 0x80 != 0) { &[0] } else { &[] };
    tlv(INTEGER, &[sign, number].concat())
}

/// Tag, length in the fewest octets (X.690 §10.1), content.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|octet| **octet == 0).count()..];
    let mut out = vec![tag];
    match length {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            // At most eight, the size of a `usize`.
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_the_fewest_octets() {
        for (length, head) in [
            (0, &[4, 0][..]),
            (127, &[4, 127]),
            (128, &[4, 0x81, 128]),
            (255, &[4, 0x81, 255]),
            (256, &[4, 0x82, 1, 0]),
            (65_536, &[4, 0x83, 1, 0, 0]),
        ] {
            let encoded = tlv(4, &vec![7; length]);
            assert_eq!((&encoded[..head.len()], encoded.len()), (head, head.len() + length));
        }
    }

    #[test]
    fn an_integer_is_never_negative() {
        assert_eq!(unsigned(&[0x7f]), [2, 1, 0x7f]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[1, 0, 1]), [2, 3, 1, 0, 1]);
    }

    #[test]
    fn the_key_of_rfc_8410_reads_as_it_is_printed_there() {
        // Section 10.1: MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
        let key = [
            0x19, 0xbf, 0x44, 0x09, 0x69, 0x84, 0xcd, 0xfe, 0x85, 0x41, 0xba, 0xc1, 0x67, 0xdc, 0x3b, 0x96,
            0xc8, 0x50, 0x86, 0xaa, 0x30, 0xb6, 0xb6, 0xcb, 0x0c, 0x5c, 0x38, 0xad, 0x70, 0x31, 0x66, 0xe1,
        ];
        let head = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        assert_eq!(Jwk::ed25519(&key).to_spki(), [&head[..], &key].concat());
    }
}
