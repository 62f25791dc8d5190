//! Logs when the work of a loop starts to fail, and when it succeeds again.

use std::fmt::Display;

use tracing::{info, warn};

/// Whether the last attempt of a loop failed. Logs one line when an outage starts, one when it ends, and none
/// in between.
pub(super) struct Outage {
    /// Logged when an outage starts.
    starts: &'static str,
    /// Logged when an outage ends.
    ends: &'static str,
    is_on: bool,
}

impl Outage {
    /// No outage so far.
    pub(super) fn new(starts: &'static str, ends: &'static str) -> Self {
        Self { starts, ends, is_on: false }
    }

    /// Records the outcome of an attempt. Returns whether it failed.
    pub(super) fn record<E: Display>(&mut self, outcome: &Result<(), E>) -> bool {
        let was_on = self.is_on;
        self.is_on = outcome.is_err();
        match outcome {
            Err(error) if !was_on => warn!(%error, "{}", self.starts),
            Ok(()) if was_on => info!("{}", self.ends),
            _ => {}
        }
        self.is_on
    }
}
