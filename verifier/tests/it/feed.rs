//! Following the stream of revocations: a scripted source, and time that a paused runtime moves by itself.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::feed::{Attempts, Script, Server, claims_of, delta, event, header, pieces, signed, snapshot};
use testkit::{AUDIENCE, ISSUER, NOW, eventually};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use verifier::testing::TestIssuer;
use verifier::{
    Clock, FeedError, FeedState, FetchError, FetchFuture, Fetched, JwkSet, JwksRequest, JwksSource, NoExtra,
    Reason, Seconds, UnixTime, Verifier, VerifierBuilder, VerifyError,
};

/// Follows Tokio's time; the wall clock can be set apart from it.
#[derive(Debug)]
struct RuntimeClock {
    start: Instant,
    jump: AtomicI64,
}

impl RuntimeClock {
    fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), jump: 0.into() })
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.unix_millis().div_euclid(1000))
    }

    fn unix_millis(&self) -> i64 {
        let passed = i64::try_from(self.start.elapsed().as_millis()).unwrap();
        NOW.0 * 1000 + passed + self.jump.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Publishes the keys it is told to, when it is told to.
#[derive(Debug)]
struct Jwks {
    answer: Mutex<Result<Fetched, FetchError>>,
    requests: Mutex<Vec<(Instant, JwksRequest)>>,
    gate: Semaphore,
}

impl Jwks {
    fn of(issuers: &[&TestIssuer]) -> Arc<Self> {
        let answer = Mutex::new(Ok(keys(issuers, 1)));
        Arc::new(Self { answer, requests: Mutex::default(), gate: Semaphore::new(100_000) })
    }

    fn answers(&self, answer: Result<Fetched, FetchError>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn publishes(&self, issuers: &[&TestIssuer], keys_version: u64) {
        self.answers(Ok(keys(issuers, keys_version)));
    }

    fn fetches(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// When each fetch left, since `start`, and whether it went past the caches.
    fn requests(&self, start: Instant) -> Vec<(u64, bool)> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|(at, request)| ((*at - start).as_secs(), request.no_cache)).collect()
    }

    fn close(&self) {
        self.gate.forget_permits(usize::MAX);
    }
}

impl JwksSource for Jwks {
    fn fetch<'a>(&'a self, request: &'a JwksRequest) -> FetchFuture<'a> {
        self.requests.lock().unwrap().push((Instant::now(), request.clone()));
        // What is published when the request arrives, however late the answer is read.
        let answer = self.answer.lock().unwrap().clone();
        Box::pin(async {
            self.gate.acquire().await.unwrap().forget();
            answer
        })
    }
}

fn keys(issuers: &[&TestIssuer], keys_version: u64) -> Fetched {
    let keys = issuers.iter().map(|issuer| issuer.jwk()).collect();
    let mut fetched =
        Fetched::new(serde_json::to_vec(&JwkSet { keys, keys_version: Some(keys_version) }).unwrap());
    fetched.max_age = Some(Seconds(3600));
    fetched
}

struct Bench {
    issuer: TestIssuer,
    clock: Arc<RuntimeClock>,
    jwks: Arc<Jwks>,
    script: Arc<Script>,
    attempts: Attempts,
    verifier: Verifier,
}

impl Bench {
    fn new() -> Self {
        Self::with(|builder| builder)
    }

    fn with(describe: impl FnOnce(VerifierBuilder) -> VerifierBuilder) -> Self {
        let issuer = TestIssuer::new(ISSUER, AUDIENCE);
        let (clock, jwks, (script, attempts)) = (RuntimeClock::new(), Jwks::of(&[&issuer]), Script::new());
        let builder = Verifier::builder(ISSUER)
            .audience(AUDIENCE)
            .source(Arc::clone(&jwks))
            .feed_source(Arc::clone(&script))
            .clock(clock.clone());
        let verifier = describe(builder).build().unwrap();
        Self { issuer, clock, jwks, script, attempts, verifier }
    }

    /// One whose stream is open and has brought an empty snapshot.
    async fn live() -> (Self, Server) {
        let mut bench = Self::new();
        bench.start();
        let server = bench.serve().await;
        (bench, server)
    }

    /// Has the background tasks start.
    fn start(&self) {
        assert!(self.verify(0).is_err(), "there are no keys yet");
    }

    /// Accepts the next connection and sends an empty snapshot.
    async fn serve(&mut self) -> Server {
        let server = self.attempts.accept().await;
        server.send("snapshot", &self.snapshot([]));
        eventually("a live stream", || self.verifier.status().feed.state == FeedState::Live).await;
        server
    }

    fn snapshot(&self, revoked: impl IntoIterator<Item = u64>) -> String {
        let mut claims = snapshot(self.clock.now(), revoked);
        claims["as_of"] = self.clock.unix_millis().into();
        signed(&self.issuer, &claims)
    }

    /// A delta that continues whatever went before.
    fn delta(&self, revoked: impl IntoIterator<Item = u64>) -> String {
        signed(&self.issuer, &delta(0, self.clock.unix_millis(), revoked))
    }

    fn verify(&self, number: u64) -> Result<(), VerifyError> {
        let token = self.issuer.sign(&claims_of(&self.issuer, number, self.clock.now()));
        self.verifier.verify_now::<NoExtra>(&token).map(drop)
    }

    fn is_revoked(&self, number: u64) -> bool {
        self.verify(number) == Err(VerifyError::Invalid(Reason::RevokedSession))
    }

    fn losses(&self) -> u64 {
        self.verifier.status().feed.losses
    }

    fn last_error(&self) -> Option<FeedError> {
        self.verifier.status().feed.last_error
    }
}

/// Gives tasks that can run the time to do so; the clock stands still.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

#[tokio::test(start_paused = true)]
async fn session_is_refused_as_soon_as_the_stream_says_so() {
    let (bench, server) = Bench::live().await;
    assert_eq!(bench.verify(1), Ok(()));
    server.send("delta", &bench.delta([1]));
    settle().await;
    assert!(bench.is_revoked(1));
    assert_eq!(bench.verify(2), Ok(()));
    server.send("snapshot", &bench.snapshot([2]));
    settle().await;
    assert!(bench.is_revoked(1) && bench.is_revoked(2));
    assert_eq!(bench.verifier.status().feed.sessions, 2);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_stream_open() {
    let (bench, server) = Bench::live().await;
    for _ in 0..1800 {
        sleep(seconds(2)).await;
        server.send("delta", &bench.delta([]));
    }
    settle().await;
    assert_eq!(bench.script.attempts().len(), 1);
    assert_eq!(bench.losses(), 0);
    assert_eq!(bench.verifier.status().feed.staleness, Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn lost_stream_is_back_within_a_second_and_nothing_is_forgotten() {
    let (mut bench, server) = Bench::live().await;
    server.send("delta", &bench.delta([1]));
    sleep(seconds(11)).await; // silent from second 5 on; the next stream is a good one
    let server = {
        drop(server);
        bench.serve().await
    };
    for _ in 0..6 {
        sleep(seconds(2)).await;
        server.send("delta", &bench.delta([]));
    }
    settle().await;
    let before = bench.losses();
    let lost_at = Instant::now();
    drop(server);
    settle().await;
    assert_eq!(bench.last_error(), Some(FeedError::Ended));
    assert_eq!(bench.losses(), before + 1);
    assert_eq!(bench.verifier.status().feed.state, FeedState::Disconnected { lasting: Duration::ZERO });
    assert!(bench.is_revoked(1));
    let _server = bench.serve().await;
    assert!(lost_at.elapsed() < seconds(1), "{:?}", lost_at.elapsed());
    assert_eq!(bench.last_error(), None);
    assert!(bench.is_revoked(1));
}

#[tokio::test(start_paused = true)]
async fn issuer_that_refuses_is_asked_ever_less_often() {
    let mut bench = Bench::new();
    bench.start();
    let start = Instant::now();
    while start.elapsed() < seconds(600) {
        bench.attempts.next().await.refuse(FeedError::Status(503));
    }
    let attempts = bench.script.attempts();
    let gaps: Vec<Duration> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap <= seconds(8) + Duration::from_millis(2)), "{gaps:?}");
    assert!(gaps[0] <= Duration::from_millis(502), "{gaps:?}");
    // On average every 4 s.
    assert!((75..300).contains(&attempts.len()), "{}", attempts.len());
    assert_eq!(bench.last_error(), Some(FeedError::Status(503)));
    assert_eq!(bench.verifier.status().feed.state, FeedState::Connecting);
    assert_eq!(bench.verify(1), Ok(()), "by default nothing is refused for that");
}

#[tokio::test(start_paused = true)]
async fn stream_that_ends_after_each_snapshot_is_reopened_with_back_off() {
    let mut bench = Bench::new();
    bench.start();
    let start = Instant::now();
    while start.elapsed() < seconds(600) {
        let server = bench.attempts.accept().await;
        server.send("snapshot", &bench.snapshot([1]));
        server.send("snapshot", "nonsense");
        server.closed().await;
    }
    assert!((75..300).contains(&bench.script.attempts().len()), "{}", bench.script.attempts().len());
    assert!(bench.is_revoked(1));
}

/// Each replica of a rolling restart ends the streams that it has; the next one may be restarted soon, too.
#[tokio::test(start_paused = true)]
async fn streams_that_end_early_are_reopened_without_back_off_until_there_are_too_many() {
    let mut bench = Bench::new();
    bench.start();
    for _ in 0..40 {
        let server = bench.attempts.accept().await;
        server.send("snapshot", &bench.snapshot([1]));
        sleep(seconds(1)).await;
        if bench.script.attempts().len().is_multiple_of(2) {
            server.fail(FeedError::transport("reset"));
        }
        drop(server);
    }
    let attempts = bench.script.attempts();
    let pauses = attempts.windows(2).map(|pair| pair[1] - (pair[0] + seconds(1)));
    let (early, late): (Vec<_>, Vec<_>) = pauses.enumerate().partition(|(number, _)| *number < 6);
    assert!(early.iter().all(|(_, pause)| *pause <= Duration::from_millis(502)), "{early:?}");
    let late: Duration = late.iter().map(|(_, pause)| *pause).sum();
    // On average 4 s; each costs a snapshot.
    assert!(late > seconds(60), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn attempt_that_is_not_answered_ends_after_five_seconds() {
    let mut bench = Bench::new();
    bench.start();
    let _unanswered = bench.attempts.next().await;
    sleep(Duration::from_millis(4990)).await;
    assert_eq!(bench.losses(), 0);
    sleep(Duration::from_millis(20)).await;
    assert_eq!((bench.losses(), bench.last_error()), (1, Some(FeedError::TimedOut)));
}

#[tokio::test(start_paused = true)]
async fn nothing_but_a_verified_document_counts_as_a_heartbeat() {
    let stranger = TestIssuer::new(ISSUER, AUDIENCE);
    let thief = signed(&stranger, &snapshot(NOW, [7]));
    let fillers = [
        ("nothing", Vec::new()),
        ("comments", b": keep-alive\n\n".to_vec()),
        ("a comment without end", b":".to_vec()),
        ("a document without end", b"x".to_vec()),
        ("unknown events", event("ping", "x")),
        ("changed key set", event("jwks", "1")),
        ("documents of a revoked key", event("delta", &thief)),
    ];
    for (what, bytes) in fillers {
        let mut bench = Bench::new();
        bench.start();
        let server = bench.attempts.accept().await;
        let mut claims = snapshot(NOW, []);
        claims["kids"] = json!([stranger.jwk().kid()]);
        server.send("snapshot", &signed(&bench.issuer, &claims));
        if what == "a document without end" {
            server.send_bytes("event: delta\ndata: ");
        }
        settle().await;
        let heard_at = Instant::now();
        while !server.is_closed() {
            assert!(heard_at.elapsed() < seconds(6), "{what}");
            if !bytes.is_empty() {
                server.send_bytes(bytes.clone());
            }
            sleep(Duration::from_millis(10)).await;
        }
        assert!(heard_at.elapsed() >= Duration::from_millis(4990), "{what}: {:?}", heard_at.elapsed());
        settle().await;
        assert_eq!((bench.losses(), bench.last_error()), (1, Some(FeedError::Silent)), "{what}");
        assert_eq!(bench.verifier.status().feed.sessions, 0, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn large_document_may_take_its_time_and_a_slow_drip_may_not() {
    for (bytes_per_second, arrives) in [(200_000, true), (100_000, false)] {
        let (bench, server) = Bench::live().await;
        let document = event("snapshot", &bench.snapshot(0..100_000)); // 2.8 MB
        let start = Instant::now();
        let size = bytes_per_second / 10;
        for piece in pieces(&document, vec![size; document.len() / size]) {
            server.send_bytes(piece);
            sleep(Duration::from_millis(100)).await;
            if server.is_closed() {
                break;
            }
        }
        if arrives {
            eventually("all sessions", || bench.verifier.status().feed.sessions == 100_000).await;
            assert!(bench.is_revoked(0) && bench.is_revoked(99_999) && !bench.is_revoked(100_000));
            assert_eq!(bench.losses(), 0);
        } else {
            settle().await;
            assert_eq!(bench.last_error(), Some(FeedError::Silent));
            assert!(start.elapsed() < seconds(27), "{:?}", start.elapsed());
            assert_eq!(bench.verifier.status().feed.sessions, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn stalled_stream_is_replaced_less_and_less_often() {
    let mut bench = Bench::new();
    bench.start();
    let document = bench.snapshot([1]);
    let mut lives = Vec::new();
    for _ in 0..7 {
        let server = bench.attempts.accept().await;
        let start = Instant::now();
        while !server.is_closed() {
            server.send("snapshot", &document);
            sleep(seconds(2)).await;
        }
        lives.push(start.elapsed().as_secs());
        assert_eq!(bench.last_error(), Some(FeedError::StandsStill));
    }
    // The first document advanced: the timeout counts from the second stream on.
    for (life, timeout) in lives.iter().zip([15, 15, 30, 60, 120, 240, 240]) {
        assert!((timeout..=timeout + 2).contains(life), "{lives:?}");
    }
    let _server = bench.serve().await;
    assert!(bench.is_revoked(1));
}

#[tokio::test(start_paused = true)]
async fn gap_leads_to_a_new_stream_and_its_revocations_count() {
    let (mut bench, server) = Bench::live().await;
    sleep(seconds(1)).await;
    let now = bench.clock.unix_millis();
    server.send("delta", &signed(&bench.issuer, &delta(now - 500, now, [1])));
    server.closed().await;
    settle().await;
    assert_eq!((bench.losses(), bench.last_error()), (1, Some(FeedError::Gap)));
    assert!(bench.is_revoked(1));
    assert!(bench.verifier.status().feed.staleness >= Some(seconds(1)));
    let _server = bench.serve().await;
    assert!(bench.verifier.status().feed.staleness < Some(Duration::from_millis(10)));
}

#[tokio::test(start_paused = true)]
async fn delta_must_continue_the_same_stream_whatever_another_replica_sent() {
    let (mut bench, server) = Bench::live().await;
    let now = bench.clock.unix_millis();
    // The clock of this replica is ahead, of the next one it is not.
    server.send("delta", &signed(&bench.issuer, &delta(now, now + 3000, [])));
    drop(server);
    let server = bench.serve().await;
    // One from `now` to `now + 1000` was lost on the way.
    server.send("delta", &signed(&bench.issuer, &delta(now + 1000, now + 2000, [2])));
    server.closed().await;
    settle().await;
    assert_eq!(bench.last_error(), Some(FeedError::Gap));
    assert!(bench.is_revoked(2));
}

#[tokio::test(start_paused = true)]
async fn stream_that_makes_no_sense_changes_nothing_and_is_counted() {
    let issuer = TestIssuer::new(ISSUER, AUDIENCE);
    let stranger = TestIssuer::new(ISSUER, AUDIENCE);
    let good = |revoked: u64| snapshot(NOW, [revoked]);
    let set = |name: &str, value: Value| {
        let mut claims = good(9);
        claims[name] = value;
        signed(&issuer, &claims)
    };
    let forged = stranger.sign_bytes(header(&issuer).to_string(), good(9).to_string());
    let flipped = {
        let document = signed(&issuer, &good(9));
        let (start, end) = document.split_at(200);
        format!("{start}{}{}", if end.starts_with('A') { 'B' } else { 'A' }, &end[1..])
    };
    let refused = FeedError::Document;
    let future = NOW + Seconds(1000);
    let cases: Vec<(Vec<u8>, FeedError)> = vec![
        (event("delta", &forged), refused(Reason::BadSignature)),
        (event("delta", &flipped), refused(Reason::BadSignature)),
        (event("delta", &issuer.sign(&issuer.claims(NOW))), refused(Reason::WrongType)),
        (event("delta", &set("iss", "https://other.example".into())), refused(Reason::WrongIssuer)),
        (
            event("delta", &set("iat", future.0.into())),
            refused(Reason::IssuedInFuture { iat: future, now: NOW }),
        ),
        (event("delta", &set("sids", "A".into())), refused(Reason::BadClaim("sids"))),
        (event("delta", "{}"), refused(Reason::NotJws)),
        (event("delta", ""), refused(Reason::NotJws)),
        (b"data: \xff\n\n".to_vec(), FeedError::BadEvent),
        (event("jwks", "-1"), FeedError::BadEvent),
        (event("jwks", "soon"), FeedError::BadEvent),
        (event("delta", &"x".repeat((16 << 20) + 1)), FeedError::TooLarge),
        (vec![b':'; 17 << 20], FeedError::TooLarge),
        (vec![b'x'; 17 << 20], FeedError::TooLarge),
    ];
    for (bytes, error) in cases {
        let mut bench = Bench::new();
        bench.jwks.publishes(&[&issuer], 1);
        bench.start();
        let server = bench.attempts.accept().await;
        server.send("snapshot", &signed(&issuer, &good(1)));
        settle().await;
        let before = bench.verifier.status().feed;
        assert_eq!((before.state, before.sessions, before.losses), (FeedState::Live, 1, 0), "{error}");
        for piece in pieces(&bytes, vec![65_536; bytes.len() / 65_536]) {
            server.send_bytes(piece);
        }
        server.send("snapshot", &signed(&issuer, &good(2)));
        eventually("the end of the stream", || bench.losses() == 1).await;
        let after = bench.verifier.status().feed;
        assert!(server.is_closed());
        assert_eq!((after.last_error, after.sessions), (Some(error), 1), "what follows is not read");
        let server = bench.attempts.accept().await;
        server.send("snapshot", &signed(&issuer, &good(3)));
        eventually("another stream", || bench.verifier.status().feed.sessions == 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn document_cut_at_any_byte_is_the_same_document() {
    let (bench, server) = Bench::live().await;
    let bytes = [event("delta", &bench.delta([1])), event("delta", &bench.delta([2]))].concat();
    for byte in &bytes {
        server.send_bytes([*byte]);
    }
    settle().await;
    eventually("both", || bench.verifier.status().feed.sessions == 2).await;
    assert_eq!(bench.losses(), 0);
}

#[tokio::test(start_paused = true)]
async fn failing_connection_says_why() {
    let (bench, server) = Bench::live().await;
    server.fail(FeedError::transport("connection reset"));
    settle().await;
    assert_eq!(bench.last_error(), Some(FeedError::transport("connection reset")));
}

#[tokio::test(start_paused = true)]
async fn good_tokens_are_refused_once_staleness_exceeds_the_limit_if_so_configured() {
    let mut bench = Bench::with(|builder| builder.deny_when_stale(Seconds(10)));
    let stale = |staleness: Option<i64>| {
        let staleness = staleness.map(Seconds);
        Err(VerifyError::Unavailable(FetchError::StaleRevocations { staleness, limit: Seconds(10) }))
    };
    let verifier = bench.verifier.clone();
    let ready = tokio::spawn(async move { verifier.ready(seconds(60)).await });
    let attempt = bench.attempts.next().await;
    eventually("keys", || bench.verifier.status().keys.count == 1).await;
    assert_eq!(bench.verify(1), stale(None), "nothing was heard yet");
    sleep(seconds(1)).await;
    assert!(!ready.is_finished());
    let server = attempt.accept();
    server.send("snapshot", &bench.snapshot([2]));
    assert_eq!(ready.await.unwrap(), Ok(()));
    let as_of = bench.clock.unix_millis();
    server.send("snapshot", &bench.snapshot([2]));
    settle().await;
    assert_eq!(bench.verify(1), Ok(()));

    for (after, expected) in
        [(9_999, Ok(())), (10_000, Ok(())), (10_001, stale(Some(11))), (12_000, stale(Some(12)))]
    {
        let wait = as_of + after - bench.clock.unix_millis();
        sleep(Duration::from_millis(wait.unsigned_abs())).await;
        assert_eq!(bench.verify(1), expected, "{after} ms");
    }
    assert!(bench.is_revoked(2), "a token that is bad in any case is called so");
    let error = bench.verify(1).unwrap_err();
    assert_eq!((error.status().as_u16(), error.label()), (503, "stale_revocations"));
    assert_eq!((error.code(), error.retry_after()), ("unavailable", Some(Seconds(2))));

    let token = bench.issuer.sign(&claims_of(&bench.issuer, 1, bench.clock.now()));
    let (before, fetches) = (Instant::now(), bench.jwks.fetches());
    assert_eq!(bench.verifier.verify::<NoExtra>(&token).await.map(drop), stale(Some(12)));
    assert_eq!((before.elapsed(), bench.jwks.fetches()), (Duration::ZERO, fetches), "no key could help");

    let _server = bench.serve().await;
    assert_eq!(bench.verify(1), Ok(()));
    bench.clock.jump.store(3_600_000, Ordering::SeqCst);
    assert!(
        matches!(bench.verify(1), Err(VerifyError::Unavailable(_))),
        "staleness is one of the wall clock"
    );
}

#[tokio::test(start_paused = true)]
async fn ready_does_not_wait_for_the_feed_unless_staleness_is_denied() {
    let bench = Bench::new();
    assert_eq!(bench.verifier.ready(seconds(1)).await, Ok(()));
    let strict = Bench::with(|builder| builder.deny_when_stale(Seconds(10)));
    let error = FetchError::StaleRevocations { staleness: None, limit: Seconds(10) };
    assert_eq!(strict.verifier.ready(seconds(1)).await, Err(error));
}

#[tokio::test(start_paused = true)]
async fn nobody_connects_before_there_are_keys() {
    let mut bench = Bench::new();
    bench.jwks.answers(Err(FetchError::Status(503)));
    bench.start();
    sleep(seconds(60)).await;
    assert!(bench.attempts.is_idle());
    bench.jwks.publishes(&[&bench.issuer], 1);
    let _server = bench.serve().await;
}

#[tokio::test(start_paused = true)]
async fn document_of_an_unknown_key_is_read_again_after_a_fetch() {
    let (bench, server) = Bench::live().await;
    let successor = TestIssuer::new(ISSUER, AUDIENCE);
    bench.jwks.publishes(&[&bench.issuer, &successor], 2);
    let start = Instant::now();
    server.send("delta", &signed(&successor, &delta(0, bench.clock.unix_millis(), [1])));
    eventually("the delta", || bench.is_revoked(1)).await;
    assert!(start.elapsed() < Duration::from_millis(10));
    assert_eq!(bench.jwks.requests(start), [(0, false), (0, true)]);
    assert_eq!(bench.losses(), 0);
}

#[tokio::test(start_paused = true)]
async fn document_of_a_key_that_nobody_publishes_ends_the_stream() {
    let mut bench = Bench::new();
    bench.start();
    let stranger = TestIssuer::new(ISSUER, AUDIENCE);
    let start = Instant::now();
    while start.elapsed() < seconds(60) {
        let server = bench.serve().await;
        server.send("delta", &signed(&stranger, &snapshot(NOW, [1])));
        server.closed().await;
        settle().await;
        assert_eq!(bench.last_error(), Some(FeedError::Document(Reason::UnknownKey)));
    }
    assert!(!bench.is_revoked(1));
    let fetches = bench.jwks.requests(start);
    assert!(fetches.windows(2).all(|pair| pair[0].0 < pair[1].0 || !pair[0].1), "once a second: {fetches:?}");
    assert!(u64::try_from(fetches.len()).unwrap() <= bench.losses() + 1, "{fetches:?}");
}

#[tokio::test(start_paused = true)]
async fn changed_key_set_is_fetched_immediately_past_caches_and_cooldown() {
    let (bench, server) = Bench::live().await;
    let (start, successor) = (Instant::now(), TestIssuer::new(ISSUER, AUDIENCE));
    let token = successor.sign(&successor.claims(NOW));
    assert!(bench.verifier.verify::<NoExtra>(&token).await.is_err());
    assert!(bench.verifier.status().keys.is_cooling_down);
    assert_eq!(bench.jwks.fetches(), 2);

    bench.jwks.publishes(&[&bench.issuer, &successor], 2);
    server.send("jwks", "2");
    settle().await;
    assert_eq!(bench.jwks.requests(start), [(0, false), (0, true), (0, true)]);
    assert!(bench.verifier.verify_now::<NoExtra>(&token).is_ok());
    assert_eq!(bench.verifier.status().keys.keys_version, Some(2));

    server.send("jwks", "2");
    server.send("jwks", "1");
    settle().await;
    assert_eq!(bench.jwks.fetches(), 3, "that set is in hand");
}

#[tokio::test(start_paused = true)]
async fn flood_of_changes_fetches_once_a_second() {
    let (bench, server) = Bench::live().await;
    let start = Instant::now();
    for beat in 0..1000 {
        server.send("jwks", "99");
        if beat % 100 == 0 {
            server.send("delta", &bench.delta([]));
        }
        sleep(Duration::from_millis(10)).await;
    }
    let fetches = bench.jwks.fetches();
    assert!((9..=12).contains(&fetches), "{fetches} in {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn fetch_that_began_before_the_change_is_followed_by_another() {
    let (bench, server) = Bench::live().await;
    let successor = TestIssuer::new(ISSUER, AUDIENCE);
    // A forced fetch leaves, and is answered with the old set.
    bench.jwks.close();
    let (verifier, token) = (bench.verifier.clone(), successor.sign(&successor.claims(NOW)));
    let caller = tokio::spawn(async move { verifier.verify::<NoExtra>(&token).await.map(drop) });
    settle().await;
    assert_eq!(bench.jwks.fetches(), 2);
    // Now the set changes.
    bench.jwks.publishes(&[&bench.issuer, &successor], 2);
    server.send("jwks", "2");
    server.send("delta", &signed(&successor, &delta(0, bench.clock.unix_millis(), [1])));
    settle().await;
    assert_eq!(bench.jwks.fetches(), 2, "never two at a time");
    bench.jwks.gate.add_permits(100);
    eventually("the new set", || bench.verifier.status().keys.keys_version == Some(2)).await;
    assert_eq!(bench.jwks.fetches(), 3);
    eventually("the delta", || bench.is_revoked(1)).await;
    assert_eq!(bench.losses(), 0);
    assert_eq!(caller.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn change_whose_fetch_fails_is_fetched_again() {
    let (bench, server) = Bench::live().await;
    bench.jwks.answers(Err(FetchError::Status(503)));
    let start = Instant::now();
    server.send("jwks", "2");
    settle().await;
    assert_eq!(bench.jwks.fetches(), 2);
    bench.jwks.publishes(&[&bench.issuer], 2);
    for _ in 0..6 {
        sleep(seconds(2)).await;
        server.send("delta", &bench.delta([]));
    }
    settle().await;
    assert_eq!(bench.verifier.status().keys.keys_version, Some(2), "{:?}", bench.jwks.requests(start));
}

#[tokio::test(start_paused = true)]
async fn issuer_without_a_feed_is_asked_again_after_five_minutes() {
    let mut bench = Bench::new();
    bench.start();
    bench.attempts.next().await.refuse(FeedError::NoFeed);
    settle().await;
    let feed = bench.verifier.status().feed;
    assert_eq!((feed.state, feed.last_error), (FeedState::Off, Some(FeedError::NoFeed)));
    assert_eq!(bench.verify(1), Ok(()));
    let start = Instant::now();
    let _server = bench.serve().await;
    assert!((269..=331).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn feed_that_was_heard_and_is_not_found_later_is_lost_like_any_other() {
    let (mut bench, server) = Bench::live().await;
    let lost_at = Instant::now();
    drop(server);
    for _ in 0..3 {
        bench.attempts.next().await.refuse(FeedError::NoFeed);
    }
    settle().await;
    let feed = bench.verifier.status().feed;
    assert!(matches!(feed.state, FeedState::Disconnected { .. }), "{feed:?}");
    assert_eq!(feed.last_error, Some(FeedError::Status(404)));
    let _server = bench.serve().await;
    assert!(lost_at.elapsed() < seconds(8), "{:?}", lost_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn sessions_are_forgotten_while_nothing_else_happens() {
    let (bench, server) = Bench::live().await;
    server.send("delta", &bench.delta(0..100));
    settle().await;
    for second in (0..600).step_by(2) {
        // Kept for 430 s, rounded up to a minute, and dropped within another.
        let sessions = bench.verifier.status().feed.sessions;
        assert!(second > 430 || sessions == 100, "{sessions} at {second}");
        assert!(second < 550 || sessions == 0, "{sessions} at {second}");
        sleep(seconds(2)).await;
        server.send("delta", &bench.delta([]));
    }
    assert_eq!(bench.losses(), 0);
}

#[tokio::test(start_paused = true)]
async fn last_verifier_takes_the_background_tasks_with_it() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (bench, server) = Bench::live().await;
    // One for the keys, one for the feed, and one that reports figures.
    let started = 2 + usize::from(cfg!(feature = "metrics"));
    assert_eq!(tasks(), started);
    let clone = bench.verifier.clone();
    drop(bench.verifier);
    settle().await;
    assert_eq!(tasks(), started);
    drop(clone);
    server.closed().await;
    settle().await;
    assert_eq!(tasks(), 0);
    assert_eq!(Arc::strong_count(&bench.script), 1);
    assert_eq!(Arc::strong_count(&bench.jwks), 1);
    sleep(seconds(600)).await;
    assert_eq!(bench.script.attempts().len(), 1);
}

/// Writes down what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("verifier")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                write!(self.0, " {field}={value:?}").unwrap();
            }
        }
        let mut fields = Fields(event.metadata().level().to_string());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn log_tells_each_change_once_and_no_document() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let told = || -> Vec<String> {
        let mut lines = std::mem::take(&mut *log.0.lock().unwrap());
        lines.retain(|line| line.starts_with("INFO") || line.starts_with("WARN"));
        lines
    };
    let mut bench = Bench::new();
    bench.start();
    for _ in 0..20 {
        bench.attempts.next().await.refuse(FeedError::Status(503));
    }
    settle().await;
    let away = "revocation feed is unavailable; revocations received before stay in effect";
    assert_eq!(told(), [format!("WARN message={away} error=issuer responded with status 503")]);

    let server = bench.serve().await;
    server.send("delta", &bench.delta([1]));
    settle().await;
    assert_eq!(told(), ["INFO message=revocation feed is connected"]);

    server.send("delta", "eyJ0.eyJjYW5hcnki.c2ln");
    settle().await;
    let _unanswered = bench.attempts.next().await;
    sleep(seconds(6)).await;
    let lines = told();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with(&format!("WARN message={away} error=document refused: ")), "{lines:?}");
    assert!(!lines[0].contains("eyJ"), "{lines:?}");

    let _server = bench.serve().await;
    let lines = told();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("INFO message=revocation feed is back lasted="), "{lines:?}");
}

#[test]
fn feed_is_followed_again_in_another_runtime() {
    let issuer = TestIssuer::new(ISSUER, AUDIENCE);
    let (script, mut attempts) = Script::new();
    let clock = Arc::new(verifier::ManualClock::new(NOW));
    let verifier = Verifier::builder(ISSUER)
        .audience(AUDIENCE)
        .static_jwks(&issuer.jwks())
        .feed_source(Arc::clone(&script))
        .clock(clock)
        .build()
        .unwrap();
    let token = issuer.sign(&claims_of(&issuer, 1, NOW));
    for number in 1..3 {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.unwrap().block_on(async {
            let _ = verifier.verify_now::<NoExtra>(&token);
            let server = attempts.accept().await;
            server.send("snapshot", &signed(&issuer, &snapshot(NOW, [number])));
            let heard = usize::try_from(number).unwrap();
            eventually("a snapshot", || verifier.status().feed.sessions == heard).await;
        });
    }
    assert!(verifier.verify_now::<NoExtra>(&token).is_err());
}
