//! Watches over what outlives a request: a WebSocket or an event stream must end with its token.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::claims::AccessClaims;
use crate::error::{Reason, VerifyError};
use crate::jwk::Kid;
use crate::verifier::{Parts, Verifier};
use crate::verify::Verified;

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
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::jwk::JwkSet;
    use crate::revocation::{SessionId, parse_session};
    use crate::source::{FetchFuture, Fetched, JwksRequest, JwksSource};
    use crate::testing::TestIssuer;
    use crate::time::{ManualClock, Seconds, UnixTime};

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

    /// Whether the guard still stands after this much of the runtime's time.
    async fn stands_for(guard: &Guard, time: Duration) -> bool {
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
        assert!(stands_for(&guard, MINUTE).await);
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
        assert!((MINUTE..=MINUTE + LOOK_INTERVAL).contains(&after), "{after:?}");
    }

    /// Follows the runtime's time, which moves by itself.
    #[derive(Debug)]
    struct RuntimeClock(tokio::time::Instant);

    impl crate::time::Clock for RuntimeClock {
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
        assert!(
            after.abs_diff(Duration::from_millis(330_000 - 1250)) <= Duration::from_millis(2),
            "{after:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn revocation_ends_it_at_once_and_news_of_others_do_not() {
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
        assert!(after <= Duration::from_millis(10) + GATHER + Duration::from_millis(2), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_revoked_before_the_wait_ends_it_as_well() {
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
    async fn renewal_with_a_shorter_token_is_noticed_at_once() {
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
    async fn guard_of_another_issuers_verifier_ends_at_once() {
        let bench = Bench::new();
        let verified: Verified = bench.verifier.verify_now(&bench.sign(|_| ())).unwrap();
        let other = Verifier::builder("https://other.example.com").audience("api").clock(bench.clock.clone());
        let other = other.static_jwks(&bench.issuer.jwks()).build().unwrap();
        assert_eq!(other.guard(&verified).ended().await, Reason::WrongIssuer);
    }

    /// Publishes what it is told to, to be asked for again after a minute.
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
        assert!((MINUTE * 2..=MINUTE * 3 + LOOK_INTERVAL).contains(&after), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_ten_thousand_hears_that_it_is_over_and_the_others_go_on() {
        let bench = Bench::new();
        let mut ends = tokio::task::JoinSet::new();
        for number in 0..10_000 {
            let sid = format!("5e55109d-{number:04}-4203-8405-06070809abff");
            let claims = AccessClaims { sid: Some(sid.clone()), ..bench.claims() };
            let guard =
                Guard::new(bench.verifier.clone(), Arc::new(claims), bench.issuer.jwk().kid().clone());
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
            assert!(stands_for(&guard, Duration::from_millis(7)).await);
        }
        assert_eq!(tasks(), before);
        // An hour of waiting is some 720 looks at the clock, not a loop.
        let mut looks = 0;
        let mut ended = pin!(guard.ended());
        let counted = std::future::poll_fn(|context| {
            looks += 1;
            ended.as_mut().poll(context)
        });
        assert!(tokio::time::timeout(MINUTE * 60, counted).await.is_err());
        assert!((700..1000).contains(&looks), "{looks}");
    }
}
