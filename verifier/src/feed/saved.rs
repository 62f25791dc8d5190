//! The saved form of revocations.

use serde::{Deserialize, Serialize};

use crate::core::base64url;
use crate::core::jwk::Kid;
use crate::core::revocation::SessionId;
use crate::core::time::UnixTime;

/// The revocations of one issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedRevocations {
    /// All revocations before this instant, in Unix milliseconds, are contained. `None`: no document ever
    /// arrived.
    pub(crate) as_of: Option<i64>,
    /// Each with the second from which it may be forgotten. That is a time of the wall clock, like the expiry
    /// of its tokens: a clock that was set forward has expired both.
    #[serde(with = "packed")]
    pub(crate) sessions: Vec<(SessionId, UnixTime)>,
    pub(crate) keys: Vec<Kid>,
}

/// 24 bytes for each session: the id and a big-endian number.
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
            return Err(D::Error::custom("not a multiple of 24 bytes"));
        };
        let read = |record: &[u8; 24]| {
            let (id, at) = record.split_first_chunk::<16>()?;
            Some((*id, UnixTime(i64::from_be_bytes(at.try_into().ok()?))))
        };
        Ok(records.iter().filter_map(read).collect())
    }
}
