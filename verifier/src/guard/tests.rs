//! When a guard ends, and when it does not.

use std::pin::pin;

use super::*;
use crate::core::jwk::JwkSet;
use crate::core::revocation::{SessionId, parse_session};
use crate::core::time::{Seconds, UnixTime};
use crate::keys::source::{FetchFuture, Fetched, JwksRequest, JwksSource};
use crate::testing::TestIssuer;
use crate::testing::clock::ManualClock;

const NOW: UnixTime = UnixTime(1_800_000_000);
const SESSION: &str = "5e55109d-0001-4203-8405-06070809abff";
const OTHER: &str = "5e55109d-0002-4203-8405-06070809abff";
const MINUTE: Duration = Duration::from_secs(60);

struct Bench {
    issuer: TestIssuer,
    clock: Arc<ManualClock>,
    verifier: Verifier,
}

impl Bench {
    fn new() -> Self {
        let issuer = TestIssuer::new("https://auth.example.com", "api");
        let clock = Arc::new(ManualClock::new(NOW));
        let builder = Verifier::builder("https://auth.example.com").audience("api").clock(clock.clone());
        let verifier = builder.static_jwks(&issuer.jwks()).build().unwrap();
        Self { issuer, clock, verifier }
    }

    fn claims(&self) -> AccessClaims {
        AccessClaims { sid: Some(SESSION.into()), ..self.issuer.claims(NOW) }
    }

    fn sign(&self, spoil: impl FnOnce(&mut AccessClaims)) -> String {
        let mut claims = self.claims();
        spoil(&mut claims);
        self.issuer.sign(&claims)
    }

    fn guard(&self) -> Guard {
        let verified: Verified = self.verifier.verify_now(&self.sign(|_| ())).unwrap();
        self.verifier.guard(&verified)
    }

    fn revoke(&self, sessions: &[&str], keys: &[Kid]) {
        let sessions: Vec<SessionId> = sessions.iter().map(|sid| parse_session(sid).unwrap()).collect();
        self.verifier.parts.revoked.merge(sessions, keys, Duration::ZERO, MINUTE * 10);
    }
}

/// Whether the guard has not ended after this much of the runtime's time.
async fn lasts_for(guard: &Guard, time: Duration) -> bool {
    tokio::time::timeout(time, guard.ended()).await.is_err()
}

/// How long it took until the guard ended.
async fn time_to_end(guard: &Guard) -> (Reason, Duration) {
    let start = tokio::time::Instant::now();
    let reason = tokio::time::timeout(MINUTE * 60, guard.ended()).await.unwrap();
    (reason, start.elapsed())
}

fn expired(now: UnixTime) -> Reason {
    Reason::Expired { exp: NOW + Seconds(300), now }
}

#[tokio::test(start_paused = true)]
async fn ends_when_the_clock_reaches_exp_plus_leeway() {
    let bench = Bench::new();
    let guard = bench.guard();
    bench.clock.advance(Seconds(329));
    assert!(lasts_for(&guard, MINUTE).await);
    bench.clock.advance(Seconds(1));
    let (reason, after) = time_to_end(&guard).await;
    assert_eq!((reason, after), (expired(NOW + Seconds(330)), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn jump_of_the_clock_is_noticed_while_waiting() {
    let bench = Bench::new();
    let guard = bench.guard();
    let mut ended = pin!(time_to_end(&guard));
    assert!(tokio::time::timeout(MINUTE, &mut ended).await.is_err());
    bench.clock.set(NOW + Seconds(330));
    let (reason, after) = ended.await;
    assert_eq!(reason, expired(NOW + Seconds(330)));
    assert!((MINUTE..=MINUTE + CLOCK_INTERVAL).contains(&after), "{after:?}");
}

/// Follows the runtime's time, which moves by itself.
#[derive(Debug)]
struct RuntimeClock(tokio::time::Instant);

impl crate::core::time::Clock for RuntimeClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.unix_millis().div_euclid(1000))
    }

    fn unix_millis(&self) -> i64 {
        NOW.0 * 1000 + i64::try_from(self.0.elapsed().as_millis()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn waits_exactly_as_long_as_the_token_lives() {
    let bench = Bench::new();
    let clock = Arc::new(RuntimeClock(tokio::time::Instant::now()));
    let builder = Verifier::builder("https://auth.example.com").audience("api").clock(clock);
    let verifier = builder.static_jwks(&bench.issuer.jwks()).build().unwrap();
    let user: Verified = verifier.verify_now(&bench.sign(|_| ())).unwrap();
    tokio::time::sleep(Duration::from_millis(1250)).await;
    let (reason, after) = time_to_end(&verifier.guard(&user)).await;
    assert_eq!(reason, expired(NOW + Seconds(330)));
    assert!(after.abs_diff(Duration::from_millis(330_000 - 1250)) <= Duration::from_millis(2), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn revocation_ends_it_immediately_and_others_do_not() {
    for by_key in [false, true] {
        let bench = Bench::new();
        let guard = bench.guard();
        let mut ended = pin!(time_to_end(&guard));
        bench.revoke(&[OTHER], &["other".into()]);
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut ended).await.is_err());
        let reason = if by_key {
            bench.revoke(&[], &[bench.issuer.jwk().kid().clone()]);
            Reason::RevokedKey
        } else {
            bench.revoke(&[SESSION], &[]);
            Reason::RevokedSession
        };
        assert_eq!(ended.await, (reason, Duration::from_secs(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn revocation_within_a_burst_is_not_lost() {
    let bench = Bench::new();
    let guard = bench.guard();
    let mut ended = pin!(time_to_end(&guard));
    assert!(tokio::time::timeout(Duration::from_millis(10), &mut ended).await.is_err());
    bench.revoke(&[OTHER], &[]);
    assert!(tokio::time::timeout(Duration::from_millis(10), &mut ended).await.is_err());
    bench.revoke(&[SESSION], &[]);
    let (reason, after) = ended.await;
    assert_eq!(reason, Reason::RevokedSession);
    assert!(after <= Duration::from_millis(10) + BURST + Duration::from_millis(2), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn revocation_before_the_wait_ends_it_as_well() {
    let bench = Bench::new();
    let guard = bench.guard();
    bench.revoke(&[SESSION], &[]);
    assert_eq!(time_to_end(&guard).await, (Reason::RevokedSession, Duration::ZERO));
    assert_eq!(time_to_end(&guard).await, (Reason::RevokedSession, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn renewal_extends_a_wait_that_has_begun() {
    let bench = Bench::new();
    let guard = bench.guard();
    let mut ended = pin!(guard.ended());
    assert!(tokio::time::timeout(MINUTE, &mut ended).await.is_err());
    bench.clock.advance(Seconds(200));
    let token = bench.sign(|claims| {
        claims.exp = NOW + Seconds(500);
        claims.scope = "more".into();
    });
    assert!(guard.renew(&token).await.unwrap().has_permission("more"));
    bench.clock.advance(Seconds(200));
    assert!(tokio::time::timeout(MINUTE, &mut ended).await.is_err());
    bench.clock.advance(Seconds(130));
    let reason = Reason::Expired { exp: NOW + Seconds(500), now: NOW + Seconds(530) };
    assert_eq!(ended.await, reason);
}

#[tokio::test(start_paused = true)]
async fn renewal_with_a_shorter_token_takes_effect_immediately() {
    let bench = Bench::new();
    let guard = bench.guard();
    let mut ended = pin!(time_to_end(&guard));
    assert!(tokio::time::timeout(Duration::from_secs(6), &mut ended).await.is_err());
    bench.clock.advance(Seconds(29));
    guard.renew(&bench.sign(|claims| claims.exp = NOW)).await.unwrap();
    bench.clock.advance(Seconds(1));
    let (reason, after) = ended.await;
    assert_eq!(reason, Reason::Expired { exp: NOW, now: NOW + Seconds(30) });
    assert_eq!(after, Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn bad_renewal_changes_nothing() {
    let bench = Bench::new();
    let guard = bench.guard();
    let later = || AccessClaims { exp: NOW + Seconds(3000), ..bench.claims() };
    let sign = |claims: AccessClaims| bench.issuer.sign(&claims);
    let stranger = TestIssuer::new("https://auth.example.com", "api");
    let refused = |reason| RenewError::Refused(VerifyError::Invalid(reason));
    let cases = [
        (sign(AccessClaims { sub: "bob".into(), ..later() }), RenewError::OtherSubject),
        (sign(AccessClaims { sid: Some(OTHER.into()), ..later() }), RenewError::OtherSession),
        (sign(AccessClaims { sid: None, ..later() }), RenewError::OtherSession),
        (sign(AccessClaims { aud: vec!["other".into()], ..later() }), refused(Reason::WrongAudience)),
        (stranger.sign(&bench.claims()), refused(Reason::UnknownKey)),
        ("junk".to_owned(), refused(Reason::NotJws)),
    ];
    for (token, error) in cases {
        assert_eq!(guard.renew(&token).await.unwrap_err(), error);
    }
    bench.clock.advance(Seconds(330));
    assert_eq!(guard.ended().await, expired(NOW + Seconds(330)));
}

#[tokio::test(start_paused = true)]
async fn revoked_session_cannot_be_renewed() {
    let bench = Bench::new();
    let guard = bench.guard();
    bench.revoke(&[SESSION], &[]);
    let refused = RenewError::Refused(VerifyError::Invalid(Reason::RevokedSession));
    assert_eq!(guard.renew(&bench.sign(|_| ())).await.unwrap_err(), refused);
}

#[tokio::test(start_paused = true)]
async fn guard_of_another_issuers_verifier_ends_immediately() {
    let bench = Bench::new();
    let verified: Verified = bench.verifier.verify_now(&bench.sign(|_| ())).unwrap();
    let other = Verifier::builder("https://other.example.com").audience("api").clock(bench.clock.clone());
    let other = other.static_jwks(&bench.issuer.jwks()).build().unwrap();
    assert_eq!(other.guard(&verified).ended().await, Reason::WrongIssuer);
}

/// Publishes a key set that the test sets, fresh for a minute.
#[derive(Debug)]
struct Published(Mutex<JwkSet>);

impl JwksSource for Published {
    fn fetch<'a>(&'a self, _: &'a JwksRequest) -> FetchFuture<'a> {
        let mut answer = Fetched::new(serde_json::to_vec(&*self.0.lock().unwrap()).unwrap());
        answer.max_age = Some(Seconds(60));
        Box::pin(async { Ok(answer) })
    }
}

#[tokio::test(start_paused = true)]
async fn key_withdrawn_while_it_waits_ends_it_and_a_new_one_beside_it_does_not() {
    let (bench, fresh) = (Bench::new(), TestIssuer::new("https://auth.example.com", "api"));
    let published = Arc::new(Published(Mutex::new(bench.issuer.jwks())));
    let builder = Verifier::builder("https://auth.example.com").audience("api");
    let clock = Arc::new(RuntimeClock(tokio::time::Instant::now()));
    let verifier = builder.source(Arc::clone(&published)).clock(clock).build().unwrap();
    let user: Verified = verifier.verify(&bench.sign(|_| ())).await.unwrap();
    let guard = verifier.guard(&user);
    let mut ended = pin!(time_to_end(&guard));
    assert!(tokio::time::timeout(MINUTE, &mut ended).await.is_err());

    published.0.lock().unwrap().keys.push(fresh.jwk());
    assert!(tokio::time::timeout(MINUTE, &mut ended).await.is_err());
    assert_eq!(verifier.status().keys.count, 2);

    published.0.lock().unwrap().keys.remove(0);
    let (reason, after) = ended.await;
    assert_eq!(reason, Reason::UnknownKey);
    assert!((MINUTE * 2..=MINUTE * 3 + CLOCK_INTERVAL).contains(&after), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn one_of_ten_thousand_ends_and_the_others_go_on() {
    let bench = Bench::new();
    let mut ends = tokio::task::JoinSet::new();
    for number in 0..10_000 {
        let sid = format!("5e55109d-{number:04}-4203-8405-06070809abff");
        let claims = AccessClaims { sid: Some(sid.clone()), ..bench.claims() };
        let guard = Guard::new(bench.verifier.clone(), Arc::new(claims), bench.issuer.jwk().kid().clone());
        ends.spawn(async move { (sid, guard.ended().await) });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(ends.try_join_next().is_none());
    bench.revoke(&["5e55109d-4321-4203-8405-06070809abff"], &[]);
    let ended = ends.join_next().await.unwrap().unwrap();
    assert_eq!(ended, ("5e55109d-4321-4203-8405-06070809abff".to_owned(), Reason::RevokedSession));
    assert!(tokio::time::timeout(MINUTE, ends.join_next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn dropped_waits_leave_nothing_behind_and_waiting_is_idle() {
    let bench = Bench::new();
    let guard = bench.guard();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..100 {
        assert!(lasts_for(&guard, Duration::from_millis(7)).await);
    }
    assert_eq!(tasks(), before);
    // An hour of waiting is about 720 polls of the clock, not a busy loop.
    let mut polls = 0;
    let mut ended = pin!(guard.ended());
    let counted = std::future::poll_fn(|context| {
        polls += 1;
        ended.as_mut().poll(context)
    });
    assert!(tokio::time::timeout(MINUTE * 60, counted).await.is_err());
    assert!((700..1000).contains(&polls), "{polls}");
}
