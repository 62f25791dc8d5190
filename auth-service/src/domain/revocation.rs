//! What resource servers must refuse although its tokens are still in date, and for how long they must remember it.

use verifier::{Kid, Seconds, UnixTime};

use super::session::SessionId;

/// No access token lives longer: the largest `access_token_ttl`, and the `max_token_life` of verifiers unless they set another. Keys are
/// published, and revocations remembered, for tokens of this life, because nobody knows which replica issued one and with which
/// `access_token_ttl` (rule K2).
pub const LONGEST_ACCESS_TOKEN: Seconds = Seconds(3600);
/// The largest clock difference that a verifier may tolerate.
pub const LARGEST_LEEWAY: Seconds = Seconds(120);

/// What was revoked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revocation {
    /// A session that was ended: every token with its `sid`.
    Session(SessionId),
    /// A signing key that was compromised: every token that names it.
    Key(Kid),
}

/// A revocation that is still to be remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// What was revoked.
    pub what: Revocation,
    /// From this second on nobody accepts a token of it in any case. `None`: never, because whoever has stolen a key dates
    /// tokens as they like.
    pub forget_at: Option<UnixTime>,
}

/// How long the end of a session must be remembered: until the last token it can have got is expired for every verifier.
///
/// A token may be issued in the second of the end, lives for an hour at most, and is accepted for the largest leeway longer by a
/// verifier whose clock is behind. `clock_bound` counts twice, because ours may be ahead by as much as theirs is behind.
///
/// Our own `access_token_ttl` says nothing: the token may come from a replica that was started with another.
pub fn keep_for(clock_bound: Seconds) -> Seconds {
    LONGEST_ACCESS_TOKEN + LARGEST_LEEWAY + clock_bound * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_session_is_kept_until_its_last_token_is_refused_for_its_age() {
        let bound = Seconds(5);
        assert_eq!(keep_for(bound), Seconds(3_600 + 120 + 10));
        // Signed in the second of the end by a clock that is ahead, shown to one that is behind.
        let ended_at = UnixTime(1_800_000_000);
        let exp = ended_at + bound + LONGEST_ACCESS_TOKEN;
        let last_accepted = exp + LARGEST_LEEWAY - Seconds(1) + bound;
        assert!(last_accepted < ended_at + keep_for(bound));
        assert!(last_accepted + Seconds(1) >= ended_at + keep_for(bound), "and no longer than needed");
    }
}
