//! L3, L4 and L5: sessions that fork or do not end, and missing confirmed objects.

use std::collections::HashMap;
use std::time::Duration;

use super::History;
use crate::ledger::{Call, Entry, Outcome};

/// L3. A refresh token can have several successors if responses were lost; only one of them may be used.
pub(super) fn double_spends(history: &History<'_>) -> Vec<String> {
    let goes_on = |successor: &&&str| history.successors.contains_key(**successor);
    let mut faults = Vec::new();
    for (presented, successors) in &history.successors {
        let lines: Vec<_> = successors.iter().filter(goes_on).collect();
        if lines.len() > 1 {
            faults.push(format!("{presented} goes on as {lines:?}"));
        }
    }
    faults
}

/// L4. A session whose end was acknowledged must not refresh.
pub(super) fn lost_ends(history: &History<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    for entry in history.entries.iter().filter(|entry| entry.outcome == Outcome::Ok) {
        let Call::Refresh { session, .. } = &entry.call else { continue };
        let known_at = history.ended.get(session.as_str()).and_then(|end| end.known_at);
        if known_at.is_some_and(|known_at| entry.sent > known_at) {
            faults.push(format!("session {session} ended at {known_at:?} and refreshed at {:?}", entry.sent));
        }
    }
    faults
}

/// L5. Confirmed objects must be found afterwards.
pub(super) fn lost_things(history: &History<'_>) -> Vec<String> {
    let mut made: HashMap<&str, Duration> = HashMap::new();
    for entry in history.entries.iter().filter(|entry| entry.outcome == Outcome::Ok) {
        if let Call::Make { thing } = &entry.call {
            made.entry(thing).or_insert(entry.answered);
        }
    }
    let mut faults = Vec::new();
    for entry in history.entries {
        let (Call::Find { thing }, Outcome::Fail(why)) = (&entry.call, &entry.outcome) else { continue };
        if made.get(thing.as_str()).is_some_and(|made_at| entry.sent >= *made_at) {
            faults.push(format!("{thing} is gone at {:?}: {why}", entry.sent));
        }
    }
    faults
}

/// Refresh tokens with more than one successor.
///
/// Stricter than L3, and only for runs in which no retry is later than the grace: a later one correctly
/// recovers with a new successor.
pub fn forks(entries: &[Entry]) -> Vec<String> {
    let history = History::of(entries);
    let forks = history.successors.iter().filter(|(_, successors)| successors.len() > 1);
    forks.map(|(presented, successors)| format!("{presented} has successors {successors:?}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::made_up::*;
    use super::*;

    #[test]
    fn token_with_two_successors_in_use_is_a_double_spend() {
        let mut entries =
            vec![login(0, "a"), refresh(1, "a", "b"), refresh(2, "a", "c"), refresh(3, "b", "d")];
        assert_eq!((violations(&entries), forks(&entries).len()), (vec![], 1));
        entries.push(refresh(4, "c", "e"));
        assert_eq!(violations(&entries), [("L3", 1)]);
    }

    #[test]
    fn retry_with_the_same_response_is_not_a_fork() {
        assert_eq!(forks(&good()), [""; 0]);
    }

    #[test]
    fn refresh_after_an_acknowledged_logout_is_a_lost_logout() {
        let mut entries = good();
        entries.push(refresh(9, "c", "d"));
        assert_eq!(violations(&entries), [("L4", 1)]);
        // Without a response it is unknown whether it ended.
        entries[7].outcome = Outcome::Info("reset".to_owned());
        entries.retain(|entry| {
            !matches!((&entry.call, &entry.outcome), (Call::Refresh { .. }, Outcome::Fail(_)))
        });
        assert_eq!(violations(&entries), []);
    }

    #[test]
    fn missing_confirmed_user_is_a_lost_acknowledgement() {
        let mut entries = good();
        entries.push(refused(9, Call::Find { thing: "user x".to_owned() }));
        assert_eq!(violations(&entries), [("L5", 1)]);
        // This one was not confirmed.
        let mut entries = good();
        entries.push(refused(9, Call::Find { thing: "user y".to_owned() }));
        assert_eq!(violations(&entries), []);
    }
}
