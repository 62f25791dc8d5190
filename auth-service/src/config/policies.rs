//! Policies of the domain, made from configuration and settings.

use verifier::Seconds;

use super::{Config, Settings};
use crate::domain::key::{Chain, RotationPolicy};
use crate::domain::revocation::LONGEST_ACCESS_TOKEN;

/// A token may become visible this long after its date, because its commit had to wait (rule K2).
const LATE_COMMIT: Seconds = Seconds(60);
/// A MAC key is kept for this much longer than a session may be idle.
const MAC_KEY_MARGIN: Seconds = Seconds(86_400);

/// The rotation policy of a chain.
pub fn rotation_policy(config: &Config, settings: &Settings, chain: Chain) -> RotationPolicy {
    let tail = match chain {
        Chain::Signing(_) => LONGEST_ACCESS_TOKEN + config.leeway + config.clock_bound * 2 + LATE_COMMIT,
        Chain::RefreshMac => settings.refresh_idle_ttl + MAC_KEY_MARGIN,
    };
    RotationPolicy { period: settings.key_rotation_period, publish_ahead: config.key_publish_ahead, tail }
}
