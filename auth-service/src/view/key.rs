use serde::Serialize;
use verifier::UnixTime;

use super::Timestamp;
use crate::store::KeyRow;

/// A signing key.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the members are those of `Key` in openapi.yaml")]
pub struct KeyView {
    pub kid: String,
    pub alg: &'static str,
    pub generation: i64,
    pub phase: &'static str,
    pub created_at: Timestamp,
    pub activates_at: Timestamp,
    pub retires_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub compromised_at: Option<Timestamp>,
}

impl KeyView {
    /// The key as it is at `now`.
    pub fn new(row: &KeyRow, now: UnixTime) -> Self {
        let schedule = &row.key.schedule;
        Self {
            kid: row.key.kid.to_string(),
            alg: row.chain.as_str(),
            generation: row.key.generation,
            phase: row.key.phase(now).as_str(),
            created_at: Timestamp(row.created_at),
            activates_at: Timestamp(schedule.activates_at),
            retires_at: schedule.end.map(|end| Timestamp(end.retires_at)),
            expires_at: schedule.end.map(|end| Timestamp(end.expires_at)),
            compromised_at: row.key.compromised_at.map(Timestamp),
        }
    }
}
