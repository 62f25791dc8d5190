//! The key set in the form in which it is saved.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::time::UnixTime;

/// A key set as the issuer sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedKeys {
    pub(crate) document: String,
    pub(crate) etag: Option<String>,
    /// When the issuer last said that this is its key set.
    pub(crate) confirmed_at: UnixTime,
}

impl SavedKeys {
    /// How long ago the issuer confirmed them. A time in the future is a clock that was set back: how old they
    /// are cannot be told, so they are as old as can be.
    pub(crate) fn age(&self, now: UnixTime) -> Duration {
        if self.confirmed_at > now { Duration::MAX } else { (now - self.confirmed_at).into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_confirmed_in_the_future_are_as_old_as_can_be() {
        let keys = SavedKeys { document: String::new(), etag: None, confirmed_at: UnixTime(1_000) };
        assert_eq!(keys.age(UnixTime(1_000)), Duration::ZERO);
        assert_eq!(keys.age(UnixTime(1_060)), Duration::from_secs(60));
        assert_eq!(keys.age(UnixTime(999)), Duration::MAX);
    }
}
