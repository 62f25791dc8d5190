//! Invariants of every ledger, regardless of the faults during the run.
//!
//! | | must not occur |
//! |---|---|
//! | L1 | a false refusal: a token is refused although it was issued, has not expired and was not revoked |
//! | L2 | a false acceptance: after the end of a token or of its session, plus the permitted delay |
//! | L3 | a double spend: two chains of refresh tokens that both continue from one token |
//! | L4 | a lost logout: it was acknowledged, but the session still refreshes |
//! | L5 | a lost acknowledgement: a confirmed user, password or key is missing |
//! | L6 | two signers, a late or changed key, a published private member |
//! | L7 | a crash, a panic, growing memory, leaked files |
//!
//! A checker returns one line for each violation, so that a failure shows all of them.

mod keys;
mod process;
mod sessions;
mod tokens;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

pub use sessions::forks;

use crate::jwt::Peek;
use crate::ledger::{Call, Entry, Grant, Outcome};

/// The tolerances of a run. The defaults fit [`keys_of_seconds`](crate::cluster::Plan::keys_of_seconds).
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// A refusal closer than this to the end of a token is not counted, because clocks may differ by a
    /// second.
    pub margin: Duration,
    /// The verifiers' leeway.
    pub leeway: Duration,
    /// How long the end of a session or of a key may take to reach a connected verifier.
    pub reach: Duration,
    /// How long a key is published everywhere before it signs.
    pub lead: Duration,
    /// How long a retry may return an old `iat` with a newer key.
    pub retry: Duration,
    /// How long a key may still sign after it was reported as stolen.
    pub last_signature: Duration,
    /// How much the memory of a process may grow from the second third of its life to the last.
    pub rss_growth_kib: u64,
    /// How much the number of its open files may grow.
    pub files_growth: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            margin: Duration::from_secs(1),
            leeway: Duration::from_secs(2),
            reach: Duration::from_secs(1),
            // Announced 8 s ahead, less one poll; caches may need three quarters of that.
            lead: Duration::from_secs(6),
            retry: Duration::from_secs(10),
            last_signature: Duration::from_secs(1),
            rss_growth_kib: 16 * 1024,
            files_growth: 64,
        }
    }
}

/// The violations in `entries`, by name of the rule. Rules without violations are included.
pub fn check(entries: &[Entry], bounds: &Bounds) -> BTreeMap<&'static str, Vec<String>> {
    let history = History::of(entries);
    BTreeMap::from([
        ("L1", tokens::false_refusals(&history, bounds)),
        ("L2", tokens::false_acceptances(&history, bounds)),
        ("L3", sessions::double_spends(&history)),
        ("L4", sessions::lost_ends(&history)),
        ("L5", sessions::lost_things(&history)),
        ("L6", keys::faults(&history, bounds)),
        ("L7", process::faults(&history, bounds)),
        ("must", musts(&history)),
    ])
}

/// The failures of functions that must always work.
fn musts(history: &History<'_>) -> Vec<String> {
    let failed = history.entries.iter().filter_map(|entry| match (&entry.call, &entry.outcome) {
        (Call::Must(what), Outcome::Fail(_)) => Some(what.clone()),
        _ => None,
    });
    failed.collect()
}

/// The entries, and facts derived from them.
struct History<'l> {
    entries: &'l [Entry],
    /// Access tokens by [`Peek::id`].
    issued: HashMap<String, &'l Peek>,
    /// Ended sessions, by id.
    ended: HashMap<&'l str, End>,
    /// Keys that were reported as stolen, by name.
    compromised: HashMap<&'l str, End>,
    /// Presented refresh tokens, with the time of the first presentation.
    shown: HashMap<&'l str, Duration>,
    /// The successors of each refresh token.
    successors: HashMap<&'l str, Vec<&'l str>>,
    /// The predecessor of each refresh token.
    parents: HashMap<&'l str, &'l str>,
}

/// The time of an end.
#[derive(Clone, Copy)]
struct End {
    /// The earliest time of the end.
    asked_at: Duration,
    /// The latest time of the end.
    known_at: Option<Duration>,
}

impl<'l> History<'l> {
    fn of(entries: &'l [Entry]) -> Self {
        let mut history = Self {
            entries,
            issued: HashMap::new(),
            ended: HashMap::new(),
            compromised: HashMap::new(),
            shown: HashMap::new(),
            successors: HashMap::new(),
            parents: HashMap::new(),
        };
        for entry in entries {
            match &entry.call {
                Call::Login(Some(grant)) => history.add_grant(grant),
                Call::Refresh { presented, grant, .. } => {
                    let first = history.shown.entry(presented).or_insert(entry.sent);
                    *first = entry.sent.min(*first);
                    if let Some(grant) = grant {
                        history.add_grant(grant);
                        history.parents.insert(&grant.refresh, presented);
                        let successors = history.successors.entry(presented).or_default();
                        if !successors.contains(&grant.refresh.as_str()) {
                            successors.push(&grant.refresh);
                        }
                    }
                }
                Call::End { session } => add_end(&mut history.ended, session, entry),
                Call::Compromise { kid } => add_end(&mut history.compromised, kid, entry),
                _ => {}
            }
        }
        history.add_ends_by_reuse();
        history
    }

    fn add_grant(&mut self, grant: &'l Grant) {
        self.issued.entry(grant.access.id()).or_insert(&grant.access);
    }

    /// The refusal of a replaced refresh token may have ended its session.
    fn add_ends_by_reuse(&mut self) {
        for entry in self.entries {
            let Call::Refresh { session, presented, .. } = &entry.call else { continue };
            if matches!(entry.outcome, Outcome::Fail(_)) && self.is_moved_past(presented, entry.answered) {
                let end = End { asked_at: entry.sent, known_at: None };
                let earliest = self.ended.entry(session).or_insert(end);
                earliest.asked_at = earliest.asked_at.min(entry.sent);
            }
        }
    }

    /// Whether a successor of `presented`, or a token issued in its place, was presented before `at`.
    fn is_moved_past(&self, presented: &str, at: Duration) -> bool {
        let given_for = |token| self.successors.get(token).map(Vec::as_slice).unwrap_or_default();
        let parent = self.parents.get(presented).copied().unwrap_or_default();
        let siblings = given_for(parent).iter().filter(|sibling| **sibling != presented);
        let mut newer = given_for(presented).iter().chain(siblings);
        newer.any(|token| self.shown.get(token).is_some_and(|shown| *shown < at))
    }

    /// Whether the session may have ended before `at`.
    fn may_have_ended(&self, session: &str, at: Duration) -> bool {
        self.ended.get(session).is_some_and(|end| end.asked_at <= at)
    }

    /// The tokens in the response of `entry`.
    fn grants(&self) -> impl Iterator<Item = (&'l Entry, &'l Grant)> {
        self.entries.iter().filter_map(|entry| match &entry.call {
            Call::Login(Some(grant)) | Call::Refresh { grant: Some(grant), .. } => Some((entry, grant)),
            _ => None,
        })
    }
}

fn add_end<'l>(ends: &mut HashMap<&'l str, End>, what: &'l str, entry: &Entry) {
    if matches!(entry.outcome, Outcome::Fail(_)) {
        return;
    }
    let known_at = (entry.outcome == Outcome::Ok).then_some(entry.answered);
    let end = ends.entry(what).or_insert(End { asked_at: entry.sent, known_at });
    end.asked_at = end.asked_at.min(entry.sent);
    end.known_at = match (end.known_at, known_at) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
}

/// Whole seconds since the epoch.
fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(seconds.try_into().unwrap_or_default())
}

/// Panics if a rule does not hold for `entries`.
#[track_caller]
pub fn assert_hold(entries: &[Entry], bounds: &Bounds) {
    for (rule, violations) in check(entries, bounds) {
        none(rule, &violations);
    }
}

/// Counts of a ledger, because a test without events proves nothing.
#[derive(Debug)]
pub struct Volume<'l> {
    /// The number of issued token pairs.
    pub grants: usize,
    /// The number of checks by verifiers.
    pub checked: usize,
    /// The number of accepted tokens.
    pub accepted: usize,
    /// The signing keys.
    pub kids: BTreeSet<&'l str>,
    /// The observed processes, by replica and process id.
    pub processes: usize,
    /// The processes that lived long enough for L7 to detect growth.
    pub judged: usize,
}

impl<'l> Volume<'l> {
    /// Counts `entries`.
    pub fn of(entries: &'l [Entry]) -> Self {
        let history = History::of(entries);
        let checks = || entries.iter().filter(|entry| matches!(entry.call, Call::Verify { .. }));
        let lives = process::lives(&history);
        Self {
            grants: history.grants().count(),
            checked: checks().count(),
            accepted: checks().filter(|check| check.outcome == Outcome::Ok).count(),
            kids: history.grants().map(|(_, grant)| grant.access.kid.as_str()).collect(),
            processes: lives.len(),
            judged: lives.values().filter(|samples| process::is_judged(samples)).count(),
        }
    }
}

/// Panics with all `violations`, at most 20 of them in full.
#[track_caller]
fn none(what: &str, violations: &[String]) {
    let shown = &violations[..violations.len().min(20)];
    assert!(violations.is_empty(), "{what}: {} violations\n{}", violations.len(), shown.join("\n"));
}

#[cfg(test)]
mod made_up {
    //! Ledgers for the tests of the checkers; times are seconds after 1000.

    use super::*;

    pub(super) fn at(second: i64) -> Duration {
        seconds(1000 + second)
    }

    pub(super) fn entry(second: i64, outcome: Outcome, call: Call) -> Entry {
        Entry { sent: at(second), answered: at(second), outcome, call }
    }

    pub(super) fn ok(second: i64, call: Call) -> Entry {
        entry(second, Outcome::Ok, call)
    }

    pub(super) fn refused(second: i64, call: Call) -> Entry {
        entry(second, Outcome::Fail("401".to_owned()), call)
    }

    /// Tokens of session `s` issued at `second` for 20 s, signed by `kid`.
    pub(super) fn grant(second: i64, refresh: &str, kid: &str) -> Grant {
        let iat = 1000 + second;
        let jti = format!("jti-{refresh}");
        let access = Peek { kid: kid.into(), jti, sid: "s".into(), iat, exp: iat + 20 };
        Grant { refresh: refresh.to_owned(), access }
    }

    pub(super) fn login(second: i64, refresh: &str) -> Entry {
        ok(second, Call::Login(Some(grant(second, refresh, "kid"))))
    }

    pub(super) fn refresh(second: i64, presented: &str, given: &str) -> Entry {
        let grant = Some(grant(second, given, "kid"));
        ok(second, Call::Refresh { session: "s".to_owned(), presented: presented.to_owned(), grant })
    }

    pub(super) fn refresh_refused(second: i64, presented: &str) -> Entry {
        let presented = presented.to_owned();
        refused(second, Call::Refresh { session: "s".to_owned(), presented, grant: None })
    }

    pub(super) fn end(second: i64) -> Entry {
        ok(second, Call::End { session: "s".to_owned() })
    }

    pub(super) fn verify(refresh: &str) -> Call {
        Call::Verify { token: grant(0, refresh, "kid").access.id(), connected: true }
    }

    /// The number of violations of each rule, without rules that have none.
    pub(super) fn violations(entries: &[Entry]) -> Vec<(&'static str, usize)> {
        let found = check(entries, &Bounds::default());
        found
            .into_iter()
            .filter(|(_, lines)| !lines.is_empty())
            .map(|(rule, lines)| (rule, lines.len()))
            .collect()
    }

    /// A correct run that covers all rules.
    pub(super) fn good() -> Vec<Entry> {
        vec![
            login(0, "a"),
            ok(1, verify("a")),
            ok(1, Call::Make { thing: "user x".to_owned() }),
            refresh(2, "a", "b"),
            refresh(3, "a", "b"),
            ok(4, Call::Find { thing: "user x".to_owned() }),
            refresh(5, "b", "c"),
            end(6),
            refused(7, verify("c")),
            refresh_refused(8, "c"),
            refused(25, verify("a")),
        ]
    }

    #[test]
    fn correct_run_has_no_violation() {
        assert_eq!(violations(&good()), []);
    }

    #[test]
    fn required_function_that_fails_is_reported() {
        let mut entries = good();
        entries.push(refused(30, Call::Must("the key set".to_owned())));
        assert_eq!(violations(&entries), [("must", 1)]);
    }
}
