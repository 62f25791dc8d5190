//! Policies of the domain, made from configuration and settings.

use verifier::Seconds;

use super::{Config, Settings};
use crate::domain::key::{Chain, RotationPolicy};

/// How long after its `iat` a token may be returned, because its commit waited (rule K2).
const LATE_COMMIT: Seconds = Seconds(60);
/// How long MAC keys are kept after the last session that may hold their tokens.
const MAC_KEY_TAIL: Seconds = Seconds(86_400);

/// The rotation policy of a chain.
pub fn rotation_policy(config: &Config, settings: &Settings, chain: Chain) -> RotationPolicy {
    let (life, margin) = match chain {
        Chain::Signing(_) => {
            (settings.access_token_ttl, config.leeway + config.clock_bound * 2 + LATE_COMMIT)
        }
        Chain::RefreshMac => (settings.refresh_idle_ttl, MAC_KEY_TAIL),
    };
    RotationPolicy {
        period: settings.key_rotation_period,
        publish_ahead: config.key_publish_ahead,
        life,
        margin,
    }
}
