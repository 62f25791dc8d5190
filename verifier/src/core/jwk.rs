//! Public keys and their ids: `Algorithm`, `Kid`, `Jwk`, `JwkSet`.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::base64url;

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1). A key has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// Ed25519.
    EdDSA,
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
}

impl Algorithm {
    /// All supported algorithms.
    pub const ALL: [Self; 3] = [Self::EdDSA, Self::ES256, Self::RS256];

    /// The name as in `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDSA => "EdDSA",
            Self::ES256 => "ES256",
            Self::RS256 => "RS256",
        }
    }

    /// The algorithm of an `alg` value. Unlike `from_str`, it accepts `Ed25519`, the name that RFC 9864 gives
    /// to `EdDSA` over Ed25519.
    pub(crate) fn from_wire(name: &str) -> Option<Self> {
        if name == "Ed25519" { Some(Self::EdDSA) } else { name.parse().ok() }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name is not one of `EdDSA`, `ES256`, `RS256` (compared exactly, case included).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("algorithm is not one of EdDSA, ES256, RS256")]
pub struct UnknownAlgorithm;

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name).ok_or(UnknownAlgorithm)
    }
}

/// A key id (`kid`), compared byte for byte. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kid(Arc<str>);

impl Kid {
    /// The id as in the header of a token.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for Kid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Kid {
    fn from(kid: &str) -> Self {
        Self(kid.into())
    }
}

impl From<String> for Kid {
    fn from(kid: String) -> Self {
        Self(kid.into())
    }
}

/// A public key with an id and an algorithm (RFC 7517). It cannot hold a private key.
///
/// ```
/// use verifier::{Algorithm, Jwk};
///
/// // RFC 8037 A.2
/// let key = Jwk::ed25519(&[
///     0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1, 0x72,
///     0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
/// ]);
/// assert_eq!(key.algorithm(), Algorithm::EdDSA);
/// assert_eq!(key.kid().as_str(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "JwkMembers<'static>", try_from = "JwkMembers<'static>")]
pub struct Jwk {
    kid: Kid,
    key: PublicKey,
}

/// The bytes are not a public key of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a public key: {0}")]
pub struct JwkError(pub(crate) &'static str);

impl Jwk {
    /// An Ed25519 key for `EdDSA`; its `kid` is the thumbprint.
    pub fn ed25519(public_key: &[u8; 32]) -> Self {
        Self::named_by_thumbprint(PublicKey::Ed25519(*public_key))
    }

    /// A P-256 key for `ES256`; its `kid` is the thumbprint. `point` is uncompressed: 0x04, then x and y, 65
    /// bytes.
    pub fn p256(point: &[u8]) -> Result<Self, JwkError> {
        match <[u8; 65]>::try_from(point) {
            Ok(point @ [4, ..]) => Ok(Self::named_by_thumbprint(PublicKey::P256(point))),
            _ => Err(JwkError("not an uncompressed P-256 point")),
        }
    }

    /// An RSA key for `RS256`; its `kid` is the thumbprint. `n` and `e` are big-endian; leading zeros are
    /// dropped.
    pub fn rsa(n: &[u8], e: &[u8]) -> Result<Self, JwkError> {
        PublicKey::rsa(n, e).map(Self::named_by_thumbprint)
    }

    /// The key id: the thumbprint, unless the key was read from a key set with another `kid`.
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// The only algorithm for which the key may be used.
    pub fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }

    /// The SHA-256 thumbprint of the key, base64url (RFC 7638).
    pub fn thumbprint(&self) -> Kid {
        self.key.thumbprint()
    }

    pub(crate) fn key(&self) -> &PublicKey {
        &self.key
    }

    fn named_by_thumbprint(key: PublicKey) -> Self {
        Self { kid: key.thumbprint(), key }
    }
}

/// Public keys as an issuer publishes them (RFC 7517 §5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "JwkSetOnTheWire", from = "JwkSetOnTheWire")]
pub struct JwkSet {
    /// The published keys, in no particular order.
    pub keys: Vec<Jwk>,
    /// The version of the key set, which grows with each change: a set with a lower one is an old copy from
    /// some cache.
    pub keys_version: Option<u64>,
}

/// `auth_ring` is the name of `keys_version` in the release before. Written for the verifiers of that
/// release, which refuse a set without it as older than the one they hold; read from its issuers. Goes with
/// the next release.
#[derive(Serialize, Deserialize)]
struct JwkSetOnTheWire {
    keys: Vec<Jwk>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys_version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_ring: Option<u64>,
}

impl From<JwkSet> for JwkSetOnTheWire {
    fn from(JwkSet { keys, keys_version }: JwkSet) -> Self {
        Self { keys, keys_version, auth_ring: keys_version }
    }
}

impl From<JwkSetOnTheWire> for JwkSet {
    fn from(JwkSetOnTheWire { keys, keys_version, auth_ring }: JwkSetOnTheWire) -> Self {
        Self { keys, keys_version: keys_version.or(auth_ring) }
    }
}

/// The numbers of a public key. `weak.rs` decides whether the key is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublicKey {
    Ed25519([u8; 32]),
    /// 0x04, x, y: the form that ring takes.
    P256([u8; 65]),
    /// Big-endian without leading zeros; neither is empty.
    Rsa {
        n: Box<[u8]>,
        e: Box<[u8]>,
    },
}

impl PublicKey {
    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ed25519(_) => Algorithm::EdDSA,
            Self::P256(_) => Algorithm::ES256,
            Self::Rsa { .. } => Algorithm::RS256,
        }
    }

    fn rsa(n: &[u8], e: &[u8]) -> Result<Self, JwkError> {
        let trim = |number: &[u8]| {
            let zeros = number.iter().take_while(|byte| **byte == 0).count();
            Box::<[u8]>::from(&number[zeros..])
        };
        match (trim(n), trim(e)) {
            (n, e) if n.is_empty() || e.is_empty() => Err(JwkError("an RSA number is zero")),
            (n, e) => Ok(Self::Rsa { n, e }),
        }
    }

    /// SHA-256 of the required members in lexicographic order, without white space (RFC 7638 §3).
    pub(crate) fn thumbprint(&self) -> Kid {
        // Base64url needs no escapes in JSON.
        let canonical = match self {
            Self::Ed25519(x) => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, base64url::encode(x)),
            Self::P256(point) => format!(
                r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#,
                base64url::encode(&point[1..33]),
                base64url::encode(&point[33..])
            ),
            Self::Rsa { n, e } => {
                format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, base64url::encode(e), base64url::encode(n))
            }
        };
        base64url::encode(ring::digest::digest(&ring::digest::SHA256, canonical.as_bytes())).into()
    }
}

/// A JWK on the wire: exactly these members.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JwkMembers<'a> {
    pub(crate) kid: Cow<'a, str>,
    pub(crate) kty: Cow<'a, str>,
    pub(crate) alg: Cow<'a, str>,
    #[serde(rename = "use")]
    pub(crate) usage: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) crv: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) x: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) y: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) n: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) e: Option<Cow<'a, str>>,
}

impl From<Jwk> for JwkMembers<'static> {
    fn from(jwk: Jwk) -> Self {
        let number = |bytes: &[u8]| Some(base64url::encode(bytes).into());
        let named = Self {
            kid: jwk.kid.as_str().to_owned().into(),
            alg: jwk.algorithm().as_str().into(),
            usage: "sig".into(),
            ..Self::default()
        };
        match &jwk.key {
            PublicKey::Ed25519(x) => {
                Self { kty: "OKP".into(), crv: Some("Ed25519".into()), x: number(x), ..named }
            }
            PublicKey::P256(point) => Self {
                kty: "EC".into(),
                crv: Some("P-256".into()),
                x: number(&point[1..33]),
                y: number(&point[33..]),
                ..named
            },
            PublicKey::Rsa { n, e } => Self { kty: "RSA".into(), n: number(n), e: number(e), ..named },
        }
    }
}

impl TryFrom<JwkMembers<'static>> for Jwk {
    type Error = JwkError;

    fn try_from(members: JwkMembers<'static>) -> Result<Self, JwkError> {
        if members.usage != "sig" {
            return Err(JwkError("not for signatures"));
        }
        Ok(Self { kid: members.kid.as_ref().into(), key: members.public_key()? })
    }
}

impl JwkMembers<'_> {
    /// The key in these members, if its type is the one that `alg` requires (RFC 8725 §3.1).
    pub(crate) fn public_key(&self) -> Result<PublicKey, JwkError> {
        let number = |member: &Option<Cow<'_, str>>| {
            member
                .as_deref()
                .and_then(base64url::decode)
                .ok_or(JwkError("a number is absent or not base64url"))
        };
        let algorithm = Algorithm::from_wire(&self.alg).ok_or(JwkError("unknown algorithm"))?;
        match (algorithm, &*self.kty, self.crv.as_deref()) {
            (Algorithm::EdDSA, "OKP", Some("Ed25519")) => number(&self.x)?
                .try_into()
                .map(PublicKey::Ed25519)
                .map_err(|_| JwkError("an Ed25519 key has 32 bytes")),
            (Algorithm::ES256, "EC", Some("P-256")) => {
                // RFC 7518 §6.2.1.2: always the full 32 octets, leading zeros included.
                let (x, y) = (number(&self.x)?, number(&self.y)?);
                let point = [&[4][..], &x, &y].concat();
                match point.try_into() {
                    Ok(point) if x.len() == 32 => Ok(PublicKey::P256(point)),
                    _ => Err(JwkError("a P-256 coordinate has 32 bytes")),
                }
            }
            (Algorithm::RS256, "RSA", None) => PublicKey::rsa(&number(&self.n)?, &number(&self.e)?),
            _ => Err(JwkError("key type does not fit the algorithm")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithm_names_are_exact() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
            assert_eq!(serde_json::to_string(&algorithm).unwrap(), format!("\"{algorithm}\""));
        }
        for other in ["none", "eddsa", "ES256 ", "HS256", "", "Ed25519"] {
            assert_eq!(other.parse::<Algorithm>(), Err(UnknownAlgorithm), "{other:?}");
        }
    }

    #[test]
    fn jwk_survives_the_wire_with_exactly_its_public_members() {
        let key = Jwk::rsa(&[0, 0, 0xc1, 3], &[1, 0, 1]).unwrap();
        let json = serde_json::to_value(&key).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"kid": key.kid(), "kty": "RSA", "alg": "RS256", "use": "sig", "n": "wQM", "e": "AQAB"})
        );
        assert_eq!(serde_json::from_value::<Jwk>(json).unwrap(), key);
    }

    #[test]
    fn version_of_a_key_set_is_written_under_both_names_and_read_under_either() {
        let set = JwkSet { keys: vec![], keys_version: Some(7) };
        let json = serde_json::to_value(&set).unwrap();
        assert_eq!(json, serde_json::json!({"keys": [], "keys_version": 7, "auth_ring": 7}));
        for (json, version) in [
            (r#"{"keys":[],"keys_version":7,"auth_ring":6}"#, Some(7)),
            (r#"{"keys":[],"auth_ring":6}"#, Some(6)),
            (r#"{"keys":[]}"#, None),
        ] {
            assert_eq!(serde_json::from_str::<JwkSet>(json).unwrap().keys_version, version, "{json}");
        }
    }

    #[test]
    fn private_member_does_not_deserialize() {
        let mut json = serde_json::to_value(Jwk::ed25519(&[9; 32])).unwrap();
        json["d"] = "AA".into();
        assert!(serde_json::from_value::<Jwk>(json).is_err());
    }

    #[test]
    fn compressed_point_is_refused() {
        assert!(Jwk::p256(&[2; 33]).is_err());
        assert!(Jwk::p256(&[2; 65]).is_err());
    }
}
