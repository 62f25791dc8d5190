//! Revocations that resource servers must apply to unexpired tokens, and their retention.

use verifier::{Kid, Seconds, UnixTime};

use super::session::SessionId;

/// The maximum life of an access token: the largest `access_token_ttl`, and the default `max_token_life` of
/// verifiers. Keys are published, and revocations kept, for tokens of this life, because replicas may issue
/// tokens with different values of `access_token_ttl` (rule K2).
pub const LONGEST_ACCESS_TOKEN: Seconds = Seconds(3600);
/// The largest clock difference that a verifier may tolerate.
pub const LARGEST_LEEWAY: Seconds = Seconds(120);

/// The revoked object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revocation {
    /// A session that was ended: every token with its `sid`.
    Session(SessionId),
    /// A signing key that was compromised: every token that names it.
    Key(Kid),
}

/// A revocation that must still be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The revoked object.
    pub what: Revocation,
    /// From this second on, every verifier refuses its tokens as expired. `None`: never, because the thief of
    /// a key can choose any expiry.
    pub forget_at: Option<UnixTime>,
}

/// How long the end of a session must be kept: until its last token has expired for every verifier.
///
/// A token may be issued in the second in which the session ends. It lives for at most an hour, and verifiers
/// accept it for the largest leeway longer. `clock_bound` counts twice, because the issuer's clock may be
/// ahead while the verifier's is behind.
///
/// This replica's own `access_token_ttl` does not matter: another replica may have issued the token with
/// another value.
pub fn keep_for(clock_bound: Seconds) -> Seconds {
    LONGEST_ACCESS_TOKEN + LARGEST_LEEWAY + clock_bound * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_end_is_kept_until_its_last_token_expires() {
        let bound = Seconds(5);
        assert_eq!(keep_for(bound), Seconds(3_600 + 120 + 10));
        // Issued in the second of the end by a clock that is ahead, verified by a clock that is behind.
        let ended_at = UnixTime(1_800_000_000);
        let exp = ended_at + bound + LONGEST_ACCESS_TOKEN;
        let last_accepted = exp + LARGEST_LEEWAY - Seconds(1) + bound;
        assert!(last_accepted < ended_at + keep_for(bound));
        assert!(last_accepted + Seconds(1) >= ended_at + keep_for(bound), "and no longer than needed");
    }
}
