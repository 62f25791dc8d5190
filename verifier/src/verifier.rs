//! What most users hold: expectations, keys that keep themselves current, and a clock.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

use crate::builder::VerifierBuilder;
use crate::cache::{Flight, JwksCache, Why};
use crate::claims::NoExtra;
use crate::error::{FeedError, FetchError, Reason, VerifyError};
use crate::feed::Feed;
use crate::revocation::Revoked;
use crate::snapshot::Keeper;
use crate::status::Status;
use crate::time::{Clock, Seconds};
use crate::token_cache::TokenCache;
use crate::verify::{Expected, Verified};

/// How long a caller waits for keys.
const WAIT_FOR_KEYS: Duration = Duration::from_secs(2);
/// How often `ready` looks whether the feed has been heard.
const READY_INTERVAL: Duration = Duration::from_millis(100);

/// Checks the access tokens of one issuer, and keeps that issuer's keys current.
///
/// Clones share everything and are cheap. A background task fetches keys ahead of need; it starts with the
/// first call inside a Tokio runtime (with time enabled) and ends when the last clone is dropped, as does a
/// second one that follows the revocation feed. When the issuer cannot be reached, the keys in hand are used for
/// up to 24 h.
///
/// ```
/// use verifier::{Verified, Verifier};
/// # use verifier::testing::TestIssuer;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let issuer = TestIssuer::new("https://auth.example.com", "orders-api");
/// # let jwks = issuer.jwks();
/// # let bearer = issuer.sign(&issuer.claims(verifier::Clock::now(&verifier::SystemClock::new())));
/// let verifier = Verifier::builder("https://auth.example.com")
///     .audience("orders-api")
/// #   .static_jwks(&jwks)
///     .build()?;
/// let token: Verified = verifier.verify(&bearer).await?;
/// assert_eq!(token.subject(), "alice");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Verifier {
    pub(crate) parts: Arc<Parts>,
}

#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) expected: Expected,
    pub(crate) cache: Arc<JwksCache>,
    pub(crate) revoked: Arc<Revoked>,
    pub(crate) feed: Feed,
    pub(crate) deny_when_stale: Option<Seconds>,
    pub(crate) tokens: Option<TokenCache>,
    pub(crate) snapshot: Option<Keeper>,
    #[cfg(feature = "metrics")]
    pub(crate) outcomes: crate::metrics::Outcomes,
    #[cfg(feature = "metrics")]
    pub(crate) reporter: crate::background::Background,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Verifier {
    /// Starts to describe a verifier for the tokens of `issuer`, compared as an exact string with `iss`.
    pub fn builder(issuer: impl Into<String>) -> VerifierBuilder {
        VerifierBuilder::new(issuer.into())
    }

    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// The issuer whose tokens are checked.
    pub fn issuer(&self) -> &str {
        self.parts.expected.issuer()
    }

    /// Checks `token`. Does not wait while its key is in hand.
    ///
    /// A token with an unknown `kid`, and any token before the first key set has arrived, waits up to 2 s for
    /// a fetch. A flood of made-up names leads to one fetch in 10 s; the rest is refused at once.
    ///
    /// # Errors
    /// [`VerifyError::Invalid`]: the token is bad. [`VerifyError::Unavailable`]: there are no keys to tell by; try
    /// again later.
    pub async fn verify<C: DeserializeOwned>(&self, token: &str) -> Result<Verified<C>, VerifyError> {
        self.tend();
        let answer = self.check_with_patience(token).await;
        #[cfg(feature = "metrics")]
        self.parts.outcomes.count(&answer);
        answer
    }

    /// Checks `token` with the keys in hand. Never waits and never fetches, so it can be called anywhere;
    /// call [`ready`](Self::ready) once before.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn verify_now<C: DeserializeOwned>(&self, token: &str) -> Result<Verified<C>, VerifyError> {
        self.tend();
        let answer = self.check(token);
        #[cfg(feature = "metrics")]
        self.parts.outcomes.count(&answer);
        answer
    }

    /// Waits until there are keys, for a gate at start-up; with
    /// [`deny_when_stale`](VerifierBuilder::deny_when_stale) also until the feed has been heard. Not needed
    /// before [`verify`](Self::verify).
    ///
    /// # Errors
    /// After `timeout`, why the last attempt failed.
    pub async fn ready(&self, timeout: Duration) -> Result<(), FetchError> {
        let parts = &*self.parts;
        if Handle::try_current().is_err() {
            return parts.is_ready().map_err(|error| match error {
                FetchError::StaleRevocations { .. } => error,
                _ => FetchError::NoRuntime,
            });
        }
        self.tend();
        let wait = async {
            parts.cache.keys().await?;
            while parts.is_ready().is_err() {
                tokio::time::sleep(READY_INTERVAL).await;
            }
            Ok(())
        };
        tokio::time::timeout(timeout, wait).await.unwrap_or_else(|_| parts.is_ready())
    }

    /// How the verifier is doing: its keys, and what it knows about revocations. Does no I/O.
    ///
    /// ```
    /// use verifier::{FeedState, Verifier};
    ///
    /// # let jwks = verifier::testing::TestIssuer::new("https://auth.example.com", "orders-api").jwks();
    /// let verifier = Verifier::builder("https://auth.example.com")
    ///     .audience("orders-api")
    ///     .static_jwks(&jwks)
    ///     .build()?;
    /// let status = verifier.status();
    /// assert!(status.keys.state.is_usable());
    /// assert_eq!(status.feed.state, FeedState::Off, "static keys have no feed unless one is given");
    /// # Ok::<(), verifier::BuildError>(())
    /// ```
    pub fn status(&self) -> Status {
        self.parts.status()
    }

    /// Takes in a revocation document that came some other way than by the feed: the body of
    /// `GET /v1/revocations`, from a cache or a message bus. It is checked like one of the feed, and only ever adds
    /// to what is known. Does not fetch.
    ///
    /// # Errors
    /// [`FeedError::Document`] says which check failed; nothing was taken in. [`FeedError::Gap`]: this is a delta,
    /// one with `since`. It was taken in, but whether anything is missing before it cannot be told outside a stream, so
    /// [`staleness`](crate::FeedStatus::staleness) stays what it was.
    pub fn merge_revocations(&self, document: &str) -> Result<(), FeedError> {
        self.parts.feed.hear(document)
    }

    /// Keeps everything current in the background from now on, if called inside a runtime.
    fn tend(&self) {
        self.parts.tend();
        #[cfg(feature = "metrics")]
        self.parts.reporter.start(|| crate::metrics::report(Arc::downgrade(&self.parts)));
    }

    /// Checks `token`, and waits for keys if they could change the answer.
    async fn check_with_patience<C: DeserializeOwned>(
        &self,
        token: &str,
    ) -> Result<Verified<C>, VerifyError> {
        let Parts { cache, clock, .. } = &*self.parts;
        cache.touch(clock.monotonic());
        let answer = self.check(token);
        let Some(why) = what_is_missing(&answer) else { return answer };
        let Ok(Some(flight)) = cache.begin(why, clock.monotonic()) else { return answer };
        // Having waited long enough is not an answer; the keys in hand then are.
        let _ = tokio::time::timeout(WAIT_FOR_KEYS, self.wait_for_key(token, flight)).await;
        self.check(token)
    }

    fn check<C: DeserializeOwned>(&self, token: &str) -> Result<Verified<C>, VerifyError> {
        let verified = self.check_token(token)?;
        // A token that is bad in any case is called so.
        self.parts.check_staleness()?;
        Ok(verified)
    }

    fn check_token<C: DeserializeOwned>(&self, token: &str) -> Result<Verified<C>, VerifyError> {
        let Parts { expected, cache, revoked, tokens, clock, .. } = &*self.parts;
        let held = cache.held();
        let keys = held.usable(clock.monotonic())?;
        let (revoked, now) = (revoked.load(), clock.now());
        let Some(tokens) = tokens else { return expected.check(token, keys, &revoked, now) };
        if let Some(known) = tokens.find(token, keys).as_ref().and_then(|found| found.as_ref()) {
            return expected.check_known(known, &revoked, now);
        }
        let verified = expected.check(token, keys, &revoked, now)?;
        if let Some(key) = keys.find(verified.kid().as_str()) {
            tokens.insert(token, verified.shared(), key);
        }
        Ok(verified)
    }

    /// Waits for `flight`, and for a second one if the first had left before the token's key was published.
    async fn wait_for_key(&self, token: &str, flight: Flight) {
        flight.landed().await;
        let Some(why) = what_is_missing(&self.check::<NoExtra>(token)) else { return };
        if let Some(nudge) = self.parts.cache.open_nudge() {
            return self.parts.cache.answer_to(nudge).await;
        }
        if let Ok(Some(flight)) = self.parts.cache.begin(why, self.parts.clock.monotonic()) {
            flight.landed().await;
        }
    }
}

impl Parts {
    pub(crate) fn status(&self) -> Status {
        Status { keys: self.cache.status(), feed: self.feed.status() }
    }

    fn tend(&self) {
        self.cache.tend();
        self.feed.tend();
        if let Some(snapshot) = &self.snapshot {
            snapshot.tend();
        }
    }

    /// Refuses to tell anything while revocations are not known as well as was asked for.
    pub(crate) fn check_staleness(&self) -> Result<(), FetchError> {
        let Some(limit) = self.deny_when_stale else { return Ok(()) };
        let staleness = self.revoked.staleness(self.clock.unix_millis());
        match staleness {
            Some(millis) if millis <= limit.0.max(0).saturating_mul(1000) => Ok(()),
            _ => {
                let staleness =
                    staleness.map(|millis| Seconds(millis.unsigned_abs().div_ceil(1000).cast_signed()));
                Err(FetchError::StaleRevocations { staleness, limit })
            }
        }
    }

    fn is_ready(&self) -> Result<(), FetchError> {
        self.cache.held().usable(self.clock.monotonic())?;
        self.check_staleness()
    }
}

/// Why a fetch could change this answer, if it could.
fn what_is_missing<C>(answer: &Result<Verified<C>, VerifyError>) -> Option<Why> {
    match answer {
        // Keys do not help; the feed is being listened to in any case.
        Err(VerifyError::Unavailable(FetchError::StaleRevocations { .. })) => None,
        Err(VerifyError::Unavailable(_)) => Some(Why::Due),
        Err(VerifyError::Invalid(Reason::UnknownKey)) => Some(Why::UnknownKey),
        _ => None,
    }
}
