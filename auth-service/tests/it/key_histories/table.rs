//! The key table of the shared database: changes under one lock, visible from their commit on. Mirrors
//! `store/keys.rs`.

use std::rc::Rc;

use auth_service::domain::key::{ChainKey, Change};
use verifier::{Kid, Seconds, UnixTime};

use super::plan::CHAINS;

/// A row.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) place: ChainKey,
    pub(crate) created_at: UnixTime,
    /// A key that had to sign immediately (first start, compromise) may be unknown to caches until then (K1
    /// waived).
    pub(crate) known_from: Option<UnixTime>,
}

/// The table as seen by one statement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) changes: i64,
    pub(crate) chains: [Vec<Key>; CHAINS.len()],
}

/// The name of a key in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) chain: usize,
    pub(crate) generation: i64,
}

impl Table {
    pub(crate) fn find(&self, name: Name) -> Option<&Key> {
        self.chains[name.chain].iter().find(|key| key.place.generation == name.generation)
    }

    /// The keys of a chain, as input of the rules.
    pub(crate) fn places(&self, chain: usize) -> Vec<ChainKey> {
        self.chains[chain].iter().map(|key| key.place.clone()).collect()
    }

    /// Whether a JWKS rendered at `now` contains the key.
    pub(crate) fn publishes(&self, name: Name, now: UnixTime) -> bool {
        self.find(name).is_some_and(|key| key.place.schedule.phase(now).is_published())
    }

    /// The number of compromised keys of a chain.
    pub(crate) fn compromised(&self, chain: usize) -> usize {
        self.chains[chain].iter().filter(|key| key.place.compromised_at.is_some()).count()
    }

    /// The number of keys of a chain that sign.
    pub(crate) fn signers(&self, chain: usize, now: UnixTime) -> usize {
        self.chains[chain].iter().filter(|key| key.place.schedule.phase(now).may_sign()).count()
    }

    /// The table after one transaction at `now`. With a waiver, keys that have to
    /// sign sooner may be unknown for that long after their announcement.
    /// `None` if the store would refuse it.
    pub(crate) fn with(
        &self,
        chain: usize,
        changes: &[Change],
        now: UnixTime,
        waiver: Option<Seconds>,
    ) -> Option<Rc<Self>> {
        let mut next = self.clone();
        next.changes += 1;
        let keys = &mut next.chains[chain];
        for change in changes {
            match change {
                Change::Announce { generation, schedule } => {
                    // UNIQUE (chain, generation)
                    if keys.iter().any(|key| key.place.generation == *generation) {
                        return None;
                    }
                    let kid = Kid::from(format!("{chain}.{generation}.{}", next.changes));
                    let place =
                        ChainKey { kid, generation: *generation, schedule: *schedule, compromised_at: None };
                    let known_from = waiver.filter(|_| schedule.activates_at <= now).map(|ahead| now + ahead);
                    keys.push(Key { place, created_at: now, known_from });
                }
                Change::Reschedule { generation, schedule } => {
                    let key = keys.iter_mut().find(|key| key.place.generation == *generation)?;
                    if schedule.activates_at < key.place.schedule.activates_at {
                        key.known_from = waiver.map(|ahead| key.created_at + ahead);
                    }
                    key.place.schedule = *schedule;
                }
                Change::Compromise { generation } => {
                    let key = keys.iter_mut().find(|key| key.place.generation == *generation)?;
                    if key.place.compromised_at.replace(now).is_some() {
                        return None;
                    }
                }
            }
        }
        Some(Rc::new(next))
    }
}
