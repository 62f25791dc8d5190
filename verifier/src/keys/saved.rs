//! The saved form of the key set.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::time::UnixTime;

/// A key set document, as the issuer sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedKeys {
    pub(crate) document: String,
    pub(crate) etag: Option<String>,
    /// When the issuer last confirmed that this is its key set.
    pub(crate) confirmed_at: UnixTime,
}

impl SavedKeys {
    /// The time since the issuer confirmed the keys. A confirmation in the future means that the clock was
    /// set back: the age is unknown and counts as the maximum.
    pub(crate) fn age(&self, now: UnixTime) -> Duration {
        if self.confirmed_at > now { Duration::MAX } else { (now - self.confirmed_at).into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_confirmed_in_the_future_have_the_maximum_age() {
        let keys = SavedKeys { document: String::new(), etag: None, confirmed_at: UnixTime(1_000) };
        assert_eq!(keys.age(UnixTime(1_000)), Duration::ZERO);
        assert_eq!(keys.age(UnixTime(1_060)), Duration::from_secs(60));
        assert_eq!(keys.age(UnixTime(999)), Duration::MAX);
    }
}
