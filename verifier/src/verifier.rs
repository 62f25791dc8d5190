//! The verifier of one issuer: expectations, keys and revocations that are kept current, and a clock.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

use crate::core::claims::NoExtra;
use crate::core::error::{FeedError, FetchError, Reason, VerifyError};
use crate::core::verified::Verified;
use crate::keys::schedule::{Fetch, Why};
use crate::parts::Parts;
use crate::status::Status;

/// How long a call waits for keys.
const WAIT_FOR_KEYS: Duration = Duration::from_secs(2);
/// The polling interval of `ready`.
const READY_INTERVAL: Duration = Duration::from_millis(100);

/// Checks the access tokens of one issuer, and keeps its keys and revocations current.
///
/// Clones share everything and are cheap. A background task fetches keys before they are needed, and another
/// one follows the revocation feed. Both start with the first call inside a Tokio runtime (with time enabled)
/// and end when the last clone is dropped. While the issuer is unavailable, the last keys are used for up to
/// 24 h.
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

    /// The issuer of the tokens that this verifier accepts.
    pub fn issuer(&self) -> &str {
        self.parts.expected.issuer()
    }

    /// Checks `token`. Does not wait if its key is in the key set.
    ///
    /// A token with an unknown `kid`, and any token before the first key set has arrived, waits up to 2 s for
    /// a fetch. A flood of made-up key ids causes one fetch in 10 s; other tokens with unknown keys are
    /// refused immediately.
    ///
    /// # Errors
    /// [`VerifyError::Invalid`]: the token is invalid. [`VerifyError::Unavailable`]: the token cannot be
    /// checked; try again later.
    pub async fn verify<C: DeserializeOwned>(&self, token: &str) -> Result<Verified<C>, VerifyError> {
        self.keep_current();
        let result = self.check_or_wait(token).await;
        #[cfg(feature = "metrics")]
        self.parts.outcomes.count(&result);
        result
    }

    /// Checks `token` with the current keys. Never waits or fetches, so it can be called outside async code.
    /// Call [`ready`](Self::ready) once before.
    ///
    /// ```
    /// use verifier::testing::TestIssuer;
    /// use verifier::{NoExtra, Reason, VerifyError};
    ///
    /// let issuer = TestIssuer::new("https://auth.example.com", "orders-api");
    /// let verifier = issuer.verifier().build()?;
    /// assert_eq!(verifier.verify_now::<NoExtra>(&issuer.token().sign())?.subject(), "alice");
    /// let refused = verifier.verify_now::<NoExtra>(&issuer.token().bad_signature().sign());
    /// assert_eq!(refused.unwrap_err(), VerifyError::Invalid(Reason::BadSignature));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn verify_now<C: DeserializeOwned>(&self, token: &str) -> Result<Verified<C>, VerifyError> {
        self.keep_current();
        let result = self.check(token);
        #[cfg(feature = "metrics")]
        self.parts.outcomes.count(&result);
        result
    }

    /// Waits until there are keys, for example at start-up; with
    /// [`deny_when_stale`](crate::VerifierBuilder::deny_when_stale) also until the feed has sent a document.
    /// Not needed before [`verify`](Self::verify).
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
        self.keep_current();
        let wait = async {
            parts.cache.wait_for_keys().await?;
            while parts.is_ready().is_err() {
                tokio::time::sleep(READY_INTERVAL).await;
            }
            Ok(())
        };
        tokio::time::timeout(timeout, wait).await.unwrap_or_else(|_| parts.is_ready())
    }

    /// The state of keys, revocations and feed. Does no I/O.
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

    /// Adds the revocations of a document that did not come from the feed: the body of `GET /v1/revocations`,
    /// from a cache or a message bus. It is checked like a document of the feed. Calling this again with the
    /// same document changes nothing. Does not fetch.
    ///
    /// # Errors
    /// [`FeedError::Document`]: a check failed, and nothing was added. [`FeedError::Gap`]: the document is a
    /// delta, with `since`. Its revocations were added, but outside a stream nothing shows whether an earlier
    /// delta is missing, so [`staleness`](crate::FeedStatus::staleness) does not change.
    pub fn merge_revocations(&self, document: &str) -> Result<(), FeedError> {
        self.parts.feed.merge(document)
    }

    /// Starts the background tasks unless they are running, if called inside a runtime.
    fn keep_current(&self) {
        self.parts.keep_current();
        #[cfg(feature = "metrics")]
        self.parts.reporter.start(|| crate::metrics::report(Arc::downgrade(&self.parts)));
    }

    /// Checks `token`, and waits for keys if they could change the answer.
    async fn check_or_wait<C: DeserializeOwned>(&self, token: &str) -> Result<Verified<C>, VerifyError> {
        let Parts { cache, clock, .. } = &*self.parts;
        cache.fetch_if_due(clock.monotonic());
        let result = self.check(token);
        let Some(why) = why_fetch(&result) else { return result };
        let Ok(Some(fetch)) = cache.begin(why, clock.monotonic()) else { return result };
        // After the timeout, the current keys decide.
        let _ = tokio::time::timeout(WAIT_FOR_KEYS, self.wait_for_key(token, fetch)).await;
        self.check(token)
    }

    fn check<C: DeserializeOwned>(&self, token: &str) -> Result<Verified<C>, VerifyError> {
        let verified = self.check_token(token)?;
        // After the check of the token: an invalid one is reported as invalid.
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

    /// Waits for `fetch`, and for a second one if the first began before the key of the token was published.
    async fn wait_for_key(&self, token: &str, fetch: Fetch) {
        fetch.ended().await;
        let Some(why) = why_fetch(&self.check::<NoExtra>(token)) else { return };
        if let Some(request) = self.parts.cache.pending_refresh() {
            return self.parts.cache.refreshed(request).await;
        }
        if let Ok(Some(fetch)) = self.parts.cache.begin(why, self.parts.clock.monotonic()) {
            fetch.ended().await;
        }
    }
}

/// Why a fetch could change this result; `None` if it could not.
fn why_fetch<C>(result: &Result<Verified<C>, VerifyError>) -> Option<Why> {
    match result {
        // New keys do not help; the feed is followed in any case.
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
        let cases: [(Vec<SessionId>, bool); 2] =
            [(vec![parse_session(SESSION).unwrap()], false), (vec![], true)];
        for (sessions, key) in cases {
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
