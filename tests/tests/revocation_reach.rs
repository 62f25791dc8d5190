//! How far and how fast the end of a session is known: three replicas on PostgreSQL, verifiers behind the balancer.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tests::balancer::Balancer;
use tests::clock;
use tests::cluster::{Cluster, Plan};
use tests::jwt::Peek;
use tests::postgres::Postgres;
use tests::wait;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use verifier::{FeedState, Reason, Seconds, Verified, Verifier, VerifyError};

const REPLICAS: usize = 3;
const VERIFIERS: usize = 20;
const USERS: usize = 10;
const SESSIONS_PER_USER: usize = 50;
/// What is promised of a verifier that is connected.
const PROMISED: Duration = Duration::from_secs(1);
/// For the strict one: well beyond what a stall of this machine may cost.
const LIMIT: Seconds = Seconds(10);
/// How exactly the moment of a refusal is told.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

#[tokio::test(flavor = "multi_thread")]
async fn ended_sessions_are_refused_by_every_verifier_within_a_second() {
    let database = Postgres::shared().create_database();
    let cluster = Cluster::start(Plan::new(REPLICAS, database.url())).await;
    let verifiers = connected(VERIFIERS, &cluster.issuer()).await;
    let users = cluster.create_users("user", USERS, &["ping"]).await;
    let mut sessions = Vec::new();
    for user in &users {
        for _ in 0..SESSIONS_PER_USER {
            let login = cluster.client().login(user, cluster.user_password()).await.expect("an answer");
            sessions.push(login.tokens());
        }
    }

    // Four at a time: enough for revocations to meet on their way, few enough to tell their latencies from our own.
    let turns = Arc::new(Semaphore::new(4));
    let mut watches = JoinSet::new();
    for tokens in sessions {
        let turn = Arc::clone(&turns).acquire_owned().await.expect("never closed");
        for verifier in &verifiers {
            accepts(verifier, &tokens.access);
        }
        let (client, verifiers) = (cluster.client(), verifiers.clone());
        watches.spawn(async move {
            client.logout(&tokens.refresh).await.expect("an answer").assert_status(StatusCode::NO_CONTENT);
            let acknowledged_at = clock::instant();
            let mut latencies = Vec::new();
            for verifier in &verifiers {
                while !refuses(verifier, &tokens.access) {
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
                latencies.push(acknowledged_at.elapsed());
            }
            drop(turn);
            latencies
        });
    }
    let mut latencies: Vec<Duration> = watches.join_all().await.into_iter().flatten().collect();
    latencies.sort_unstable();
    assert_eq!(latencies.len(), USERS * SESSIONS_PER_USER * VERIFIERS);
    print_histogram(&latencies);
    let p99 = latencies[latencies.len() * 99 / 100];
    assert!(p99 <= PROMISED, "p99 {p99:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_in_other_hands_is_refused_by_every_verifier() {
    let database = Postgres::shared().create_database();
    let cluster = Cluster::start(Plan::new(REPLICAS, database.url())).await;
    let verifiers = connected(3, &cluster.issuer()).await;
    let user = cluster.create_users("user", 1, &["ping"]).await.remove(0);
    let login =
        async || cluster.client().login(&user, cluster.user_password()).await.expect("an answer").tokens();
    let stolen = login().await;
    for verifier in &verifiers {
        accepts(verifier, &stolen.access);
    }

    let kid = Peek::into(&stolen.access).kid;
    let body = serde_json::json!({});
    let compromised =
        cluster.admin_at(1).await.post(&format!("/admin/v1/keys/{kid}/compromise"), &body).await;
    compromised.expect("an answer").assert_status(StatusCode::OK);

    for verifier in &verifiers {
        wait::until("the key is refused", Duration::from_secs(5), async || {
            let answer = verifier.verify_now::<verifier::NoExtra>(&stolen.access);
            // Whichever news came first: the key is gone from the key set, too.
            matches!(answer, Err(VerifyError::Invalid(Reason::RevokedKey | Reason::UnknownKey))).then_some(())
        })
        .await;
        wait::until("the key is known to be stolen", Duration::from_secs(5), async || {
            (verifier.status().feed.keys == 1).then_some(())
        })
        .await;
    }
    // Tokens of its successor are good at once, at every replica and verifier.
    for _ in 0..REPLICAS {
        let fresh = login().await;
        assert_ne!(Peek::into(&fresh.access).kid, kid);
        for verifier in &verifiers {
            let _: Verified = verifier.verify(&fresh.access).await.expect("a good token");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verifier_that_is_cut_off_says_how_stale_it_is_and_follows_its_policy() {
    let database = Postgres::shared().create_database();
    let cluster = Cluster::start(Plan::new(REPLICAS, database.url())).await;
    let user = cluster.create_users("user", 2, &["ping"]).await.remove(0);
    let [stays, ends] = [
        cluster.client().login(&user, cluster.user_password()).await.expect("an answer").tokens(),
        cluster.client().login(&user, cluster.user_password()).await.expect("an answer").tokens(),
    ];
    // A way of their own to the replicas, which will break.
    let way = Balancer::start().await;
    for replica in cluster.replicas() {
        way.set_backend(replica.number(), replica.await_ready().await);
    }
    let builder = || {
        Verifier::builder(cluster.issuer())
            .audience("api")
            .jwks_url(format!("{}/.well-known/jwks.json", way.url()))
    };
    let lenient = builder().build().expect("a whole description");
    let strict = builder().deny_when_stale(LIMIT).build().expect("a whole description");
    for verifier in [&lenient, &strict] {
        await_live(verifier).await;
        accepts(verifier, &stays.access);
        accepts(verifier, &ends.access);
    }

    way.freeze(true);
    cluster.client().logout(&ends.refresh).await.expect("an answer").assert_status(StatusCode::NO_CONTENT);
    let is_unavailable = || {
        let answer = strict.verify_now::<verifier::NoExtra>(&stays.access);
        matches!(answer, Err(VerifyError::Unavailable(_)))
    };
    wait::until("the strict one denies", Duration::from_secs(30), async || is_unavailable().then_some(()))
        .await;
    assert!(strict.status().feed.staleness.is_some_and(|stale| stale > LIMIT.into()));
    wait::until("both know that they are cut off", Duration::from_secs(15), async || {
        let is_cut_off =
            |verifier: &&Verifier| matches!(verifier.status().feed.state, FeedState::Disconnected { .. });
        [&lenient, &strict].iter().all(is_cut_off).then_some(())
    })
    .await;
    // The lenient one was told that this is the price: it accepts what it accepted before.
    accepts(&lenient, &stays.access);
    accepts(&lenient, &ends.access);
    // It may have heard one document more than the strict one before the way froze.
    wait::until("it says how stale it is", Duration::from_secs(10), async || {
        lenient.status().feed.staleness.is_some_and(|stale| stale > LIMIT.into()).then_some(())
    })
    .await;

    way.freeze(false);
    for verifier in [&lenient, &strict] {
        wait::until("what was missed is known", Duration::from_secs(20), async || {
            refuses(verifier, &ends.access).then_some(())
        })
        .await;
        accepts(verifier, &stays.access);
    }
}

/// Verifiers that hear the feed through the balancer.
async fn connected(count: usize, issuer: &str) -> Vec<Verifier> {
    let mut verifiers = Vec::new();
    for _ in 0..count {
        let verifier = Verifier::builder(issuer).audience("api").build().expect("a whole description");
        await_live(&verifier).await;
        verifiers.push(verifier);
    }
    verifiers
}

async fn await_live(verifier: &Verifier) {
    verifier.ready(Duration::from_secs(10)).await.expect("keys");
    wait::until("the feed is live", Duration::from_secs(10), async || {
        (verifier.status().feed.state == FeedState::Live).then_some(())
    })
    .await;
}

fn accepts(verifier: &Verifier, token: &str) {
    let _: Verified = verifier.verify_now(token).expect("a good token");
}

/// Whether the session is known to be over; no other refusal is expected.
fn refuses(verifier: &Verifier, token: &str) -> bool {
    match verifier.verify_now::<verifier::NoExtra>(token) {
        Ok(_) | Err(VerifyError::Unavailable(_)) => false,
        Err(VerifyError::Invalid(Reason::RevokedSession)) => true,
        Err(other) => panic!("{other}"),
    }
}

fn print_histogram(sorted: &[Duration]) {
    let at = |share: usize| sorted[(sorted.len() - 1) * share / 1000];
    println!("from the 204 of the logout to the refusal, {} times:", sorted.len());
    for (name, share) in [("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999), ("max", 1000)] {
        println!("  {name:>6} {:>7.1} ms", at(share).as_secs_f64() * 1e3);
    }
    let mut from = 0;
    for most in [5, 10, 20, 50, 100, 200, 500, 1000] {
        let to = sorted.partition_point(|latency| *latency <= Duration::from_millis(most));
        println!("  ≤ {most:>4} ms {:>6}", to - from);
        from = to;
    }
    println!("  later     {:>6}", sorted.len() - from);
}
