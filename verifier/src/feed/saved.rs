//! Revocations in the form in which they are saved.

use serde::{Deserialize, Serialize};

use crate::core::base64url;
use crate::core::jwk::Kid;
use crate::core::revocation::SessionId;
use crate::core::time::UnixTime;

/// What was revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedRevocations {
    /// Unix milliseconds: everything revoked before is here. `None`: the feed was never heard.
    pub(crate) as_of: Option<i64>,
    /// Each with the second from which it may be forgotten. By the wall clock, as the token that it is about: a clock that
    /// was set forward has ended that, too.
    #[serde(with = "packed")]
    pub(crate) sessions: Vec<(SessionId, UnixTime)>,
    pub(crate) keys: Vec<Kid>,
}

/// 24 bytes each, one after another: the id, and a big-endian number.
mod packed {
    use serde::de::{Deserializer, Error as _};
    use serde::ser::Serializer;

    use super::{Deserialize as _, SessionId, UnixTime, base64url};

    pub(super) fn serialize<S: Serializer>(
        sessions: &[(SessionId, UnixTime)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> =
            sessions.iter().flat_map(|(id, at)| id.iter().copied().chain(at.0.to_be_bytes())).collect();
        serializer.serialize_str(&base64url::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(SessionId, UnixTime)>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let bytes = base64url::decode(&text).ok_or_else(|| D::Error::custom("not base64url"))?;
        let (records, []) = bytes.as_chunks::<24>() else {
            return Err(D::Error::custom("not a whole number of sessions"));
        };
        let read = |record: &[u8; 24]| {
            let (id, at) = record.split_first_chunk::<16>()?;
            Some((*id, UnixTime(i64::from_be_bytes(at.try_into().ok()?))))
        };
        Ok(records.iter().filter_map(read).collect())
    }
}
