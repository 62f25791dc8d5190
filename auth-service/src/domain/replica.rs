//! The state that replicas report.

use std::fmt;

use verifier::{Algorithm, Seconds, UnixTime};

/// A replica without a heartbeat for this time is silent: a few intervals.
pub const SILENT_AFTER: Seconds = Seconds(10);
/// A replica without a heartbeat for this time is removed from the list.
pub const FORGET_AFTER: Seconds = Seconds(600);

/// The state of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaState {
    /// It can issue tokens.
    Ready,
    /// It cannot issue tokens at the moment; its `/readyz` lists the reasons.
    NotReady,
    /// An operator took it out of the rotation. It still serves requests.
    Draining,
    /// The process is stopping.
    Stopping,
    /// It has not sent a heartbeat for [`SILENT_AFTER`].
    Silent,
}

impl ReplicaState {
    /// The name in the database and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::NotReady => "not_ready",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Silent => "silent",
        }
    }

    /// Parses a stored state. An unknown word comes from a newer release and is read as not ready.
    pub fn parse(word: &str) -> Self {
        [Self::Ready, Self::Draining, Self::Stopping]
            .into_iter()
            .find(|state| state.as_str() == word)
            .unwrap_or(Self::NotReady)
    }
}

/// The generation of the active key of each algorithm that has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyGenerations(pub Vec<(Algorithm, i64)>);

impl KeyGenerations {
    /// Parses the form that `Display` writes. Entries of a newer release are ignored.
    pub fn parse(text: &str) -> Self {
        let read = |entry: &str| {
            let (algorithm, generation) = entry.split_once(' ')?;
            Some((algorithm.parse().ok()?, generation.parse().ok()?))
        };
        Self(text.split(',').filter_map(read).collect())
    }
}

impl fmt::Display for KeyGenerations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (algorithm, generation)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{algorithm} {generation}")?;
        }
        Ok(())
    }
}

/// A replica's report about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaReport {
    /// The id of the process, and of its chain in the audit log.
    pub id: String,
    /// The host name.
    pub name: String,
    /// The release.
    pub version: String,
    /// The address of the public listener.
    pub public_addr: String,
    /// The address of the admin listener.
    pub admin_addr: String,
    /// Its state.
    pub state: ReplicaState,
    /// The version of the key table that it has read.
    pub key_changes: i64,
    /// The active keys.
    pub key_generations: KeyGenerations,
    /// How long it may still sign without confirming its keys.
    pub lease_left: Seconds,
    /// The age of its revocations in milliseconds. `None` before the first read.
    pub feed_lag_ms: Option<i64>,
    /// The version of the stored settings that it has read.
    pub settings_version: i64,
    /// Whether it keeps older settings because it cannot use that version.
    pub is_refusing_settings: bool,
    /// Whether an operator took it out of the rotation.
    pub is_drain_wanted: bool,
}

/// A replica in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaRow {
    /// Its last report. If that is too old, the state is `Silent`.
    pub report: ReplicaReport,
    /// The time of the first heartbeat.
    pub started_at: UnixTime,
    /// The time of the last heartbeat.
    pub seen_at: UnixTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_values_parse_back() {
        for generations in
            [vec![], vec![(Algorithm::ES256, 3)], vec![(Algorithm::EdDSA, 1), (Algorithm::RS256, 12)]]
        {
            let generations = KeyGenerations(generations);
            assert_eq!(KeyGenerations::parse(&generations.to_string()), generations);
        }
        assert_eq!(KeyGenerations::parse("ML-DSA-44 1,ES256 3").to_string(), "ES256 3");
        for state in
            [ReplicaState::Ready, ReplicaState::NotReady, ReplicaState::Draining, ReplicaState::Stopping]
        {
            assert_eq!(ReplicaState::parse(state.as_str()), state);
        }
        assert_eq!(ReplicaState::parse("later"), ReplicaState::NotReady);
    }
}
