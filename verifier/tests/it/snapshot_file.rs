//! A process that starts while its issuer is away, with what another one saved before it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use testkit::feed::{Script, claims_of, signed, snapshot};
use testkit::{AUDIENCE, ISSUER, NOW, eventually};
use tokio::time::Instant;
use verifier::testing::TestIssuer;
use verifier::{
    FeedError, FeedState, FetchError, FetchFuture, Fetched, JwkSet, JwksRequest, JwksSource, KeysState,
    ManualClock, NoExtra, Reason, Seconds, UnixTime, Verifier, VerifierBuilder, VerifyError,
};

const DAY: Seconds = Seconds(24 * 3600);

/// An issuer that answers with one key set, or not at all.
#[derive(Debug, Default)]
struct Source {
    answer: Mutex<Option<Fetched>>,
    requests: Mutex<Vec<JwksRequest>>,
}

impl Source {
    fn away() -> Arc<Self> {
        Arc::default()
    }

    fn with(answer: Fetched) -> Arc<Self> {
        Arc::new(Self { answer: Some(answer).into(), requests: Mutex::default() })
    }
}

impl JwksSource for Source {
    fn fetch<'a>(&'a self, request: &'a JwksRequest) -> FetchFuture<'a> {
        self.requests.lock().unwrap().push(request.clone());
        let answer = self.answer.lock().unwrap().clone();
        Box::pin(async move { answer.ok_or_else(|| FetchError::transport("connection refused")) })
    }
}

/// A machine whose processes come and go, with a file that stays.
struct Machine {
    folder: TempDir,
    issuer: TestIssuer,
    clock: Arc<ManualClock>,
}

impl Machine {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            issuer: TestIssuer::new(ISSUER, AUDIENCE),
            clock: Arc::new(ManualClock::new(NOW)),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("auth.json")
    }

    fn key_set(&self, keys_version: u64) -> Fetched {
        let jwks = JwkSet { keys_version: Some(keys_version), ..self.issuer.jwks() };
        let mut answer = Fetched::new(serde_json::to_vec(&jwks).unwrap());
        answer.etag = Some(format!("\"{keys_version}\""));
        answer
    }

    /// A process that starts when the wall clock shows `now`; its monotonic clock starts at zero.
    fn process(&self, source: &Arc<Source>, now: UnixTime) -> VerifierBuilder {
        self.issuer_process(ISSUER, source, now)
    }

    fn issuer_process(&self, issuer: &str, source: &Arc<Source>, now: UnixTime) -> VerifierBuilder {
        let clock = Arc::new(ManualClock::new(now));
        let builder = Verifier::builder(issuer).audience(AUDIENCE).source(Arc::clone(source)).clock(clock);
        builder.snapshot_file(self.file())
    }

    /// The first process: fetches the key set, hears that session 1 is over, and saves both.
    async fn save(&self) {
        let source = Source::with(self.key_set(7));
        let builder = self.process(&source, NOW).clock(self.clock.clone());
        let verifier = builder.build().unwrap();
        verifier.ready(Duration::from_secs(5)).await.unwrap();
        verifier.merge_revocations(&signed(&self.issuer, &snapshot(NOW, [1]))).unwrap();
        let is_saved = || {
            let text = fs::read_to_string(self.file()).unwrap_or_default();
            // The id comes first; 15 of its bytes are whole letters.
            text.contains(&testkit::feed::sids([1])[..20])
        };
        eventually("the file holds keys and revocations", is_saved).await;
    }

    fn token(&self, session: u64, now: UnixTime) -> String {
        self.issuer.sign(&claims_of(&self.issuer, session, now))
    }
}

fn check(verifier: &Verifier, token: &str) -> Result<(), VerifyError> {
    verifier.verify_now::<NoExtra>(token).map(drop)
}

fn is_unavailable(verifier: &Verifier, token: &str) -> bool {
    matches!(check(verifier, token), Err(VerifyError::Unavailable(_)))
}

#[tokio::test(start_paused = true)]
async fn cold_start_without_the_issuer_checks_tokens_and_knows_revoked_sessions() {
    let machine = Machine::new();
    machine.save().await;
    assert_eq!(fs::metadata(machine.file()).unwrap().permissions().mode() & 0o777, 0o600);

    let now = NOW + Seconds(400);
    let verifier = machine.process(&Source::away(), now).build().unwrap();
    assert_eq!(check(&verifier, &machine.token(2, now)), Ok(()));
    let refused = check(&verifier, &machine.token(1, now));
    assert_eq!(refused, Err(VerifyError::Invalid(Reason::RevokedSession)));
    let status = verifier.status().keys;
    assert_eq!((status.state, status.count, status.keys_version), (KeysState::Stale, 1, Some(7)));
    assert_eq!(status.age, Some(Seconds(400).into()));
}

#[tokio::test(start_paused = true)]
async fn saved_keys_are_used_for_a_day_from_their_confirmation_and_no_longer() {
    let machine = Machine::new();
    machine.save().await;
    for (age, is_usable) in [(DAY - Seconds(1), true), (DAY, false), (DAY + Seconds(1), false)] {
        let verifier = machine.process(&Source::away(), NOW + age).build().unwrap();
        assert_eq!(!is_unavailable(&verifier, &machine.token(2, NOW + age)), is_usable, "{age:?}");
    }
    // And not for another day after the start either.
    let start = NOW + DAY - Seconds(2);
    let clock = Arc::new(ManualClock::new(start));
    let verifier = machine.process(&Source::away(), start).clock(clock.clone()).build().unwrap();
    for is_usable in [true, true, false] {
        let token = machine.token(2, verifier::Clock::now(&*clock));
        assert_eq!(!is_unavailable(&verifier, &token), is_usable);
        clock.advance(Seconds(1));
    }
}

#[tokio::test(start_paused = true)]
async fn saving_makes_nothing_younger() {
    let machine = Machine::new();
    machine.save().await;
    // Each process lives for a third of a day without the issuer, and saves what it has.
    for third in 1..3 {
        let now = NOW + DAY / 3 * third;
        // A replaced file has another inode.
        let inode = || fs::metadata(machine.file()).unwrap().ino();
        let before = inode();
        let verifier = machine.process(&Source::away(), now).build().unwrap();
        assert_eq!(verifier.verify::<NoExtra>(&machine.token(2, now)).await.map(drop), Ok(()));
        eventually("the file is written again", || inode() != before).await;
    }
    let verifier = machine.process(&Source::away(), NOW + DAY).build().unwrap();
    assert!(is_unavailable(&verifier, &machine.token(2, NOW + DAY)));
}

#[tokio::test(start_paused = true)]
async fn saved_keys_are_fetched_again_immediately_and_cannot_be_rolled_back() {
    let machine = Machine::new();
    machine.save().await;
    let source = Source::with(machine.key_set(6));
    let verifier = machine.process(&source, NOW).build().unwrap();
    assert_eq!(verifier.verify::<NoExtra>(&machine.token(2, NOW)).await.map(drop), Ok(()));
    eventually("the older set is refused", || {
        matches!(verifier.status().keys.last_error, Some(FetchError::RolledBack { .. }))
    })
    .await;
    assert_eq!(source.requests.lock().unwrap()[0].etag.as_deref(), Some("\"7\""));
    assert_eq!(verifier.status().keys.keys_version, Some(7));
}

#[tokio::test(start_paused = true)]
async fn revocations_are_as_stale_as_they_were() {
    let machine = Machine::new();
    machine.save().await;
    for (age, is_denied) in [(60, false), (61, true)] {
        let now = NOW + Seconds(age);
        let (script, _attempts) = Script::new();
        let builder = machine.process(&Source::away(), now).feed_source(script);
        let verifier = builder.deny_when_stale(Seconds(60)).build().unwrap();
        assert_eq!(is_unavailable(&verifier, &machine.token(2, now)), is_denied, "{age}");
        assert_eq!(verifier.status().feed.staleness, Some(Seconds(age).into()));
    }
}

#[tokio::test(start_paused = true)]
async fn session_leaves_at_its_time_however_often_the_process_restarts() {
    let machine = Machine::new();
    machine.save().await;
    // It is kept for 430 s, rounded up to a whole minute.
    for age in (0..=600).step_by(60) {
        let now = NOW + Seconds(age);
        let inode = || fs::metadata(machine.file()).unwrap().ino();
        let before = inode();
        let verifier = machine.process(&Source::away(), now).build().unwrap();
        assert_eq!(verifier.status().feed.sessions, usize::from(age < 480), "at {age}");
        let _ = verifier.verify::<NoExtra>(&machine.token(2, now)).await;
        eventually("the file is written again", || inode() != before).await;
    }
}

#[tokio::test(start_paused = true)]
async fn feed_that_another_process_received_is_retried_without_delay() {
    let machine = Machine::new();
    machine.save().await;
    let (script, mut attempts) = Script::new();
    let verifier = machine.process(&Source::away(), NOW).feed_source(script).build().unwrap();
    assert_eq!(check(&verifier, &machine.token(2, NOW)), Ok(()));
    attempts.next().await.refuse(FeedError::NoFeed);
    let refused_at = Instant::now();
    attempts.next().await;
    assert!(refused_at.elapsed() < Duration::from_secs(1), "{:?}", refused_at.elapsed());
    let feed = verifier.status().feed;
    assert_eq!((feed.state, feed.last_error), (FeedState::Connecting, Some(FeedError::Status(404))));
}

#[tokio::test(start_paused = true)]
async fn clock_that_was_set_back_makes_the_saved_keys_unusable_and_keeps_the_revocations() {
    let machine = Machine::new();
    machine.save().await;
    let now = NOW - Seconds(3600);
    let verifier = machine.process(&Source::away(), now).build().unwrap();
    assert!(is_unavailable(&verifier, &machine.token(2, now)));
    assert_eq!(verifier.status().feed.sessions, 1);
    assert_eq!(verifier.status().feed.staleness, None);
}

#[tokio::test(start_paused = true)]
async fn file_that_cannot_be_used_is_as_good_as_none() {
    let machine = Machine::new();
    machine.save().await;
    let good = fs::read(machine.file()).unwrap();
    let starts = |issuer: &str| {
        let verifier = machine.issuer_process(issuer, &Source::away(), NOW).build().unwrap();
        check(&verifier, &machine.token(2, NOW))
    };
    assert_eq!(starts(ISSUER), Ok(()));
    assert!(matches!(starts("https://auth.example.org"), Err(VerifyError::Unavailable(_))));
    fs::write(machine.file(), &good[..good.len() / 2]).unwrap();
    assert!(matches!(starts(ISSUER), Err(VerifyError::Unavailable(_))));
    fs::write(machine.file(), &good).unwrap();
    fs::set_permissions(machine.file(), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(starts(ISSUER), Err(VerifyError::Unavailable(_))));
    fs::set_permissions(machine.file(), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(starts(ISSUER), Ok(()));
}
