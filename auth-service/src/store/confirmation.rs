//! The state of the key table at the moment when a statement authorised a token.

use std::time::Duration;

use verifier::UnixTime;

use super::StoreError;
use super::engine::row::Row;

/// The state of the key table that a statement saw on the server that takes the writes: a standby that lags would confirm keys that were
/// withdrawn, and present an incomplete list of revocations as complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// The shared clock.
    pub now: UnixTime,
    /// Rises with each change of the key table.
    pub keys_version: i64,
    /// Our monotonic clock just before the statement was sent.
    pub asked_at: Duration,
}

impl Confirmation {
    /// The columns of a confirmation, in the select list of a statement.
    pub(super) const COLUMNS: &str = "{now} AS now, {keys_version} AS keys_version";

    pub(super) fn read(row: &Row) -> Result<Self, StoreError> {
        let keys_version = row.int_if_any("keys_version")?.ok_or(StoreError::ReadOnly)?;
        Ok(Self { now: row.time("now")?, keys_version, asked_at: row.asked_at() })
    }
}
