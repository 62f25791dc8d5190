//! Key sets, and how they are read from a JWKS document.
//!
//! An unusable key does not fail the set: issuers publish keys for other uses and of future types (RFC 7517
//! §5). The set is refused when its meaning is ambiguous, as with two keys of one `kid`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::core::base64url;
use crate::core::crypto::PreparedKey;
use crate::core::error::JwksError;
use crate::core::header::{Header, MAX_KID};
use crate::core::jwk::{Algorithm, JwkError, JwkMembers, JwkSet, Kid, PublicKey};

/// The longest JWKS that is read, in bytes.
pub(crate) const MAX_BYTES: usize = 256 * 1024;
const MAX_KEYS: usize = 64;

/// The members of private and symmetric keys (RFC 7518 §6.2.2, §6.3.2, §6.4, RFC 8037 §2).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// One public key, bound to one algorithm.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    kid: Kid,
    thumbprint: Kid,
    key: PreparedKey,
}

impl VerifyingKey {
    /// The key id.
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// The SHA-256 thumbprint of the key, base64url (RFC 7638). It distinguishes keys that have the same
    /// `kid`.
    pub fn thumbprint(&self) -> &Kid {
        &self.thumbprint
    }

    /// The only algorithm for which the key is used.
    pub fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }

    /// Returns whether `signature` is a valid signature of `message` by this key. This is for documents that
    /// are not access tokens; for tokens, [`Expected::verify`](crate::Expected::verify) makes all checks.
    #[must_use]
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.has_signed(message, signature)
    }
}

/// The usable keys of one issuer.
///
/// ```
/// use verifier::KeySet;
///
/// let keys = KeySet::parse(br#"{"keys": [
///     {"kid": "one", "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
///     {"kid": "two", "kty": "oct", "alg": "HS256", "k": "AAAA"}
/// ]}"#)?;
/// assert!(keys.find("one").is_some());
/// assert!(keys.find("two").is_none(), "a secret is not a public key");
/// # Ok::<(), verifier::JwksError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<VerifyingKey>,
    /// Encoded headers that valid tokens of these keys are likely to have, sorted, each with the index of its
    /// key.
    headers: Vec<(String, usize)>,
    keys_version: Option<u64>,
}

impl KeySet {
    /// Reads a JWKS document. Keys that cannot be used are skipped, with a warning in the log.
    ///
    /// # Errors
    /// [`JwksError`]: the document as a whole is refused. Keep the set you have.
    pub fn parse(document: &[u8]) -> Result<Self, JwksError> {
        #[derive(Deserialize)]
        struct Document<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
            keys_version: Option<u64>,
            /// Its name in the release before.
            auth_ring: Option<u64>,
        }
        if document.len() > MAX_BYTES {
            return Err(JwksError::TooLarge);
        }
        let document: Document<'_> = serde_json::from_slice(document).map_err(|_| JwksError::Malformed)?;
        let keys = document.keys.iter().map(|jwk| {
            let jwk: AnyJwk<'_> = serde_json::from_str(jwk.get()).unwrap_or_default();
            (jwk.text("kid").map(Kid::from), jwk.public_key())
        });
        Self::collect(keys, document.keys_version.or(document.auth_ring))
    }

    /// The usable keys of `jwks`; the rules and errors are those of [`parse`](Self::parse).
    pub fn from_jwks(jwks: &JwkSet) -> Result<Self, JwksError> {
        let keys = jwks.keys.iter().map(|jwk| (Some(jwk.kid().clone()), Ok(jwk.key().clone())));
        Self::collect(keys, jwks.keys_version)
    }

    /// The key with this id.
    pub fn find(&self, kid: &str) -> Option<&VerifyingKey> {
        // At most 64 keys, usually three: comparing is faster than hashing.
        self.keys.iter().find(|key| key.kid.as_str() == kid)
    }

    /// The number of usable keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether there is no usable key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The version of the key set, which grows with each change, if the issuer publishes one.
    pub fn keys_version(&self) -> Option<u64> {
        self.keys_version
    }

    /// The key for an encoded header, if it is one of the likely headers. `None` means nothing: parse the
    /// header.
    pub(crate) fn find_by_header(&self, encoded: &str) -> Option<&VerifyingKey> {
        let at = self.headers.binary_search_by(|(header, _)| header.as_str().cmp(encoded)).ok()?;
        Some(&self.keys[self.headers[at].1])
    }

    fn collect(
        candidates: impl Iterator<Item = (Option<Kid>, Result<PublicKey, JwkError>)>,
        keys_version: Option<u64>,
    ) -> Result<Self, JwksError> {
        let mut names = BTreeSet::new();
        let mut keys = Vec::new();
        for (index, (kid, key)) in candidates.enumerate() {
            if index == MAX_KEYS {
                return Err(JwksError::TooManyKeys);
            }
            if let Some(kid) = kid.clone()
                && !names.insert(kid.clone())
            {
                return Err(JwksError::DuplicateKid(kid));
            }
            match usable(kid.clone(), key) {
                Ok(key) => keys.push(key),
                // `kid` is untrusted text; its Debug form has no control characters.
                Err(cause) => tracing::warn!(?kid, %cause, "skipped a key of the key set"),
            }
        }
        let headers = likely_headers(&keys);
        Ok(Self { keys, headers, keys_version })
    }
}

fn usable(kid: Option<Kid>, key: Result<PublicKey, JwkError>) -> Result<VerifyingKey, JwkError> {
    let kid = kid.ok_or(JwkError("no kid"))?;
    if kid.as_str().is_empty() || kid.as_str().len() > MAX_KID {
        return Err(JwkError("kid is empty or longer than 256 bytes"));
    }
    let key = key?;
    key.check_strength()?;
    Ok(VerifyingKey { kid, thumbprint: key.thumbprint(), key: key.into() })
}

/// The headers that most issuers write. One is kept only if the strict reader finds exactly this key in it,
/// so a match here is equivalent to parsing the header.
fn likely_headers(keys: &[VerifyingKey]) -> Vec<(String, usize)> {
    let spell = |index: usize, order: [usize; 3]| {
        let key = &keys[index];
        let members = [
            r#""typ":"at+jwt""#.to_owned(),
            format!(r#""alg":"{}""#, key.algorithm()),
            format!(r#""kid":"{}""#, key.kid),
        ];
        let json = format!("{{{}}}", order.map(|member| members[member].as_str()).join(","));
        let read = Header::parse(json.as_bytes()).ok()?;
        let same = read.kid == key.kid.as_str() && read.algorithm == key.algorithm();
        same.then(|| (base64url::encode(&json), index))
    };
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let mut headers: Vec<_> = (0..keys.len())
        .flat_map(|index| orders.into_iter().filter_map(move |order| spell(index, order)))
        .collect();
    headers.sort_unstable();
    headers
}

/// A JWK of any type, or any other element of `keys`.
#[derive(Default)]
struct AnyJwk<'a> {
    members: BTreeMap<String, &'a RawValue>,
    has_repeated_name: bool,
}

impl AnyJwk<'_> {
    fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.members.get(name)?.get()).ok()
    }

    fn public_key(&self) -> Result<PublicKey, JwkError> {
        if self.has_repeated_name {
            return Err(JwkError("duplicate member"));
        }
        if PRIVATE_MEMBERS.iter().any(|name| self.members.contains_key(*name)) {
            tracing::error!("the issuer publishes a private or symmetric key: treat it as compromised");
            return Err(JwkError("private or symmetric key"));
        }
        if !self.is_for_verifying() {
            return Err(JwkError("not for checking signatures"));
        }
        let text = |name| self.text(name).map(Cow::Owned);
        let members = JwkMembers {
            kty: text("kty").unwrap_or_default(),
            alg: text("alg").ok_or(JwkError("no alg"))?,
            crv: text("crv"),
            x: text("x"),
            y: text("y"),
            n: text("n"),
            e: text("e"),
            ..JwkMembers::default()
        };
        members.public_key()
    }

    /// `use` and `key_ops` are optional, and are checked if present (RFC 7517 §4.2, §4.3).
    fn is_for_verifying(&self) -> bool {
        let usage = !self.members.contains_key("use") || self.text("use").is_some_and(|usage| usage == "sig");
        let operations = self.members.get("key_ops").is_none_or(|raw| {
            serde_json::from_str::<Vec<String>>(raw.get())
                .is_ok_and(|all| all.iter().any(|one| one == "verify"))
        });
        usage && operations
    }
}

impl<'de> Deserialize<'de> for AnyJwk<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyJwkVisitor;
        impl<'de> Visitor<'de> for AnyJwkVisitor {
            type Value = AnyJwk<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON Web Key")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyJwk<'de>, A::Error> {
                let mut jwk = AnyJwk::default();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    jwk.has_repeated_name |= jwk.members.contains_key(&name);
                    jwk.members.entry(name).or_insert(value);
                }
                Ok(jwk)
            }
        }
        deserializer.deserialize_map(AnyJwkVisitor)
    }
}
