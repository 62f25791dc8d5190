use serde::Serialize;
use verifier::Algorithm;

use super::Timestamp;
use crate::domain::replica::ReplicaRow;

/// A replica.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the members are those of `Replica` in openapi.yaml")]
pub struct ReplicaView {
    pub id: String,
    pub name: String,
    pub version: String,
    pub public_addr: String,
    pub admin_addr: String,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    pub state: &'static str,
    pub maintenance: bool,
    pub key_changes: i64,
    pub keys: Vec<SigningView>,
    pub signing_lease_seconds: i64,
    pub feed_lag_ms: Option<i64>,
    pub settings_version: i64,
    pub settings_refused: bool,
    pub current: bool,
}

/// A key with which a replica signs.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the members are those of the schema in openapi.yaml")]
pub struct SigningView {
    pub alg: Algorithm,
    pub generation: i64,
}

impl ReplicaView {
    /// The replica; `this` is the id of the one that responds.
    pub fn new(ReplicaRow { report, started_at, seen_at }: ReplicaRow, this: &str) -> Self {
        let signing = |(alg, generation)| SigningView { alg, generation };
        Self {
            current: report.id == this,
            id: report.id,
            name: report.name,
            version: report.version,
            public_addr: report.public_addr,
            admin_addr: report.admin_addr,
            started_at: Timestamp(started_at),
            seen_at: Timestamp(seen_at),
            state: report.state.as_str(),
            maintenance: report.is_drain_wanted,
            key_changes: report.key_changes,
            keys: report.key_generations.0.into_iter().map(signing).collect(),
            signing_lease_seconds: report.lease_left.0,
            feed_lag_ms: report.feed_lag_ms,
            settings_version: report.settings_version,
            settings_refused: report.is_refusing_settings,
        }
    }
}
