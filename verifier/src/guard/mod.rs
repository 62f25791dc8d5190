//! Watches over what outlives a request: a WebSocket or an event stream must end with its token.

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

/// However long a token has left, the clock is looked at this often, since it may jump.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// After news about others, the next ones are awaited for so long: a burst of revocations must not wake every
/// connection for each of them.
const GATHER: Duration = Duration::from_millis(50);

impl Verifier {
    /// Watches over a connection that `verified` opened.
    ///
    /// Use the verifier that checked the token: with another one, the guard has ended before it began.
    /// In axum, take a [`Guard`] as an argument of the handler.
    pub fn guard<C>(&self, verified: &Verified<C>) -> Guard {
        Guard::new(self.clone(), Arc::clone(verified.shared()), verified.kid().clone())
    }
}

/// Tells when a connection must end: as soon as its token would be refused if it were shown now.
///
/// All methods take `&self`, so one task may wait for the end while another one renews. Guards are made for
/// tens of thousands of connections: each costs one timer and one place in a list of those who hear of
/// revocations.
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

/// The token that the connection lives on.
#[derive(Clone)]
struct Watched {
    claims: Arc<AccessClaims>,
    kid: Kid,
}

/// Why a connection goes on with the token it had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenewError {
    /// The new token is bad, or cannot be checked.
    #[error(transparent)]
    Refused(#[from] VerifyError),
    /// The new token speaks for somebody else.
    #[error("token is of another subject")]
    OtherSubject,
    /// The new token belongs to another session, or to none.
    #[error("token is of another session")]
    OtherSession,
}

impl Guard {
    pub(crate) fn new(verifier: Verifier, claims: Arc<AccessClaims>, kid: Kid) -> Self {
        Self { verifier, watched: Mutex::new(Watched { claims, kid }), renewed: Notify::new() }
    }

    /// Waits for the end, and says what a client would hear that showed the token now: it has expired, its
    /// session or its key was revoked, or its key was withdrawn.
    ///
    /// A revocation ends it within 50 ms of being known here, `exp` plus leeway to the second. A jump of the
    /// clock is noticed within 5 s. That the issuer cannot be reached ends nothing.
    ///
    /// May be dropped and called again, in `select!` for instance. Needs a Tokio runtime with time enabled.
    pub async fn ended(&self) -> Reason {
        let mut news = self.verifier.parts.revoked.changes();
        loop {
            // Both before looking, so that nothing that happens meanwhile is missed.
            let renewed = self.renewed.notified();
            news.mark_unchanged();
            let left = match self.look() {
                Ok(left) => left.clamp(Duration::from_millis(1), LOOK_INTERVAL),
                Err(reason) => return reason,
            };
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = renewed => {}
                // The sender is in `self`.
                _ = news.changed() => match self.look() {
                    Ok(left) => tokio::time::sleep(left.min(GATHER)).await,
                    Err(reason) => return reason,
                },
            }
        }
    }

    /// Goes on with `token`, sent by the client over the open connection, and returns what it says.
    ///
    /// The token is checked like any other, and must be of the same subject and session. Its permissions may
    /// differ: whoever acts on permissions goes by the one returned.
    ///
    /// # Errors
    /// Nothing has changed then: the connection lives on the token it had.
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

    /// How long the token has left, or why it has nothing left.
    fn look(&self) -> Result<Duration, Reason> {
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
