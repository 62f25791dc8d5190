//! The model of a replica. Mirrors `keys/keyring.rs` and `flows/issue.rs`.

use std::rc::Rc;

use auth_service::domain::access::expiry;
use auth_service::domain::key::KeySchedule;
use verifier::{Seconds, UnixTime};

use super::plan::{Fate, Millis, Plan, Without, millis, second};
use super::table::{Name, Table};

/// The key ring. Its times are those of the replica's monotonic clock, which runs with the true time.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    pub(crate) table: Rc<Table>,
    /// When the last successful confirmation of the table was requested.
    pub(crate) confirmed_at: Millis,
}

/// The state seen by a statement that authorises a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) now: UnixTime,
    pub(crate) changes: i64,
    pub(crate) asked_at: Millis,
    /// When the session was last given a token: a repeated request gets a token with the date of the first.
    pub(crate) refreshed_at: UnixTime,
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) key: Name,
    pub(crate) iat: UnixTime,
    pub(crate) exp: UnixTime,
    pub(crate) signed_at: Millis,
    /// Its intended life.
    pub(crate) ttl: Seconds,
}

/// A key set as a replica sends it.
#[derive(Clone, Debug)]
pub(crate) struct KeySet {
    pub(crate) table: Rc<Table>,
    pub(crate) rendered_at: UnixTime,
    pub(crate) life: CacheLife,
    /// The replica could not know all that is going on: its lease had run out.
    pub(crate) without_lease: bool,
}

/// How long a cache may keep a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheLife {
    pub(crate) max_age: Millis,
    pub(crate) stale_while_revalidate: Millis,
}

impl Ring {
    /// Takes note of a statement. `current` is what a reload would read now, unless the database is away.
    pub(crate) fn catch_up(&mut self, seen: Seen, current: Option<&Rc<Table>>, at: Millis) -> Option<()> {
        if self.table.changes == seen.changes {
            self.confirmed_at = self.confirmed_at.max(seen.asked_at);
        } else {
            self.table = Rc::clone(current?);
            self.confirmed_at = self.confirmed_at.max(at);
        }
        Some(())
    }

    /// The key that may sign at `at` with what a statement saw, of this chain or else of the first; `Err`
    /// when the lease has run out.
    pub(crate) fn active(
        &self,
        chain: usize,
        seen: Seen,
        at: Millis,
        plan: &Plan,
    ) -> Result<Option<Name>, ()> {
        let paused_for = at - seen.asked_at;
        if paused_for >= plan.publish_ahead() && plan.without != Without::K4Pause {
            return Err(());
        }
        let now = seen.now + Seconds(paused_for / 1_000);
        Ok(self.signer(chain, now).or_else(|| self.signer(0, now)))
    }

    pub(crate) fn signer(&self, chain: usize, now: UnixTime) -> Option<Name> {
        let mut keys = self.table.chains[chain].iter();
        let key = keys.find(|key| key.place.schedule.phase(now).may_sign())?;
        Some(Name { chain, generation: key.place.generation })
    }

    pub(crate) fn sign(&self, key: Name, iat: UnixTime, at: Millis, ttl: Seconds, plan: &Plan) -> Token {
        let schedule: KeySchedule = self.table.find(key).expect("it was found in this table").place.schedule;
        let exp = if plan.without == Without::K2AndExpiry {
            iat + ttl
        } else {
            expiry(iat, ttl, &schedule, plan.margin())
        };
        Token { key, iat, exp, signed_at: at, ttl }
    }

    pub(crate) fn is_ready(&self, at: Millis, publish_ahead: Millis) -> bool {
        at - self.confirmed_at < publish_ahead / 4
    }

    pub(crate) fn cache_life(
        &self,
        at: Millis,
        publish_ahead: Millis,
        longest: Seconds,
        bound: Seconds,
    ) -> CacheLife {
        let lease_left = (publish_ahead - (at - self.confirmed_at)).max(0) / 1_000 - bound.0 * 2;
        let max_age = longest.0.min(lease_left * 5 / 6).max(0);
        CacheLife { max_age: max_age * 1_000, stale_while_revalidate: max_age / 5 * 1_000 }
    }

    /// The JWKS, by the replica's own clock when it was last confirmed.
    pub(crate) fn key_set(&self, at: Millis, fate: &Fate, plan: &Plan) -> KeySet {
        let (longest, bound) = (plan.settings.jwks_max_age, plan.config.clock_bound);
        let confirmed_at = if plan.without == Without::K8Header { at } else { self.confirmed_at };
        let told = Self { table: Rc::clone(&self.table), confirmed_at };
        KeySet {
            table: Rc::clone(&self.table),
            rendered_at: second(self.confirmed_at + fate.clock_offset),
            life: told.cache_life(at, plan.publish_ahead(), longest, bound),
            without_lease: at - self.confirmed_at >= plan.publish_ahead() - millis(bound) * 2,
        }
    }
}
