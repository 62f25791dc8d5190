//! A session: one login and all its refreshes.

use std::fmt;

use uuid::Uuid;
use verifier::{Seconds, UnixTime};

use super::user::UserId;

/// The id of a session; the claim `sid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Uuid);

impl SessionId {
    /// A version 4 UUID made of 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The id with these bytes, as stored in a refresh token.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Parses the id in its text form.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().filter(|id| id.hyphenated().to_string() == text).map(Self)
    }

    /// The 16 bytes of the id.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The number of a session's refresh token; the token issued at login is generation 1.
pub type Generation = u32;

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The user logged out.
    Logout,
    /// The user ended it from another session.
    EndedByUser,
    /// An operator ended it.
    EndedByAdmin,
    /// A replaced refresh token was presented.
    RefreshReuse,
    /// The password changed.
    PasswordChanged,
    /// The user was disabled.
    UserDisabled,
    /// The user was deleted.
    UserDeleted,
    /// A newer login replaced it (`max_sessions_per_user`).
    SessionLimit,
}

impl EndReason {
    /// The name in the database and in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::EndedByUser => "ended_by_user",
            Self::EndedByAdmin => "ended_by_admin",
            Self::RefreshReuse => "refresh_reuse",
            Self::PasswordChanged => "password_changed",
            Self::UserDisabled => "user_disabled",
            Self::UserDeleted => "user_deleted",
            Self::SessionLimit => "session_limit",
        }
    }
}

/// A session as stored in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id, the claim `sid`.
    pub id: SessionId,
    /// The user who logged in.
    pub user_id: UserId,
    /// The application acting for the user.
    pub client_id: String,
    /// The audience of its tokens.
    pub audience: String,
    /// The permissions requested at login, separated by spaces; `None`: all of the user's.
    pub scope: Option<String>,
    /// The generations of its refresh token.
    pub refresh: RefreshState,
    /// When the user authenticated.
    pub auth_time: UnixTime,
    /// The authentication methods, separated by spaces; see [`Proof::amr`](super::proof::Proof::amr).
    pub amr: String,
    /// When the session began.
    pub created_at: UnixTime,
    /// When it expires unless it is refreshed before.
    pub idle_expires_at: UnixTime,
    /// When it expires even if it is refreshed.
    pub expires_at: UnixTime,
    /// When it was ended; `None` if it only expired.
    pub ended_at: Option<UnixTime>,
    /// The `User-Agent` of the login.
    pub user_agent: Option<String>,
    /// The client address of the login.
    pub address: Option<String>,
}

/// The refresh token generations of a session: `accepted <= floor < outstanding <= generation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshState {
    /// The newest generation that was presented.
    pub accepted: Generation,
    /// Generations up to this one are void, except that `accepted` may be presented again.
    pub floor: Generation,
    /// The newest generation that was issued.
    pub generation: Generation,
    /// When the newest generation was issued.
    pub refreshed_at: UnixTime,
    /// The key that authenticates the token of `generation`.
    pub mac_key_id: u32,
}

/// The meaning of a refresh token that the normal statement did not accept, given the current session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The token is outstanding after all: another statement changed the session in between.
    Outstanding,
    /// A repeated request: return the same response.
    Retry,
    /// The response was lost: issue another outstanding token.
    Recover,
    /// An older duplicate that arrived late: refuse it, but keep the session.
    LateDuplicate,
    /// A later token was presented before: end the session.
    Reused,
    /// The token is valid but newer than the session: the database was restored from an older backup.
    Ahead,
    /// The session was ended.
    Ended,
    /// The session is past its idle or absolute expiry.
    Expired,
}

/// Rules that distinguish lost responses, repeated requests and reuse.
#[derive(Clone, Copy, Debug)]
pub struct RefreshPolicy {
    /// A request repeated within this time gets the same response; zero disables that.
    pub grace: Seconds,
    /// Whether a client that lost a response may recover after `grace`.
    pub recovery: bool,
}

impl Session {
    /// Judges a presented generation (docs/protocols.md, "The six steps").
    ///
    /// `now` is the time of the clock that all replicas share. An ended or expired session takes precedence
    /// over the generation.
    ///
    /// Source: RFC 9700 §4.14.2, extended by the recovery of lost responses.
    pub fn judge(&self, presented: Generation, now: UnixTime, policy: RefreshPolicy) -> Verdict {
        let state = self.refresh;
        let in_grace = now - state.refreshed_at < policy.grace;
        if self.ended_at.is_some() {
            Verdict::Ended
        } else if now >= self.expires_at || now >= self.idle_expires_at {
            Verdict::Expired
        } else if presented > state.generation {
            Verdict::Ahead
        } else if presented > state.floor {
            Verdict::Outstanding
        } else if presented == state.accepted && in_grace {
            Verdict::Retry
        } else if presented == state.accepted && policy.recovery {
            Verdict::Recover
        } else if in_grace {
            Verdict::LateDuplicate
        } else {
            Verdict::Reused
        }
    }

    /// Whether the session's tokens may still be used at `now`.
    pub fn is_alive(&self, now: UnixTime) -> bool {
        self.ended_at.is_none() && now < self.expires_at && now < self.idle_expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Ahead, Ended, Expired, LateDuplicate, Outstanding, Recover, Retry, Reused};

    const NOW: UnixTime = UnixTime(50_000);
    const POLICY: RefreshPolicy = RefreshPolicy { grace: Seconds(10), recovery: true };

    /// Token 5 was exchanged, which voided 6. Tokens 7 and 8 were issued in response, the last at `NOW`.
    fn session() -> Session {
        Session {
            id: SessionId::from_random([0xab; 16]),
            user_id: UserId::from_random([2; 16]),
            client_id: "first-party".to_owned(),
            audience: "api".to_owned(),
            scope: None,
            refresh: RefreshState { accepted: 5, floor: 6, generation: 8, refreshed_at: NOW, mac_key_id: 1 },
            auth_time: NOW,
            amr: "pwd".to_owned(),
            created_at: NOW,
            idle_expires_at: NOW + Seconds(500),
            expires_at: NOW + Seconds(1_000),
            ended_at: None,
            user_agent: None,
            address: None,
        }
    }

    fn judge(presented: Generation, after: i64, policy: RefreshPolicy) -> Verdict {
        session().judge(presented, NOW + Seconds(after), policy)
    }

    #[test]
    fn every_generation_has_its_verdict_within_and_after_the_grace() {
        let within = [1, 4, 5, 6, 7, 8, 9].map(|shown| judge(shown, 9, POLICY));
        assert_eq!(
            within,
            [LateDuplicate, LateDuplicate, Retry, LateDuplicate, Outstanding, Outstanding, Ahead]
        );
        let after = [1, 4, 5, 6, 7, 8, 9].map(|shown| judge(shown, 10, POLICY));
        assert_eq!(after, [Reused, Reused, Recover, Reused, Outstanding, Outstanding, Ahead]);
    }

    #[test]
    fn without_recovery_a_late_retry_is_reuse() {
        let policy = RefreshPolicy { recovery: false, ..POLICY };
        assert_eq!((judge(5, 9, policy), judge(5, 10, policy)), (Retry, Reused));
    }

    #[test]
    fn without_grace_every_retry_is_a_recovery() {
        let policy = RefreshPolicy { grace: Seconds(0), ..POLICY };
        assert_eq!((judge(5, 0, policy), judge(6, 0, policy)), (Recover, Reused));
    }

    #[test]
    fn clock_going_back_is_not_judged_as_reuse() {
        assert_eq!((judge(5, -100, POLICY), judge(4, -100, POLICY)), (Retry, LateDuplicate));
    }

    #[test]
    fn session_expires_at_its_exact_second() {
        let short = |idle, absolute| Session {
            idle_expires_at: NOW + Seconds(idle),
            expires_at: NOW + Seconds(absolute),
            ..session()
        };
        for session in [short(100, 200), short(200, 100)] {
            let at = |after: i64| NOW + Seconds(after);
            assert_eq!(session.judge(8, at(99), POLICY), Outstanding);
            assert_eq!(session.judge(8, at(100), POLICY), Expired);
            assert_eq!((session.is_alive(at(99)), session.is_alive(at(100))), (true, false));
        }
    }

    #[test]
    fn ended_session_takes_precedence() {
        let ended = Session { ended_at: Some(NOW), ..session() };
        for (shown, after) in [(5, 0), (8, 0), (9, 0), (1, 50), (8, 5_000)] {
            assert_eq!(ended.judge(shown, NOW + Seconds(after), POLICY), Ended);
        }
        assert!(!ended.is_alive(NOW));
    }

    #[test]
    fn session_id_has_one_spelling() {
        let id = session().id;
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        assert_eq!(SessionId::from_bytes(*id.as_bytes()), id);
        assert_eq!(SessionId::parse(&id.to_string().to_uppercase()), None);
        assert_eq!(SessionId::parse(&id.to_string().replace('-', "")), None);
    }
}
