//! Ends a connection that outlives its request, such as a WebSocket or an event stream, together with its
//! token.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::core::claims::AccessClaims;
use crate::core::error::{Reason, VerifyError};
use crate::core::jwk::Kid;
use crate::core::verified::Verified;
use crate::parts::Parts;
use crate::verifier::Verifier;

/// The polling interval of the clock, which may jump.
const CLOCK_INTERVAL: Duration = Duration::from_secs(5);
/// After an addition that does not concern this token, further ones are collected for this long, so that a
/// burst of revocations does not wake every connection for each of them.
const BURST: Duration = Duration::from_millis(50);

impl Verifier {
    /// Watches a connection that was opened with `verified`.
    ///
    /// Use the verifier that checked the token; with another one, the guard ends immediately. In axum, take a
    /// [`Guard`] as an argument of the handler.
    pub fn guard<C>(&self, verified: &Verified<C>) -> Guard {
        Guard::new(self.clone(), Arc::clone(verified.shared()), verified.kid().clone())
    }
}

/// Ends a connection as soon as its token would be refused.
///
/// All methods take `&self`, so one task can wait for the end while another renews. A process can have tens
/// of thousands of guards: each costs a timer and a subscription to revocations.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use verifier::{ManualClock, Reason, UnixTime, Verified, Verifier, testing::TestIssuer};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let issuer = TestIssuer::new("https://auth.example.com", "orders-api");
/// # let now = UnixTime(1_800_000_000);
/// # let clock = Arc::new(ManualClock::new(now));
/// # let builder = Verifier::builder("https://auth.example.com").audience("orders-api");
/// # let verifier = builder.static_jwks(&issuer.jwks()).clock(clock.clone()).build()?;
/// # let token = issuer.sign(&issuer.claims(now));
/// # let (mut messages, _client) = (tokio::time::interval(Duration::from_secs(1)), ());
/// # let work = async || { clock.advance(verifier::Seconds(60)) };
/// let verified: Verified = verifier.verify(&token).await?;
/// let guard = verifier.guard(&verified);
/// let reason = loop {
///     tokio::select! {
///         reason = guard.ended() => break reason,
///         _ = messages.tick() => work().await,
///     }
/// };
/// assert!(matches!(reason, Reason::Expired { .. }));
/// # Ok(()) }
/// ```
pub struct Guard {
    verifier: Verifier,
    watched: Mutex<Watched>,
    renewed: Notify,
}

/// The token of the connection.
#[derive(Clone)]
struct Watched {
    claims: Arc<AccessClaims>,
    kid: Kid,
}

/// Why a new token is refused; the connection keeps its old one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenewError {
    /// The new token is invalid, or cannot be checked.
    #[error(transparent)]
    Refused(#[from] VerifyError),
    /// The new token has another subject.
    #[error("token has another subject")]
    OtherSubject,
    /// The new token has another session, or none.
    #[error("token has another session")]
    OtherSession,
}

impl Guard {
    pub(crate) fn new(verifier: Verifier, claims: Arc<AccessClaims>, kid: Kid) -> Self {
        Self { verifier, watched: Mutex::new(Watched { claims, kid }), renewed: Notify::new() }
    }

    /// Waits until the connection must end, and returns why: the token has expired, its session or key was
    /// revoked, or its key was withdrawn.
    ///
    /// Returns within 50 ms after a revocation arrives in this process, and within a second after `exp` plus
    /// leeway. A jump of the clock is noticed within 5 s. An outage of the issuer does not end connections.
    ///
    /// Cancel safe: can be dropped and called again, for example in `select!`. Needs a Tokio runtime with
    /// time enabled.
    pub async fn ended(&self) -> Reason {
        let mut changes = self.verifier.parts.revoked.changes();
        loop {
            // Both before the check, so that no change in between is missed.
            let renewed = self.renewed.notified();
            changes.mark_unchanged();
            let left = match self.time_left() {
                Ok(left) => left.clamp(Duration::from_millis(1), CLOCK_INTERVAL),
                Err(reason) => return reason,
            };
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = renewed => {}
                // The sender is in `self`.
                _ = changes.changed() => match self.time_left() {
                    Ok(left) => tokio::time::sleep(left.min(BURST)).await,
                    Err(reason) => return reason,
                },
            }
        }
    }

    /// Replaces the token of the connection with `token`, which the client sent over it.
    ///
    /// The token is checked like any other, and must have the same subject and session. Its permissions may
    /// differ, so use those of the returned token from now on.
    ///
    /// # Errors
    /// The connection keeps its old token.
    pub async fn renew(&self, token: &str) -> Result<Verified, RenewError> {
        let renewed: Verified = self.verifier.verify(token).await?;
        {
            let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            if renewed.subject() != watched.claims.sub {
                return Err(RenewError::OtherSubject);
            }
            if renewed.session_id() != watched.claims.sid.as_deref() {
                return Err(RenewError::OtherSession);
            }
            *watched = Watched { claims: Arc::clone(renewed.shared()), kid: renewed.kid().clone() };
        }
        self.renewed.notify_waiters();
        Ok(renewed)
    }

    /// The time until the token expires, or why it is refused.
    fn time_left(&self) -> Result<Duration, Reason> {
        let Watched { claims, kid } = self.watched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Parts { expected, cache, revoked, clock, .. } = &*self.verifier.parts;
        expected.check_parties(&claims)?;
        expected.check_standing(&claims, &kid, &revoked.load(), clock.now())?;
        if let Ok(keys) = cache.held().usable(clock.monotonic())
            && keys.find(kid.as_str()).is_none()
        {
            return Err(Reason::UnknownKey);
        }
        let left = expected.ends_at(&claims).0.saturating_mul(1000).saturating_sub(clock.unix_millis());
        Ok(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
