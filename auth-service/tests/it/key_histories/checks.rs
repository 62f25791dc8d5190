//! Invariants of every history.

use verifier::{Seconds, UnixTime};

use super::plan::{LATE_COMMIT, LONGEST_QUESTION, Millis, second};
use super::replica::Token;
use super::table::{Name, Table};
use super::world::World;

/// A promise that a history broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A verifier refused a valid token.
    Refused,
    /// No key of an established chain may sign (K3).
    NoSigner,
    /// Two keys of a chain may sign (K3).
    TwoSigners,
    /// A key signed before its time, after it, or although it is no longer published (K4).
    OutOfTurn,
    /// A key signs too soon after it was announced, or a healthy replica does not publish it in time (K1).
    NotPublishedAhead,
    /// A token outlives the publication of its key (K2), or its life is too short.
    WrongEnd,
    /// The store would have refused a proposed change, or a name was given twice (K7).
    ChangeRefused,
}

#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) broken: Broken,
    pub(crate) story: String,
}

impl World<'_> {
    /// Checks K3 for every reader of the table from now on.
    pub(crate) fn check_signers_from(&mut self, chain: usize, at: Millis) {
        let now = second(at);
        let table = std::rc::Rc::clone(&self.table);
        self.check_signers(&table, chain, now);
    }

    /// Checks K3 over the whole history with the final schedules, and that a name belongs to one key (K7).
    pub(crate) fn check_chains(&mut self) {
        let table = std::rc::Rc::clone(&self.table);
        for chain in 0..table.chains.len() {
            self.check_signers(&table, chain, UnixTime(0));
        }
        let mut kids: Vec<_> = table.chains.iter().flatten().map(|key| key.place.kid.as_str()).collect();
        kids.sort_unstable();
        if kids.windows(2).any(|pair| pair[0] == pair[1]) {
            self.violation(Broken::ChangeRefused, format!("{kids:?}"));
        }
    }

    /// Checks that one key signs at each boundary of the chain from `from` on, and a second before it.
    fn check_signers(&mut self, table: &Table, chain: usize, from: UnixTime) {
        let schedules: Vec<_> = table.chains[chain].iter().map(|key| key.place.schedule).collect();
        // A key that was compromised while it was pending never signs.
        let signed = schedules
            .iter()
            .filter(|schedule| schedule.end.is_none_or(|end| end.retires_at > schedule.activates_at));
        let Some(first) = signed.map(|schedule| schedule.activates_at).min() else { return };
        // A chain that is no longer configured ends when its last key retires.
        let ends = schedules.iter().map(|schedule| schedule.end.map(|end| end.retires_at));
        let last = ends.collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().max());
        let boundaries = schedules.iter().flat_map(|schedule| {
            let end = schedule.end.map(|end| [end.retires_at, end.expires_at]);
            std::iter::once(schedule.activates_at).chain(end.into_iter().flatten())
        });
        let instants: Vec<_> = boundaries.flat_map(|at| [at - Seconds(1), at]).chain([from]).collect();
        for now in instants {
            let is_alive = first <= now && last.is_none_or(|last| now < last);
            let expected = usize::from(is_alive);
            let signers = table.signers(chain, now);
            // A chain that was removed and came back has to wait for its new key.
            let may_pause = chain == 1 && self.plan.second_chain.len() > 1 && signers == 0;
            if now >= from && signers != expected && !may_pause {
                let broken = if signers < expected { Broken::NoSigner } else { Broken::TwoSigners };
                self.violation(broken, format!("{signers} signers at {now:?} of {schedules:?}"));
            }
        }
    }

    /// K1: the key is in every JWKS that a healthy replica gives out, long enough before it signs.
    pub(crate) fn check_published(&mut self, chain: usize, generation: i64, at: Millis) {
        let name = Name { chain, generation };
        let key = self.table.find(name).expect("it was announced").clone();
        if key.known_from.is_some() || key.place.compromised_at.is_some() {
            return;
        }
        let ahead = key.place.schedule.activates_at - key.created_at;
        if ahead < self.plan.config.key_publish_ahead {
            self.violation(Broken::NotPublishedAhead, format!("{key:?} signs {} s after", ahead.0));
        }
        for (replica, fate) in self.plan.fates.iter().enumerate() {
            let one = &self.replicas[replica];
            let was_healthy = one.healthy_since.is_some_and(|since| second(since) <= key.created_at)
                && at - one.last_poll <= self.plan.poll_interval() * 11 / 10;
            let publishes = one
                .ring
                .as_ref()
                .is_some_and(|ring| ring.table.publishes(name, second(at + fate.clock_offset)));
            if was_healthy && fate.thaws_at(at).is_none() && !publishes {
                self.violation(
                    Broken::NotPublishedAhead,
                    format!("{key:?} not published by {replica} at {at}"),
                );
            }
        }
    }

    /// Checks K4: the signing key is the active one by the database's clock.
    ///
    /// A signer adds the time since it sent the statement to the database's clock, so it may be ahead by the
    /// duration of the statement; and the statement may miss a late commit. Both differences are whole
    /// seconds.
    pub(crate) fn check_signature(&mut self, replica: usize, token: &Token) {
        let key = self.table.find(token.key).expect("keys are never deleted").clone();
        if key.place.compromised_at.is_some() {
            // The signer has not seen it: its statement ran before.
            return;
        }
        let (now, schedule) = (second(token.signed_at), key.place.schedule);
        let ahead = Seconds(LONGEST_QUESTION / 1_000 + 2);
        let behind = Seconds(LATE_COMMIT / 1_000 + 2);
        let too_early = schedule.activates_at > now + ahead;
        let too_late =
            schedule.end.is_some_and(|end| now >= end.retires_at + behind || now >= end.expires_at);
        if too_early || too_late {
            self.violation(Broken::OutOfTurn, format!("replica {replica}: {token:?} of {key:?} at {now:?}"));
        }
    }

    /// Checks K2: no token outlives the publication of its key, and no token's life was shortened for it.
    pub(crate) fn check_tokens(&mut self) {
        let margin = self.plan.margin();
        let tokens = std::mem::take(&mut self.tokens);
        for token in &tokens {
            let key = self.table.find(token.key).expect("keys are never deleted").clone();
            if key.place.compromised_at.is_some() {
                continue;
            }
            let outlives = key.place.schedule.end.is_some_and(|end| token.exp > end.expires_at - margin);
            if outlives || token.exp - token.iat != token.ttl {
                self.violation(Broken::WrongEnd, format!("{token:?} of {key:?}"));
            }
        }
    }
}
