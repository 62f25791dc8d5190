//! R17: a hundred thousand revocations, fifty connected verifiers, and one that is disconnected.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use stats_alloc::INSTRUMENTED_SYSTEM;
use verifier::{FeedState, NoExtra, Reason, Verifier, VerifyError};

use super::Run;
use super::run::number;
use super::traffic::verifiers;
use crate::balancer::Balancer;
use crate::client::{Client, Tokens};
use crate::clock;
use crate::cluster::{Cluster, Plan};
use crate::histogram::Histogram;
use crate::jwt::Peek;
use crate::ledger::Outcome;
use crate::postgres::{Database, Postgres};
use crate::wait;

const REVOKED: usize = 100_000;
/// The maximum memory of a verifier: 24 bytes per entry of 16 bytes, plus 1 MiB.
const MOST_BYTES: usize = REVOKED * 16 * 3 / 2 + 1024 * 1024;
/// The minimum, half of the 16 bytes: with less, the measurement is wrong.
const LEAST_BYTES: usize = REVOKED * 8;
/// A heartbeat of the feed comes every 2 s.
const LONGEST_REACH: Duration = Duration::from_secs(2 * 2);
/// The limit for a release build. Without optimisation the code is several times slower.
const LONGEST_BUILD: Duration = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 100 });
/// The resolution of the measured time of a refusal.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
const TIMEOUT: Duration = Duration::from_mins(1);

pub(super) async fn play(run: &mut Run) {
    let (listeners, sessions) = run.size.pick((20, 25), (50, 200));
    run.bounds.reach = LONGEST_REACH;
    let database = Postgres::shared().create_database();
    let plan = Plan::new(3, database.url()).set("max_sessions_per_user", "0");
    let cluster = Arc::new(Cluster::start(plan).await);
    run.watch(&cluster);
    let user = cluster.create_users("user", 1, &["ping"]).await.remove(0);
    let verifiers = verifiers(listeners, &cluster).await;

    let per_verifier = revoke_many(&cluster, &database, &verifiers).await;
    run.at_most("heap for each verifier", per_verifier, number(MOST_BYTES) / 1024.0, "KiB");
    run.at_least("as much as it cannot do without", per_verifier, number(LEAST_BYTES) / 1024.0, "KiB");
    run.within("slowest whole document", slowest_document(&cluster).await, LONGEST_BUILD);

    let mut reach = Histogram::default();
    for _ in 0..sessions {
        let tokens = log_in(run, &cluster, &user).await;
        end_everywhere(run, &cluster, &verifiers, &tokens, &mut reach).await;
    }
    println!("from the 204 of a logout to the refusal: {reach}");
    run.within("p99 from the 204 of a logout to the refusal", reach.percentile(99.0), Duration::from_secs(1));
    run.within("the last of them", reach.max(), LONGEST_REACH);
    cut_off(run, &cluster, &user).await;
    run.close(&cluster).await;
}

/// Writes as many revocations as a large fleet has during the life of a token, waits until each verifier has
/// them, and returns the KiB per verifier.
async fn revoke_many(cluster: &Cluster, database: &Database<'_>, verifiers: &[Arc<Verifier>]) -> f64 {
    let before = heap().await;
    database.query(&format!(
        "INSERT INTO revocations (kind, subject, revoked_at, forget_at)
         SELECT 'session', gen_random_uuid()::text, now_s - number % 300, now_s + 3600
           FROM generate_series(1, {REVOKED}) AS number, (SELECT extract(epoch FROM now())::bigint AS now_s) AS clock"
    ));
    // Replicas read the last minute with each poll; they read older entries at start.
    for number in 0..cluster.replicas().len() {
        cluster.restart(number).await;
    }
    for verifier in verifiers {
        wait::until("a verifier knows all revocations", TIMEOUT, async || {
            (verifier.status().feed.sessions >= REVOKED).then_some(())
        })
        .await;
    }
    let after = heap().await;
    assert!(before > 0, "the heap is not counted: the program must install `stats_alloc`");
    (number(after) - number(before)) / 1024.0 / number(verifiers.len())
}

/// The allocated bytes of this process, measured when it is idle, because documents in transit would be
/// counted, too.
async fn heap() -> usize {
    let mut least = usize::MAX;
    for _ in 0..30 {
        wait::let_pass(Duration::from_millis(100)).await;
        let stats = INSTRUMENTED_SYSTEM.stats();
        least = least.min(stats.bytes_allocated.saturating_sub(stats.bytes_deallocated));
    }
    least
}

/// The time of the slowest replica for a complete document.
async fn slowest_document(cluster: &Cluster) -> Duration {
    let mut slowest = Duration::ZERO;
    for replica in cluster.replicas().iter().cycle().take(9) {
        let answer = Client::new(&replica.public_url()).get("/v1/revocations").await.expect("an answer");
        assert!(answer.assert_status(StatusCode::OK).body.len() > REVOKED * 16, "everything is in it");
        slowest = slowest.max(answer.took);
    }
    slowest
}

async fn log_in(run: &Run, cluster: &Cluster, user: &str) -> Tokens {
    wait::until("a login", Duration::from_secs(20), async || {
        let sent = clock::since_epoch();
        let login = cluster.client().login(user, cluster.user_password()).await;
        run.ledger.login(sent, &login)
    })
    .await
}

/// Ends a session and measures the time until each verifier refuses its token.
async fn end_everywhere(
    run: &Run,
    cluster: &Cluster,
    verifiers: &[Arc<Verifier>],
    tokens: &Tokens,
    reach: &mut Histogram,
) {
    let peek = Peek::into(&tokens.access);
    for verifier in verifiers {
        let sent = clock::since_epoch();
        run.ledger.verified(sent, &peek, true, outcome(verifier, tokens));
    }
    run.ledger
        .logout(&cluster.client(), tokens)
        .await
        .expect("an answer")
        .assert_status(StatusCode::NO_CONTENT);
    let acknowledged_at = clock::instant();
    for verifier in verifiers {
        wait::until("a verifier refuses the session", TIMEOUT, async || {
            tokio::time::sleep(LOOK_INTERVAL).await;
            refuses(verifier, tokens).then_some(())
        })
        .await;
        reach.record(acknowledged_at.elapsed());
    }
}

/// A verifier whose connection to the replicas drops everything: it reports its staleness, and catches up
/// afterwards.
async fn cut_off(run: &Run, cluster: &Cluster, user: &str) {
    let lasting = Duration::from_secs(run.size.pick(6, 60));
    let way = Balancer::start().await;
    for replica in cluster.replicas() {
        way.set_backend(replica.number(), replica.await_ready().await);
    }
    let verifier = Verifier::builder(cluster.issuer()).audience("api");
    let verifier = verifier.jwks_url(format!("{}/.well-known/jwks.json", way.url()));
    let verifier = verifier.build().expect("a whole description");
    verifier.ready(Duration::from_secs(10)).await.expect("keys");
    wait::until("it knows all revocations", TIMEOUT, async || {
        let feed = verifier.status().feed;
        (feed.state == FeedState::Live && feed.sessions >= REVOKED).then_some(())
    })
    .await;
    let tokens = log_in(run, cluster, user).await;
    way.freeze(true);
    run.ledger
        .logout(&cluster.client(), &tokens)
        .await
        .expect("an answer")
        .assert_status(StatusCode::NO_CONTENT);
    wait::let_pass(lasting).await;
    let sent = clock::since_epoch();
    run.ledger.verified(sent, &Peek::into(&tokens.access), false, outcome(&verifier, &tokens));
    let feed = verifier.status().feed;
    let knows = feed.staleness.is_some_and(|stale| stale + Duration::from_secs(1) >= lasting);
    if !knows || !matches!(feed.state, FeedState::Disconnected { .. }) {
        run.ledger.failed(format!("cut off for {lasting:?}, it says {feed:?}"));
    }
    way.freeze(false);
    wait::until("it knows what it missed", Duration::from_secs(30), async || {
        refuses(&verifier, &tokens).then_some(())
    })
    .await;
}

fn outcome(verifier: &Verifier, tokens: &Tokens) -> Outcome {
    match verifier.verify_now::<NoExtra>(&tokens.access) {
        Ok(_) => Outcome::Ok,
        Err(VerifyError::Unavailable(error)) => Outcome::Info(error.to_string()),
        Err(error) => Outcome::Fail(error.to_string()),
    }
}

fn refuses(verifier: &Verifier, tokens: &Tokens) -> bool {
    let answer = verifier.verify_now::<NoExtra>(&tokens.access);
    matches!(answer, Err(VerifyError::Invalid(Reason::RevokedSession)))
}
