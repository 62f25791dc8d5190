//! Who fetches keys, when, and how long they stay trusted: a fake source and a clock that stands still.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::{AUDIENCE, ISSUER, NOW, eventually, in_time};
use tokio::sync::Semaphore;
use verifier::testing::TestIssuer;
use verifier::{
    Clock, FetchError, FetchFuture, Fetched, Jwk, JwkSet, JwksError, JwksRequest, JwksSource, ManualClock,
    Reason, Seconds, UnixTime, Verified, Verifier, VerifyError,
};

const DAY: Seconds = Seconds(24 * 3600);

/// An issuer that answers what it is told to, when it is told to.
#[derive(Debug)]
struct Fake {
    answer: Mutex<Result<Fetched, FetchError>>,
    requests: Mutex<Vec<JwksRequest>>,
    gate: Semaphore,
}

impl Fake {
    fn new(answer: Result<Fetched, FetchError>) -> Arc<Self> {
        Arc::new(Self { answer: answer.into(), requests: Mutex::default(), gate: Semaphore::new(100_000) })
    }

    fn answers(&self, answer: Result<Fetched, FetchError>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn fetches(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    fn last_request(&self) -> JwksRequest {
        self.requests.lock().unwrap().last().unwrap().clone()
    }

    fn close(&self) {
        self.gate.forget_permits(usize::MAX);
    }

    fn open(&self) {
        self.gate.add_permits(100_000);
    }
}

impl JwksSource for Fake {
    fn fetch<'a>(&'a self, request: &'a JwksRequest) -> FetchFuture<'a> {
        self.requests.lock().unwrap().push(request.clone());
        Box::pin(async {
            self.gate.acquire().await.unwrap().forget();
            self.answer.lock().unwrap().clone()
        })
    }
}

/// A verifier, its source and its clock.
struct Bench {
    source: Arc<Fake>,
    clock: Arc<ManualClock>,
    verifier: Verifier,
}

impl Bench {
    fn new(answer: Result<Fetched, FetchError>) -> Self {
        let source = Fake::new(answer);
        let clock = Arc::new(ManualClock::new(NOW));
        let verifier = verifier(&source, clock.clone());
        Self { source, clock, verifier }
    }

    /// One that has fetched `answer`.
    async fn ready(answer: Fetched) -> Self {
        let bench = Self::new(Ok(answer));
        bench.verifier.ready(Duration::from_secs(5)).await.unwrap();
        assert_eq!(bench.source.fetches(), 1);
        bench
    }

    async fn verify(&self, issuer: &TestIssuer) -> Result<(), VerifyError> {
        let token = issuer.sign(&issuer.claims(self.clock.now()));
        self.verifier.verify(&token).await.map(|_: Verified| ())
    }

    fn verify_now(&self, issuer: &TestIssuer) -> Result<(), VerifyError> {
        let token = issuer.sign(&issuer.claims(self.clock.now()));
        self.verifier.verify_now(&token).map(|_: Verified| ())
    }

    /// Makes the next scheduled fetch due, and waits for its end.
    async fn refresh(&self, issuer: &TestIssuer) {
        let before = self.source.fetches();
        self.clock.advance(Seconds(3600));
        let _ = self.verify(issuer).await;
        eventually("a scheduled fetch", || self.source.fetches() > before).await;
        self.settle().await;
    }

    /// Gives tasks that can run the time to do so.
    async fn settle(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
}

fn verifier(source: &Arc<Fake>, clock: Arc<dyn Clock>) -> Verifier {
    Verifier::builder(ISSUER).audience(AUDIENCE).source(Arc::clone(source)).clock(clock).build().unwrap()
}

fn issuer() -> TestIssuer {
    TestIssuer::new(ISSUER, AUDIENCE)
}

fn set(issuers: &[&TestIssuer], keys_version: Option<u64>) -> Fetched {
    let keys: Vec<Jwk> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    Fetched::new(serde_json::to_vec(&JwkSet { keys, keys_version }).unwrap())
}

fn with_max_age(mut answer: Fetched, max_age: i64) -> Fetched {
    answer.max_age = Some(Seconds(max_age));
    answer
}

fn unknown_key() -> VerifyError {
    VerifyError::Invalid(Reason::UnknownKey)
}

fn down() -> FetchError {
    FetchError::transport("refused")
}

#[tokio::test]
async fn concurrent_misses_fetch_once() {
    let alice = issuer();
    let bench = Arc::new(Bench::new(Ok(set(&[&alice], None))));
    bench.source.close();
    let token = alice.sign(&alice.claims(NOW));
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let (verifier, token) = (bench.verifier.clone(), token.clone());
            tokio::spawn(async move { verifier.verify(&token).await.map(|_: Verified| ()) })
        })
        .collect();
    eventually("a fetch", || bench.source.fetches() == 1).await;
    bench.settle().await;
    bench.source.open();
    for caller in callers {
        assert_eq!(in_time("an answer", caller).await.unwrap(), Ok(()));
    }
    assert_eq!(bench.source.fetches(), 1);
}

#[tokio::test]
async fn key_in_hand_needs_no_fetch() {
    let alice = issuer();
    let bench = Bench::ready(set(&[&alice], None)).await;
    bench.source.answers(Err(down()));
    for _ in 0..100 {
        assert_eq!(bench.verify(&alice).await, Ok(()));
        assert_eq!(bench.verify_now(&alice), Ok(()));
    }
    assert_eq!(bench.source.fetches(), 1);
}

#[tokio::test]
async fn unknown_key_forces_a_fetch_past_the_caches() {
    let (alice, bob) = (issuer(), issuer());
    let bench = Bench::ready(set(&[&alice], None)).await;
    bench.source.answers(Ok(set(&[&alice, &bob], None)));
    assert_eq!(bench.verify_now(&bob), Err(unknown_key()), "a sync call fetches nothing");
    assert_eq!(bench.source.fetches(), 1);
    assert_eq!(bench.verify(&bob).await, Ok(()));
    assert_eq!(bench.source.fetches(), 2);
    assert!(bench.source.last_request().no_cache);
}

#[tokio::test]
async fn unknown_keys_force_one_fetch_in_ten_seconds_whatever_comes_of_it() {
    let (alice, stranger) = (issuer(), issuer());
    let answers = [Ok(set(&[&alice], None)), Err(down()), Ok(Fetched::new("{\"keys\":[]}"))];
    for answer in answers {
        let bench = Bench::ready(set(&[&alice], None)).await;
        bench.source.answers(answer);
        for (second, fetches) in [(0, 2), (1, 2), (9, 2), (10, 3), (11, 3), (19, 3), (20, 4)] {
            bench.clock.advance(Seconds(second) - (bench.clock.now() - NOW));
            for _ in 0..20 {
                assert_eq!(bench.verify(&stranger).await, Err(unknown_key()));
                assert_eq!(bench.verify(&alice).await, Ok(()));
            }
            assert_eq!(bench.source.fetches(), fetches, "at second {second}");
        }
    }
}

#[tokio::test]
async fn fetch_that_left_too_early_is_followed_by_a_forced_one() {
    let (alice, bob) = (issuer(), issuer());
    let bench = Arc::new(Bench::new(Ok(set(&[&alice], None))));
    bench.source.close();
    let (verifier, token) = (bench.verifier.clone(), bob.sign(&bob.claims(NOW)));
    let caller = tokio::spawn(async move { verifier.verify(&token).await.map(|_: Verified| ()) });
    eventually("the first fetch", || bench.source.fetches() == 1).await;
    bench.source.gate.add_permits(1);
    eventually("the forced fetch", || bench.source.fetches() == 2).await;
    bench.source.answers(Ok(set(&[&alice, &bob], None)));
    bench.source.open();
    assert_eq!(in_time("an answer", caller).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn flood_of_unknown_keys_does_not_delay_the_scheduled_fetch() {
    let (alice, bob, stranger) = (issuer(), issuer(), issuer());
    let bench = Bench::ready(with_max_age(set(&[&alice], None), 20)).await;
    bench.source.answers(Err(down()));
    bench.clock.advance(Seconds(13));
    assert_eq!(bench.verify(&stranger).await, Err(unknown_key()));
    assert_eq!(bench.source.fetches(), 2);
    bench.source.answers(Ok(set(&[&alice, &bob], None)));
    bench.clock.advance(Seconds(5)); // due by now; only five seconds after a forced fetch that failed
    assert_eq!(bench.verify(&alice).await, Ok(()));
    eventually("the scheduled fetch", || bench.verify_now(&bob).is_ok()).await;
    assert!(!bench.source.last_request().no_cache);
}

#[tokio::test]
async fn keys_outlive_the_issuer_by_a_day_and_no_longer() {
    let alice = issuer();
    let bench = Bench::ready(set(&[&alice], None)).await;
    bench.source.answers(Err(down()));
    for _ in 0..23 {
        bench.refresh(&alice).await;
        assert_eq!(bench.verify(&alice).await, Ok(()));
    }
    bench.clock.advance(Seconds(3599));
    assert_eq!(bench.verify(&alice).await, Ok(()));
    bench.clock.advance(Seconds(1));
    assert_eq!(bench.verify(&alice).await, Err(VerifyError::Unavailable(down())));
    assert_eq!(bench.verify(&issuer()).await, Err(VerifyError::Unavailable(down())), "we cannot tell");

    bench.source.answers(Ok(set(&[&alice], None)));
    bench.clock.advance(Seconds(66));
    assert_eq!(bench.verify(&alice).await, Ok(()), "the issuer is back");
}

#[tokio::test]
async fn outage_is_not_answered_with_a_storm() {
    let (alice, stranger) = (issuer(), issuer());
    let bench = Bench::ready(with_max_age(set(&[&alice], None), 0)).await;
    bench.source.answers(Err(down()));
    for _ in 0..600 {
        bench.clock.advance(Seconds(1));
        assert_eq!(bench.verify(&alice).await, Ok(()));
        assert_eq!(bench.verify(&stranger).await, Err(unknown_key()));
        bench.settle().await;
    }
    // 60 forced ones, and as many scheduled ones at the very most.
    assert!(bench.source.fetches() <= 121, "{}", bench.source.fetches());
}

#[tokio::test]
async fn withdrawn_key_is_dropped_immediately() {
    let (alice, bob) = (issuer(), issuer());
    let bench = Bench::ready(set(&[&alice, &bob], None)).await;
    bench.source.answers(Ok(set(&[&bob], None)));
    bench.refresh(&bob).await;
    assert_eq!(bench.verify_now(&alice), Err(unknown_key()));
    assert_eq!(bench.verify_now(&bob), Ok(()));
}

#[tokio::test]
async fn older_key_set_is_refused() {
    let (alice, bob) = (issuer(), issuer());
    for older in [Some(6), None] {
        let bench = Bench::ready(set(&[&alice], Some(7))).await;
        bench.source.answers(Ok(set(&[&bob], older)));
        bench.refresh(&alice).await;
        assert_eq!(bench.verify_now(&alice), Ok(()));
        assert_eq!(bench.verify_now(&bob), Err(unknown_key()));
        bench.clock.advance(DAY);
        let error = FetchError::RolledBack { held: Some(7), offered: older };
        assert_eq!(bench.verify_now(&alice), Err(VerifyError::Unavailable(error)));
        assert_eq!(bench.verify(&bob).await, Ok(()), "nothing newer is in hand any more");
    }
    for newer in [Some(7), Some(8)] {
        let bench = Bench::ready(set(&[&alice], Some(7))).await;
        bench.source.answers(Ok(set(&[&bob], newer)));
        bench.refresh(&alice).await;
        assert_eq!(bench.verify_now(&bob), Ok(()));
    }
}

#[tokio::test]
async fn response_that_is_not_a_key_set_replaces_nothing() {
    let alice = issuer();
    let duplicate =
        serde_json::to_vec(&JwkSet { keys: vec![alice.jwk(), alice.jwk()], keys_version: None }).unwrap();
    let crowd: Vec<_> = (0..65).map(|kid| serde_json::json!({ "kid": kid.to_string() })).collect();
    let crowd = serde_json::json!({ "keys": crowd }).to_string();
    let broken: [(Vec<u8>, FetchError); 7] = [
        (b"{\"keys\":[]}".to_vec(), FetchError::NoUsableKey),
        (
            b"{\"keys\":[{\"kid\":\"a\",\"kty\":\"oct\",\"alg\":\"HS256\",\"k\":\"AA\"}]}".to_vec(),
            FetchError::NoUsableKey,
        ),
        (b"<html>".to_vec(), JwksError::Malformed.into()),
        (b"{}".to_vec(), JwksError::Malformed.into()),
        (duplicate, JwksError::DuplicateKid(alice.jwk().kid().clone()).into()),
        (crowd.into_bytes(), JwksError::TooManyKeys.into()),
        (vec![b' '; 256 * 1024 + 1], JwksError::TooLarge.into()),
    ];
    for (document, error) in broken {
        let bench = Bench::ready(set(&[&alice], None)).await;
        bench.source.answers(Ok(Fetched::new(document.clone())));
        bench.refresh(&alice).await;
        assert_eq!(bench.verify_now(&alice), Ok(()));

        let cold = Bench::new(Ok(Fetched::new(document)));
        assert_eq!(cold.verify(&alice).await, Err(VerifyError::Unavailable(error)));
    }
}

#[tokio::test]
async fn keys_are_fetched_again_ahead_of_staleness() {
    let alice = issuer();
    // Freshness: as the issuer says, at most an hour; without a word, five minutes.
    for (max_age, age, fresh) in [
        (Some(100), None, 100),
        (Some(100), Some(40), 60),
        (Some(i64::MAX), None, 3600),
        (Some(4000), Some(3000), 1000),
        (None, None, 300),
    ] {
        let mut answer = set(&[&alice], None);
        (answer.max_age, answer.age) = (max_age.map(Seconds), age.map(Seconds));
        let bench = Bench::ready(answer).await;
        bench.clock.advance(Seconds(fresh * 72 / 100 - 1));
        assert_eq!(bench.verify(&alice).await, Ok(()));
        bench.settle().await;
        assert_eq!(bench.source.fetches(), 1, "fresh for {fresh}: too early");
        bench.clock.advance(Seconds(fresh * 16 / 100 + 2));
        assert_eq!(bench.verify(&alice).await, Ok(()));
        eventually("a fetch ahead of staleness", || bench.source.fetches() == 2).await;
    }
}

#[tokio::test]
async fn max_age_of_zero_means_once_a_second() {
    let alice = issuer();
    let bench = Bench::ready(with_max_age(set(&[&alice], None), 0)).await;
    for second in 0..10 {
        for _ in 0..20 {
            assert_eq!(bench.verify(&alice).await, Ok(()));
            bench.settle().await;
        }
        assert_eq!(bench.source.fetches(), second + 1);
        bench.clock.advance(Seconds(1));
    }
}

#[tokio::test]
async fn confirmation_extends_the_life_of_the_keys() {
    let alice = issuer();
    let mut answer = set(&[&alice], None);
    answer.etag = Some("\"one\"".into());
    let bench = Bench::ready(answer).await;
    bench.source.answers(Ok(Fetched::unchanged()));
    bench.clock.advance(Seconds(20 * 3600));
    bench.refresh(&alice).await; // at hour 21
    assert_eq!(bench.source.last_request().etag.as_deref(), Some("\"one\""));
    bench.source.answers(Err(down()));
    bench.clock.advance(DAY - Seconds(1));
    assert_eq!(bench.verify_now(&alice), Ok(()));
    bench.clock.advance(Seconds(1));
    assert!(matches!(bench.verify_now(&alice), Err(VerifyError::Unavailable(_))));
}

#[tokio::test]
async fn confirmation_of_nothing_is_an_error() {
    let bench = Bench::new(Ok(Fetched::unchanged()));
    assert_eq!(bench.verify(&issuer()).await, Err(VerifyError::Unavailable(FetchError::Unexpected)));
}

#[tokio::test]
async fn without_keys_the_answer_is_unavailable_and_retries_are_spaced() {
    let alice = issuer();
    let bench = Bench::new(Err(down()));
    for _ in 0..20 {
        assert_eq!(bench.verify(&alice).await, Err(VerifyError::Unavailable(down())));
        assert_eq!(bench.verify(&issuer()).await, Err(VerifyError::Unavailable(down())));
    }
    assert_eq!(bench.source.fetches(), 1);
    bench.source.answers(Ok(set(&[&alice], None)));
    bench.clock.advance(Seconds(2));
    assert_eq!(bench.verify(&alice).await, Ok(()));
}

#[tokio::test]
async fn ready_reports_why_it_is_not() {
    let bench = Bench::new(Err(FetchError::Status(500)));
    assert_eq!(bench.verifier.ready(Duration::from_millis(300)).await, Err(FetchError::Status(500)));
}

#[tokio::test(start_paused = true)]
async fn caller_waits_two_seconds_and_the_fetch_ends_after_five() {
    let alice = issuer();
    let bench = Bench::new(Ok(set(&[&alice], None)));
    bench.source.close();
    let start = tokio::time::Instant::now();
    assert_eq!(bench.verify(&alice).await, Err(VerifyError::Unavailable(FetchError::NotFetched)));
    assert_eq!(start.elapsed().as_secs(), 2);
    tokio::time::sleep(Duration::from_millis(2900)).await;
    assert_eq!(bench.verify_now(&alice), Err(VerifyError::Unavailable(FetchError::NotFetched)));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(bench.verify_now(&alice), Err(VerifyError::Unavailable(FetchError::TimedOut)));
}

#[tokio::test(start_paused = true)]
async fn stuck_issuer_does_not_slow_tokens_whose_key_is_in_hand() {
    let (alice, stranger) = (issuer(), issuer());
    let bench = Bench::ready(with_max_age(set(&[&alice], None), 0)).await;
    bench.source.close();
    bench.clock.advance(Seconds(100));
    let start = tokio::time::Instant::now();
    assert_eq!(bench.verify(&alice).await, Ok(()));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(bench.verify(&stranger).await, Err(unknown_key()));
    assert_eq!(start.elapsed().as_secs(), 2);
}

#[tokio::test]
async fn caller_that_hangs_up_takes_nobody_elses_fetch_with_it() {
    let alice = issuer();
    let bench = Bench::new(Ok(set(&[&alice], None)));
    bench.source.close();
    let (verifier, token) = (bench.verifier.clone(), alice.sign(&alice.claims(NOW)));
    let caller = tokio::spawn(async move { verifier.verify(&token).await.map(|_: Verified| ()) });
    eventually("a fetch", || bench.source.fetches() == 1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    bench.source.open();
    eventually("keys", || bench.verify_now(&alice).is_ok()).await;
    assert_eq!(bench.source.fetches(), 1);
}

/// Follows Tokio's time, which a paused runtime moves by itself.
#[derive(Debug)]
struct RuntimeClock(tokio::time::Instant);

impl Clock for RuntimeClock {
    fn now(&self) -> UnixTime {
        NOW + Seconds(i64::try_from(self.0.elapsed().as_secs()).unwrap())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// One for the keys, and one that reports figures.
const STARTED: usize = 1 + cfg!(feature = "metrics") as usize;

fn background_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn idle_verifier_keeps_its_keys_fresh() {
    let alice = issuer();
    let source = Fake::new(Ok(with_max_age(set(&[&alice], None), 300)));
    let verifier = verifier(&source, Arc::new(RuntimeClock(tokio::time::Instant::now())));
    verifier.ready(Duration::from_secs(1)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    // Every 240 s, give or take a tenth.
    assert!((13..=18).contains(&source.fetches()), "{}", source.fetches());
    assert_eq!(background_tasks(), STARTED);
    drop(verifier);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(background_tasks(), 0);
    let fetches = source.fetches();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(source.fetches(), fetches, "the last verifier is gone");
    assert_eq!(Arc::strong_count(&source), 1);
}

#[test]
fn sync_call_outside_a_runtime_says_that_there_are_no_keys() {
    let bench = Bench::new(Ok(set(&[&issuer()], None)));
    assert_eq!(bench.verify_now(&issuer()), Err(VerifyError::Unavailable(FetchError::NotFetched)));
    assert_eq!(bench.source.fetches(), 0);
}

#[test]
fn verifier_outlives_the_runtime_it_was_first_used_in() {
    let (alice, bob) = (issuer(), issuer());
    let bench = Bench::new(Ok(set(&[&alice], None)));
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    assert_eq!(runtime().block_on(bench.verify(&alice)), Ok(()));
    bench.source.answers(Ok(set(&[&alice, &bob], None)));
    runtime().block_on(async {
        assert_eq!(bench.verify(&bob).await, Ok(()));
        eventually("a background task here as well", || background_tasks() == STARTED).await;
    });
}

#[tokio::test]
async fn jump_of_the_wall_clock_neither_freezes_nor_empties_the_cache() {
    let alice = issuer();
    let bench = Bench::ready(set(&[&alice], None)).await;
    for now in [NOW + DAY * 1000, NOW - DAY * 1000, UnixTime(0)] {
        bench.clock.set(now);
        assert_eq!(bench.verify(&alice).await, Ok(()));
    }
    assert_eq!(bench.source.fetches(), 1);
}

#[test]
fn static_keys_need_no_runtime_and_never_expire() {
    let alice = issuer();
    let clock = Arc::new(ManualClock::new(NOW));
    let builder = || Verifier::builder(ISSUER).audience(AUDIENCE).clock(clock.clone());
    let document = serde_json::to_vec(&alice.jwks()).unwrap();
    for verifier in [
        builder().static_jwks(&alice.jwks()).build().unwrap(),
        builder().static_jwks_document(document).build().unwrap(),
    ] {
        let token = alice.sign(&alice.claims(clock.now()));
        assert!(verifier.verify_now::<verifier::NoExtra>(&token).is_ok());
        clock.advance(DAY * 1000);
        let token = alice.sign(&alice.claims(clock.now()));
        assert!(verifier.verify_now::<verifier::NoExtra>(&token).is_ok());
        let stranger = issuer();
        let token = stranger.sign(&stranger.claims(clock.now()));
        assert_eq!(verifier.verify_now::<verifier::NoExtra>(&token).unwrap_err(), unknown_key());
    }
}
