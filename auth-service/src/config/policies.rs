//! The durations of the rules, from configuration and settings.

use verifier::Seconds;

use super::{Config, Settings};
use crate::domain::key::{Chain, RotationPolicy};
use crate::domain::revocation::LONGEST_ACCESS_TOKEN;

/// A token may become visible this late after it was dated: a commit that waited.
const LATE_COMMIT: Seconds = Seconds(60);
/// MAC keys outlive the last session that may hold their tokens by this much.
const MAC_KEY_MARGIN: Seconds = Seconds(86_400);

/// The durations of a chain under a configuration.
///
/// The tail of a signing key follows from the longest life that any access token may have, not from `access_token_ttl`: so it does not
/// matter which replica signed with which setting (rule K2). A MAC key is kept longer than its tail while a session needs it; see
/// [`erase_expired_keys`](crate::store::SqlStore::erase_expired_keys).
pub fn rotation_policy(config: &Config, settings: &Settings, chain: Chain) -> RotationPolicy {
    let tail = match chain {
        Chain::Signing(_) => LONGEST_ACCESS_TOKEN + config.leeway + config.clock_bound * 2 + LATE_COMMIT,
        Chain::RefreshMac => settings.refresh_idle_ttl + MAC_KEY_MARGIN,
    };
    RotationPolicy { period: settings.key_rotation_period, publish_ahead: config.key_publish_ahead, tail }
}
