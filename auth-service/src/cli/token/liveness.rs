//! Whether the session of a token is alive, according to the issuer's revocation feed.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use verifier::{NoExtra, Reason, Seconds, Verifier, VerifierBuilder, VerifyError};

/// How long an issuer that cannot be reached delays the first explanation.
const TIMEOUT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What is known about the session of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SessionState {
    Alive,
    Ended,
    /// The feed could not be read.
    Unknown,
}

impl SessionState {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Ended => "ended",
            Self::Unknown => "unknown: the issuer's revocation feed could not be read",
        }
    }
}

pub(super) struct Session {
    pub(super) state: SessionState,
    /// Why a verifier that follows the feed refuses the token.
    pub(super) refused: Option<Reason>,
}

/// A verifier that follows the feed.
pub(super) struct Liveness {
    verifier: Option<Verifier>,
    give_up_at: Instant,
}

impl Liveness {
    /// Knows nothing.
    pub(super) fn unknown() -> Self {
        Self { verifier: None, give_up_at: Instant::now() }
    }

    /// Starts to read the feed of `issuer`.
    pub(super) fn new(issuer: &str, audiences: &[String], leeway: Seconds, jwks: &[u8]) -> Self {
        let builder = Verifier::builder(issuer).leeway(leeway).static_jwks_document(jwks);
        let builder = audiences.iter().fold(builder, VerifierBuilder::audience);
        // An issuer with a URL that must not be used has no feed that could be read.
        Self { verifier: builder.build().ok(), give_up_at: Instant::now() + TIMEOUT }
    }

    /// The session of a token that is otherwise good. Waits for the feed once.
    pub(super) async fn of(&self, token: &str) -> Session {
        let unknown = Session { state: SessionState::Unknown, refused: None };
        let Some(verifier) = &self.verifier else { return unknown };
        // The first check starts the feed.
        while verifier.verify_now::<NoExtra>(token).is_ok() && verifier.status().feed.staleness.is_none() {
            if Instant::now() >= self.give_up_at {
                return unknown;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        match verifier.verify_now::<NoExtra>(token) {
            Ok(_) => Session { state: SessionState::Alive, refused: None },
            Err(VerifyError::Invalid(Reason::RevokedSession)) => {
                Session { state: SessionState::Ended, refused: Some(Reason::RevokedSession) }
            }
            Err(VerifyError::Invalid(reason)) => {
                Session { state: SessionState::Unknown, refused: Some(reason) }
            }
            Err(_) => unknown,
        }
    }
}
