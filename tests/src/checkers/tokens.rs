//! L1 and L2: false refusals and false acceptances of tokens.

use super::{Bounds, History, seconds};
use crate::ledger::{Call, Outcome};

/// L1. Counts valid access tokens that a verifier refused or could not judge, refresh tokens that were
/// refused although they had not been replaced, and refused logins with the right password and logouts of
/// live sessions.
pub(super) fn false_refusals(history: &History<'_>, bounds: &Bounds) -> Vec<String> {
    let mut faults = Vec::new();
    for entry in history.entries {
        let (at, outcome) = (entry.answered, &entry.outcome);
        match &entry.call {
            Call::Verify { token, .. } if *outcome != Outcome::Ok => {
                let Some(issued) = history.issued.get(token) else { continue };
                let is_in_date = at + bounds.margin < seconds(issued.exp);
                let is_stolen =
                    history.compromised.get(issued.kid.as_str()).is_some_and(|end| end.asked_at <= at);
                if is_in_date && !is_stolen && !history.may_have_ended(&issued.sid, at) {
                    faults.push(format!("{outcome:?} at {at:?}: {issued:?}"));
                }
            }
            Call::Refresh { session, presented, .. }
                if matches!(outcome, Outcome::Fail(_))
                    && !history.may_have_ended(session, at)
                    && !history.is_moved_past(presented, at) =>
            {
                faults.push(format!("session {session} was lost at {at:?}: {outcome:?}"));
            }
            Call::Login(_) if matches!(outcome, Outcome::Fail(_)) => {
                faults.push(format!("login at {at:?}: {outcome:?}"));
            }
            Call::End { session }
                if matches!(outcome, Outcome::Fail(_)) && !history.may_have_ended(session, at) =>
            {
                faults.push(format!("session {session} could not be ended at {at:?}: {outcome:?}"));
            }
            _ => {}
        }
    }
    faults
}

/// L2. Counts tokens that were accepted after expiry and leeway, by a connected verifier after the end of the
/// session or key, or without having been issued; and tokens that a stolen key signed after the permitted
/// delay.
pub(super) fn false_acceptances(history: &History<'_>, bounds: &Bounds) -> Vec<String> {
    let mut faults = Vec::new();
    for entry in history.entries.iter().filter(|entry| entry.outcome == Outcome::Ok) {
        let Call::Verify { token, connected } = &entry.call else { continue };
        let Some(issued) = history.issued.get(token) else {
            faults.push(format!("{token} was accepted and never issued"));
            continue;
        };
        let ends = [history.ended.get(issued.sid.as_str()), history.compromised.get(issued.kid.as_str())];
        let known_at = ends.into_iter().flatten().filter_map(|end| end.known_at).min();
        if entry.sent >= seconds(issued.exp) + bounds.leeway {
            faults.push(format!("accepted at {:?}, after its end: {issued:?}", entry.sent));
        } else if *connected && known_at.is_some_and(|known_at| entry.sent > known_at + bounds.reach) {
            faults.push(format!("accepted at {:?}, revoked at {known_at:?}: {issued:?}", entry.sent));
        }
    }
    for (entry, grant) in history.grants() {
        let stolen = history.compromised.get(grant.access.kid.as_str()).and_then(|end| end.known_at);
        if stolen.is_some_and(|stolen| entry.sent > stolen + bounds.last_signature) {
            faults.push(format!("a stolen key signed at {:?}: {:?}", entry.sent, grant.access));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::super::made_up::*;
    use super::*;

    #[test]
    fn refused_or_unjudged_valid_token_is_a_false_refusal() {
        for outcome in [Outcome::Fail("no".to_owned()), Outcome::Info("no keys".to_owned())] {
            let mut entries = good();
            entries.insert(2, entry(1, outcome, verify("a")));
            assert_eq!(violations(&entries), [("L1", 1)]);
        }
    }

    #[test]
    fn session_that_cannot_be_ended_is_a_false_refusal() {
        let mut entries = good();
        let refusal = |second| refused(second, Call::End { session: "s".to_owned() });
        entries.push(refusal(9));
        assert_eq!(violations(&entries), [], "it was over");
        entries.insert(5, refusal(3));
        assert_eq!(violations(&entries), [("L1", 1)]);
    }

    #[test]
    fn refusal_after_or_close_to_the_end_is_correct() {
        let entries = [login(0, "a"), refused(18, verify("a"))];
        assert_eq!(violations(&entries), [("L1", 1)]);
        let entries = [login(0, "a"), refused(19, verify("a")), refused(21, verify("a"))];
        assert_eq!(violations(&entries), []);
    }

    #[test]
    fn refused_unused_refresh_token_is_a_lost_session() {
        let mut entries = good();
        entries.insert(4, refresh_refused(4, "b"));
        assert_eq!(violations(&entries), [("L1", 1)]);
        // A late duplicate of a token whose successor was presented is correctly refused.
        let mut entries = good();
        entries.insert(7, refresh_refused(5, "a"));
        entries[7].answered = at(6);
        assert_eq!(violations(&entries), []);
    }

    #[test]
    fn using_one_of_two_successors_voids_the_other() {
        let mut entries = vec![login(0, "a"), refresh(1, "a", "lost"), refresh(2, "a", "found")];
        entries.push(refresh_refused(3, "lost"));
        assert_eq!(violations(&entries), [("L1", 1)]);
        entries.insert(3, refresh(3, "found", "next"));
        entries[4] = refresh_refused(4, "lost");
        assert_eq!(violations(&entries), []);
    }

    #[test]
    fn only_refused_logins_are_counted_not_unanswered_ones() {
        let mut entries = good();
        entries.push(entry(9, Outcome::Info("reset".to_owned()), Call::Login(None)));
        assert_eq!(violations(&entries), []);
        entries.push(refused(9, Call::Login(None)));
        assert_eq!(violations(&entries), [("L1", 1)]);
    }

    #[test]
    fn token_accepted_after_expiry_is_counted_beyond_the_leeway() {
        let entries = [login(0, "a"), ok(21, verify("a"))];
        assert_eq!(violations(&entries), []);
        let entries = [login(0, "a"), ok(22, verify("a"))];
        assert_eq!(violations(&entries), [("L2", 1)]);
    }

    #[test]
    fn token_accepted_after_session_end_is_counted_beyond_the_revocation_reach() {
        let mut entries = good();
        entries.push(ok(7, verify("c")));
        assert_eq!(violations(&entries), []);
        entries.push(ok(8, verify("c")));
        assert_eq!(violations(&entries), [("L2", 1)]);
        // A disconnected verifier cannot know.
        entries.pop();
        let Call::Verify { token, .. } = verify("c") else { unreachable!("it is one") };
        entries.push(ok(8, Call::Verify { token, connected: false }));
        assert_eq!(violations(&entries), []);
    }

    #[test]
    fn accepted_token_that_was_never_issued_is_a_violation() {
        assert_eq!(violations(&[ok(1, verify("forged"))]), [("L2", 1)]);
    }

    #[test]
    fn stolen_key_must_stop_signing_and_being_accepted() {
        let stolen = || ok(1, Call::Compromise { kid: "kid".to_owned() });
        assert_eq!(violations(&[login(0, "a"), stolen(), refused(5, verify("a"))]), []);
        assert_eq!(violations(&[login(0, "a"), stolen(), ok(5, verify("a"))]), [("L2", 1)]);
        assert_eq!(violations(&[login(0, "a"), stolen(), login(5, "b")]), [("L2", 1)]);
    }
}
