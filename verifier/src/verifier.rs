//! What most users hold: expectations, keys that keep themselves current, and a clock.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

use crate::core::claims::NoExtra;
use crate::core::error::{FeedError, FetchError, Reason, VerifyError};
use crate::core::verified::Verified;
use crate::keys::cache::{Flight, Why};
use crate::parts::Parts;
use crate::status::Status;

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

impl Verifier {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::claims::AccessClaims;
    use crate::core::revocation::{SessionId, parse_session};
    use crate::core::time::{Seconds, UnixTime};
    use crate::testing::TestIssuer;
    use crate::testing::clock::ManualClock;

    const NOW: UnixTime = UnixTime(1_800_000_000);
    const SESSION: &str = "5e55109d-0001-4203-8405-06070809abff";

    fn verifier(issuer: &TestIssuer) -> Verifier {
        let clock = Arc::new(ManualClock::new(NOW));
        let builder = Verifier::builder("https://auth.example.com").audience("api").clock(clock);
        builder.static_jwks(&issuer.jwks()).token_cache(64).build().unwrap()
    }

    fn in_session(issuer: &TestIssuer) -> String {
        issuer.sign(&AccessClaims { sid: Some(SESSION.into()), ..issuer.claims(NOW) })
    }

    fn is_cached(verifier: &Verifier, token: &str) -> bool {
        let Parts { tokens, cache, .. } = &*verifier.parts;
        let held = cache.held();
        tokens.as_ref().unwrap().find(token, held.usable(Duration::ZERO).unwrap()).is_some()
    }

    fn refusal(verifier: &Verifier, token: &str) -> Option<VerifyError> {
        verifier.verify_now::<NoExtra>(token).err()
    }

    #[test]
    fn revocation_applies_to_a_cached_token() {
        let news: [(Vec<SessionId>, bool); 2] =
            [(vec![parse_session(SESSION).unwrap()], false), (vec![], true)];
        for (sessions, key) in news {
            let issuer = TestIssuer::new("https://auth.example.com", "api");
            let (verifier, token) = (verifier(&issuer), in_session(&issuer));
            assert_eq!(refusal(&verifier, &token), None);
            assert!(is_cached(&verifier, &token));
            let keys: Vec<_> = key.then(|| issuer.jwk().kid().clone()).into_iter().collect();
            verifier.parts.revoked.merge(sessions, &keys, Duration::ZERO, Duration::from_secs(600));
            let reason = if key { Reason::RevokedKey } else { Reason::RevokedSession };
            assert_eq!(refusal(&verifier, &token), Some(VerifyError::Invalid(reason)));
        }
    }

    #[test]
    fn refused_token_is_not_cached() {
        let issuer = TestIssuer::new("https://auth.example.com", "api");
        let verifier = verifier(&issuer);
        let good = in_session(&issuer);
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let flipped = if signature.starts_with('A') { "B" } else { "A" };
        let forged = format!("{signed}.{flipped}{}", &signature[1..]);
        let spoilt = |spoil: fn(&mut AccessClaims)| {
            let mut claims = issuer.claims(NOW);
            spoil(&mut claims);
            issuer.sign(&claims)
        };
        verifier.parts.revoked.merge(
            vec![parse_session(SESSION).unwrap()],
            &[],
            Duration::ZERO,
            Duration::from_secs(600),
        );
        for refused in [
            good,
            forged,
            spoilt(|claims| claims.exp = NOW - Seconds(30)),
            spoilt(|claims| claims.nbf = NOW + Seconds(31)),
            spoilt(|claims| claims.aud = vec!["other".into()]),
            spoilt(|claims| claims.iss = "https://evil.example.com".into()),
        ] {
            for _ in 0..2 {
                assert!(matches!(refusal(&verifier, &refused), Some(VerifyError::Invalid(_))));
                assert!(!is_cached(&verifier, &refused));
            }
        }
        // Custom claims of the wrong type are a refusal as well.
        let token = issuer.sign(&issuer.claims(NOW));
        assert!(verifier.verify_now::<Vec<u8>>(&token).is_err());
        assert!(!is_cached(&verifier, &token));
        assert!(verifier.verify_now::<NoExtra>(&token).is_ok());
        assert!(is_cached(&verifier, &token));
    }
}
