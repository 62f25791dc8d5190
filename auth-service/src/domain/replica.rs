//! What a replica says of itself.

use std::fmt;

use verifier::{Algorithm, Seconds, UnixTime};

/// A replica that has not been heard of for this long is silent: a few beats.
pub const SILENT_AFTER: Seconds = Seconds(10);
/// A replica that has not been heard of for this long is forgotten.
pub const FORGET_AFTER: Seconds = Seconds(600);

/// Whether a replica takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaState {
    /// It may issue.
    Ready,
    /// It may not issue at the moment; its `/readyz` says why.
    NotReady,
    /// An operator wants it out of the rotation. It serves what still comes.
    Draining,
    /// It was told to end.
    Stopping,
    /// Nothing has been heard of it for a while.
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

    /// What a replica wrote of itself. An unknown word is one of a newer release: not ready, as far as we can tell.
    pub fn parse(word: &str) -> Self {
        [Self::Ready, Self::Draining, Self::Stopping]
            .into_iter()
            .find(|state| state.as_str() == word)
            .unwrap_or(Self::NotReady)
    }
}

/// The generation of the key that signs, for each algorithm that has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyGenerations(pub Vec<(Algorithm, i64)>);

impl KeyGenerations {
    /// Reads what `Display` wrote. What a newer release adds is left out.
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

/// What a replica says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaReport {
    /// Names the process, and its chain in the audit log.
    pub id: String,
    /// The name of the machine.
    pub name: String,
    /// The release.
    pub version: String,
    /// Where the public listener is.
    pub public_addr: String,
    /// Where the admin listener is.
    pub admin_addr: String,
    /// Whether it takes part.
    pub state: ReplicaState,
    /// The version of the key table that it has read.
    pub key_changes: i64,
    /// Which keys sign.
    pub key_generations: KeyGenerations,
    /// For how long it may sign without confirming its keys.
    pub lease_left: Seconds,
    /// How old its knowledge of revocations is, in milliseconds. `None` before the first read.
    pub feed_lag_ms: Option<i64>,
    /// The version of the stored settings that it has read.
    pub settings_version: i64,
    /// Whether it goes on without that version, because it cannot use it.
    pub is_refusing_settings: bool,
    /// Whether an operator wants it out of the rotation.
    pub is_drain_wanted: bool,
}

/// A replica as the others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaRow {
    /// What it said last. Silent if that is long ago.
    pub report: ReplicaReport,
    /// When it was first heard of.
    pub started_at: UnixTime,
    /// When it was last heard of.
    pub seen_at: UnixTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
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
