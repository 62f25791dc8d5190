//! Logs when something that a loop repeats starts to fail, and when it works again.

use std::fmt::Display;

use tracing::{info, warn};

/// Whether the last attempt of a loop failed. One line is logged at the start of an outage and one at its end, none in between.
pub(super) struct Outage {
    /// Logged when it starts.
    starts: &'static str,
    /// Logged when it ends.
    ends: &'static str,
    is_on: bool,
}

impl Outage {
    /// A loop that works so far.
    pub(super) fn new(starts: &'static str, ends: &'static str) -> Self {
        Self { starts, ends, is_on: false }
    }

    /// Records the outcome of an attempt. Returns whether it failed.
    pub(super) fn record<E: Display>(&mut self, outcome: Result<(), E>) -> bool {
        match &outcome {
            Err(error) if !self.is_on => warn!(%error, "{}", self.starts),
            Ok(()) if self.is_on => info!("{}", self.ends),
            _ => {}
        }
        self.is_on = outcome.is_err();
        self.is_on
    }
}
