//! Invariants of every step of a session, with plain sets instead of `accepted`, `floor` and `generation`.

use std::collections::BTreeSet;

use auth_service::domain::session::Generation;
use auth_service::domain::session::{Session, Verdict};
use auth_service::store::Advance;

/// The tokens of a session, by state.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// The token that was exchanged last.
    accepted: Generation,
    /// Issued in response to it, and not presented yet.
    outstanding: BTreeSet<Generation>,
    /// The newest token ever issued.
    newest: Generation,
    pub(crate) is_ended: bool,
    /// After a backup was restored, numbers are reused.
    pub(crate) was_restored: bool,
    pub(crate) counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) normal: u64,
    pub(crate) retried: u64,
    pub(crate) recovered: u64,
    pub(crate) fast_forwarded: u64,
    pub(crate) late_duplicates: u64,
    pub(crate) reused: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.normal += other.normal;
        self.retried += other.retried;
        self.recovered += other.recovered;
        self.fast_forwarded += other.fast_forwarded;
        self.late_duplicates += other.late_duplicates;
        self.reused += other.reused;
    }
}

impl Ledger {
    /// A new session, whose first token is issued.
    pub(crate) fn new() -> Self {
        Self {
            accepted: 0,
            outstanding: BTreeSet::from([1]),
            newest: 1,
            is_ended: false,
            was_restored: false,
            counts: Counts::default(),
        }
    }

    /// The database advanced the session and issued `issued`.
    pub(crate) fn advanced(&mut self, step: Advance, issued: Generation) {
        assert!(!self.is_ended, "{step:?} moved an ended session: {self:?}");
        assert!(issued > self.newest || self.was_restored, "{issued} was given away before: {self:?}");
        match step {
            Advance::Outstanding(shown) => {
                // Only one token of a round survives: there is no second branch.
                assert!(
                    self.outstanding.contains(&shown),
                    "{shown} was void, and gave a successor: {self:?}"
                );
                self.accepted = shown;
                self.outstanding.clear();
                self.counts.normal += 1;
            }
            Advance::Recover { accepted, .. } => {
                assert_eq!(accepted, self.accepted, "another token was recovered: {self:?}");
                self.counts.recovered += 1;
            }
            Advance::FastForward { presented, .. } => {
                assert!(self.was_restored, "{presented} cannot be ahead: {self:?}");
                self.accepted = presented;
                self.outstanding.clear();
                self.counts.fast_forwarded += 1;
            }
        }
        self.outstanding.insert(issued);
        self.newest = issued;
    }

    /// A replica read the session and judged the token.
    pub(crate) fn judged(&mut self, shown: Generation, verdict: Verdict, session: &Session) {
        let is_void = shown != self.accepted && !self.outstanding.contains(&shown);
        match verdict {
            Verdict::Retry => {
                assert_eq!(shown, self.accepted, "a void token was answered: {self:?}");
                assert_eq!(session.refresh.generation, self.newest, "a retry got another answer: {self:?}");
                self.counts.retried += 1;
            }
            Verdict::LateDuplicate => {
                assert!(is_void, "{shown} was refused: {self:?}");
                self.counts.late_duplicates += 1;
            }
            Verdict::Outstanding => assert!(self.outstanding.contains(&shown), "{shown}: {self:?}"),
            Verdict::Recover => assert_eq!(shown, self.accepted, "{self:?}"),
            Verdict::Ended => assert!(self.is_ended, "{self:?}"),
            Verdict::Ahead => assert!(self.was_restored && shown > self.newest, "{shown}: {self:?}"),
            Verdict::Expired => panic!("histories end before the session expires: {self:?}"),
            Verdict::Reused => self.counts.reused += 1,
        }
    }

    pub(crate) fn ended(&mut self) {
        self.is_ended = true;
    }

    /// The database is back in the state of `then`.
    pub(crate) fn restored(&mut self, then: &Self) {
        let counts = self.counts;
        *self = Self { was_restored: true, counts, ..then.clone() };
    }
}
