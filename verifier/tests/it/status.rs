//! What a verifier says about itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::{AUDIENCE, ISSUER, NOW, eventually};
use verifier::testing::TestIssuer;
use verifier::{
    FeedState, FetchError, FetchFuture, Fetched, JwkSet, JwksRequest, JwksSource, KeysState, ManualClock,
    NoExtra, Seconds, Verifier, VerifierBuilder,
};

#[derive(Debug)]
struct Fake(Mutex<Result<Fetched, FetchError>>);

impl JwksSource for Fake {
    fn fetch<'a>(&'a self, _: &'a JwksRequest) -> FetchFuture<'a> {
        let answer = self.0.lock().unwrap().clone();
        Box::pin(async { answer })
    }
}

struct Bench {
    issuer: TestIssuer,
    source: Arc<Fake>,
    clock: Arc<ManualClock>,
    verifier: Verifier,
}

impl Bench {
    fn new(describe: impl FnOnce(VerifierBuilder) -> VerifierBuilder) -> Self {
        let issuer = TestIssuer::new(ISSUER, AUDIENCE);
        let jwks = JwkSet { keys: vec![issuer.jwk()], keys_version: Some(7) };
        let mut answer = Fetched::new(serde_json::to_vec(&jwks).unwrap());
        answer.max_age = Some(Seconds(300));
        let (source, clock) = (Arc::new(Fake(Mutex::new(Ok(answer)))), Arc::new(ManualClock::new(NOW)));
        let builder = Verifier::builder(ISSUER).audience(AUDIENCE).source(Arc::clone(&source));
        let verifier = describe(builder.clock(clock.clone())).build().unwrap();
        Self { issuer, source, clock, verifier }
    }

    /// Fetches `answer` from now on.
    fn answers(&self, answer: Result<Fetched, FetchError>) {
        *self.source.0.lock().unwrap() = answer;
    }

    fn state(&self) -> KeysState {
        self.verifier.status().keys.state
    }

    fn is_accepted(&self) -> bool {
        let token = self.issuer.sign(&self.issuer.claims(verifier::Clock::now(&*self.clock)));
        self.verifier.verify_now::<NoExtra>(&token).is_ok()
    }
}

#[tokio::test]
async fn keys_are_none_then_fresh_then_stale_then_expired() {
    let bench = Bench::new(|builder| builder);
    let keys = bench.verifier.status().keys;
    assert_eq!((keys.state, keys.count, keys.age, keys.keys_version), (KeysState::None, 0, None, None));
    bench.verifier.ready(Duration::from_secs(5)).await.unwrap();
    let keys = bench.verifier.status().keys;
    assert_eq!((keys.state, keys.count, keys.keys_version), (KeysState::Fresh, 1, Some(7)));
    assert_eq!((keys.age, keys.last_error, keys.is_cooling_down), (Some(Duration::ZERO), None, false));

    bench.answers(Err(FetchError::Status(503)));
    for (passed, state) in [
        (299, KeysState::Fresh),
        (300, KeysState::Stale),
        (86_399, KeysState::Stale),
        (86_400, KeysState::Expired),
    ] {
        bench.clock.advance(NOW + Seconds(passed) - verifier::Clock::now(&*bench.clock));
        let keys = bench.verifier.status().keys;
        assert_eq!((keys.state, keys.age), (state, Some(Duration::from_secs(passed.unsigned_abs()))));
        assert_eq!(bench.is_accepted(), state.is_usable(), "at {passed}");
    }
    let token = bench.issuer.sign(&bench.issuer.claims(NOW));
    assert!(bench.verifier.verify::<NoExtra>(&token).await.is_err());
    eventually("a failed fetch", || bench.verifier.status().keys.last_error.is_some()).await;
    assert_eq!(bench.verifier.status().keys.last_error, Some(FetchError::Status(503)));
}

#[tokio::test]
async fn keys_are_used_for_as_long_as_was_allowed() {
    // Asked for, and given: from a minute, or the freshness, to seven days.
    for (asked, given) in [(-1, 300), (0, 300), (300, 300), (301, 301), (3600, 3600), (604_801, 604_800)] {
        let bench = Bench::new(|builder| builder.allow_stale_for(Seconds(asked)));
        bench.verifier.ready(Duration::from_secs(5)).await.unwrap();
        bench.answers(Err(FetchError::Status(503)));
        bench.clock.advance(Seconds(given - 1));
        assert!(bench.is_accepted(), "{asked}");
        bench.clock.advance(Seconds(1));
        assert!(!bench.is_accepted(), "{asked}");
        assert_eq!(bench.state(), KeysState::Expired);
    }
}

#[tokio::test]
async fn cooldown_of_unknown_keys_is_shown_while_it_lasts() {
    let bench = Bench::new(|builder| builder);
    bench.verifier.ready(Duration::from_secs(5)).await.unwrap();
    let stranger = TestIssuer::new(ISSUER, AUDIENCE);
    let token = stranger.sign(&stranger.claims(NOW));
    assert!(bench.verifier.verify::<NoExtra>(&token).await.is_err());
    for (second, is_cooling_down) in [(0, true), (9, true), (10, false)] {
        bench.clock.advance(NOW + Seconds(second) - verifier::Clock::now(&*bench.clock));
        assert_eq!(bench.verifier.status().keys.is_cooling_down, is_cooling_down, "at {second}");
    }
}

#[test]
fn fixed_keys_have_no_age_and_no_feed() {
    let bench = Bench::new(|builder| builder);
    let fixed =
        Verifier::builder(ISSUER).audience(AUDIENCE).static_jwks(&bench.issuer.jwks()).build().unwrap();
    let status = fixed.status();
    assert_eq!((status.keys.state, status.keys.count, status.keys.age), (KeysState::Fixed, 1, None));
    assert!(status.keys.state.is_usable());
    assert_eq!((status.feed.state, status.feed.staleness), (FeedState::Off, None));
}
