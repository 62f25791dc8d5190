//! The key caches of verifiers: content and refresh times.

use verifier::UnixTime;

use super::plan::Millis;
use super::replica::KeySet;
use super::table::Name;

/// When a verifier fetches the key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// When `max-age` is over; within `stale-while-revalidate` after that, it uses its set during the fetch.
    Headers,
    /// At 80 % of `max-age`, and for an unknown `kid`, once in 10 s: the `verifier` crate.
    UnknownKid,
    /// When its set is 10 minutes old, regardless of the headers.
    FixedLife,
}

/// How a verifier's requests find a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// A balancer that prefers ready replicas.
    Balancer,
    /// Any replica that responds.
    Dns,
}

#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) set: KeySet,
    pub(crate) asked_at: Millis,
    pub(crate) received_at: Millis,
    /// Whether the design makes a promise for this set at this verifier.
    pub(crate) is_promised: bool,
}

impl Held {
    pub(crate) fn knows(&self, key: Name) -> bool {
        self.set.table.publishes(key, self.set.rendered_at)
    }
}

#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) habit: Habit,
    pub(crate) route: Route,
    pub(crate) clock_offset: Millis,
    pub(crate) held: Option<Held>,
    /// The last request reached no replica that could know more.
    pub(crate) last_fetch_failed: bool,
    /// When it last fetched the set for an unknown `kid`.
    pub(crate) forced_at: Option<Millis>,
}

/// A verifier's action before it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    Fresh,
    /// Uses its set, and fetches at the same time.
    Revalidate,
    /// Fetches first.
    Stale,
}

impl Verifier {
    pub(crate) fn freshness(&self, at: Millis, fixed_life: Millis) -> Freshness {
        let Some(held) = &self.held else { return Freshness::Stale };
        // RFC 9111 §4.2.3: the response delay counts as age. A library that ignores headers ignores that,
        // too.
        let age = at - held.asked_at;
        let life = held.set.life;
        match self.habit {
            Habit::UnknownKid => Freshness::Fresh,
            Habit::FixedLife if at < held.received_at + fixed_life => Freshness::Fresh,
            Habit::Headers if age < life.max_age => Freshness::Fresh,
            Habit::Headers if age < life.max_age + life.stale_while_revalidate => Freshness::Revalidate,
            Habit::FixedLife | Habit::Headers => Freshness::Stale,
        }
    }

    /// Replaces the set, unless the new one is known to be older. Returns whether it was replaced.
    pub(crate) fn take(&mut self, held: Held) -> bool {
        let is_older = self.habit == Habit::UnknownKid
            && self.held.as_ref().is_some_and(|known| held.set.table.changes < known.set.table.changes);
        if !is_older {
            self.held = Some(held);
        }
        !is_older
    }

    pub(crate) fn may_force(&self, at: Millis) -> bool {
        self.habit == Habit::UnknownKid && self.forced_at.is_none_or(|before| at >= before + 10_000)
    }

    pub(crate) fn now(&self, at: Millis) -> UnixTime {
        super::plan::second(at + self.clock_offset)
    }
}
