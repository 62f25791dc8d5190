//! Whether the session of a token is alive, according to the issuer's revocation feed.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use verifier::{NoExtra, Reason, Seconds, Verifier, VerifierBuilder, VerifyError};

/// How long an issuer that cannot be reached delays the first explanation. Documents of the feed are up to three seconds old.
const TIMEOUT: Duration = Duration::from_secs(4);
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
    started_at: Instant,
}

impl Liveness {
    /// Knows nothing.
    pub(super) fn unknown() -> Self {
        Self { verifier: None, started_at: Instant::now() }
    }

    /// Follows the feed beside the key set that was read from `place`, or that of `issuer` if this is a file.
    pub(super) fn new(
        issuer: &str,
        audiences: &[String],
        leeway: Seconds,
        (place, jwks): (&str, &[u8]),
    ) -> Self {
        let is_url = place.starts_with("https://") || place.starts_with("http://");
        let base = place.strip_suffix("/.well-known/jwks.json").filter(|_| is_url).unwrap_or(issuer);
        let builder = Verifier::builder(issuer).leeway(leeway).static_jwks_document(jwks);
        let builder = builder.feed_url(format!("{base}/v1/revocations/stream"));
        let builder = audiences.iter().fold(builder, VerifierBuilder::audience);
        // An issuer with a URL that must not be used has no feed that could be read.
        Self { verifier: builder.build().ok(), started_at: Instant::now() }
    }

    /// The session of a token that is otherwise good, as it was when the command started or later. The first call waits for
    /// a document of the feed that is new enough.
    pub(super) async fn of(&self, token: &str) -> Session {
        let unknown = Session { state: SessionState::Unknown, refused: None };
        let Some(verifier) = &self.verifier else { return unknown };
        loop {
            let waited = self.started_at.elapsed();
            // Before the check: a document that arrives in between must not vouch for a check that was made without it.
            let is_current = verifier.status().feed.staleness.is_some_and(|staleness| staleness <= waited);
            // The first check starts the feed.
            match verifier.verify_now::<NoExtra>(token) {
                Ok(_) if is_current => return Session { state: SessionState::Alive, refused: None },
                Ok(_) if waited >= TIMEOUT => return unknown,
                Ok(_) => {}
                Err(VerifyError::Invalid(Reason::RevokedSession)) => {
                    return Session { state: SessionState::Ended, refused: Some(Reason::RevokedSession) };
                }
                Err(VerifyError::Invalid(reason)) => {
                    return Session { state: SessionState::Unknown, refused: Some(reason) };
                }
                Err(_) => return unknown,
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}
