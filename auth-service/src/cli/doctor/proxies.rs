//! Checks of the proxies before the replica on this machine.

use super::{Finding, Subject};
use crate::cli::healthcheck::reachable;
use crate::cli::{Failure, jwks};

const METRIC: &str = "auth_forwarding_ignored_total";

/// Whether the replica on this machine has ignored addresses that a proxy forwarded, because it does not trust the proxy.
pub(super) async fn forwarded_addresses(subject: &Subject) -> Result<Vec<Finding>, Failure> {
    let config = &subject.loaded.config;
    let address = reachable(config.admin_addr);
    let Ok(metrics) = jwks::read(&format!("http://{address}/metrics")).await else {
        return Ok(vec![Finding::ok(format!(
            "not checked: no replica listens at {address} on this machine"
        ))]);
    };
    let ignored = String::from_utf8_lossy(&metrics)
        .lines()
        .find_map(|line| line.strip_prefix(METRIC)?.trim().parse::<f64>().ok())
        .unwrap_or(0.0);
    Ok(vec![if ignored > 0.0 {
        Finding::warning(
            format!("the replica on this machine ignored the forwarded address of {ignored} requests"),
            "if a load balancer forwards them, add its network to trusted_proxies: until then all its clients share the limits \
             of one address",
        )
    } else {
        Finding::ok(format!(
            "no forwarded address was ignored; {} networks are trusted",
            config.trusted_proxies.len()
        ))
    }])
}
