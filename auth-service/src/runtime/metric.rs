//! The table of metrics. Tests compare it with the code and the operator guide.

use metrics::{describe_counter, describe_gauge};

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// The help text.
    pub help: &'static str,
}

/// What a metric measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A number of events since the start.
    Counter,
    /// A value that rises and falls.
    Gauge,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, labels, help }
}

/// All metrics, in the order of the operator guide.
pub const METRICS: &[Metric] = &[
    counter(
        "auth_http_requests_total",
        &["listener", "method", "route", "status"],
        "Requests by listener, method, route and status.",
    ),
    counter("auth_logins_total", &["outcome"], "Logins by outcome."),
    counter(
        "auth_login_limits_total",
        &["limit"],
        "Tries of a password that were refused before it was checked, by limit.",
    ),
    counter(
        "auth_forwarding_ignored_total",
        &[],
        "Logins and password changes whose forwarded address was ignored, because the peer is not in trusted_proxies.",
    ),
    counter("auth_refreshes_total", &["outcome"], "Refreshes by outcome."),
    gauge("auth_hash_permits", &[], "Password hashes that may be computed in parallel."),
    gauge("auth_hash_running", &[], "Password hashes being computed."),
    gauge("auth_hash_queued", &[], "Password hashes waiting."),
    counter(
        "auth_hash_refused_total",
        &["why"],
        "Password hashes refused: queue full, wait too long, too many of a network or a name.",
    ),
    gauge("auth_ready", &[], "1 when this replica may issue tokens."),
    gauge("auth_draining", &[], "1 while this replica leaves the rotation."),
    gauge("auth_database_pool_connections", &["state"], "Connections to the database, lent or idle."),
    gauge(
        "auth_signing_lease_seconds",
        &[],
        "How long this replica may still sign without confirming its keys.",
    ),
    gauge("auth_keys", &["alg", "phase"], "Signing keys by algorithm and phase."),
    gauge("auth_key_active_age_seconds", &["alg"], "How long the active key of an algorithm has signed."),
    gauge("auth_key_changes", &[], "The version of the key table as this replica knows it."),
    gauge("auth_settings_version", &[], "The version of the stored settings that this replica has read."),
    gauge("auth_settings_refused", &[], "1 while this replica cannot use the stored settings."),
    gauge("auth_feed_lag_seconds", &[], "Age of this replica's knowledge of revocations."),
    gauge("auth_feed_entries", &[], "Revocations that must still be remembered."),
    gauge("auth_feed_streams", &[], "Subscribers of the revocation feed."),
];

/// Registers the help texts with the recorder of the process.
pub(super) fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, metric.help),
            MetricKind::Gauge => describe_gauge!(metric.name, metric.help),
        }
    }
}
