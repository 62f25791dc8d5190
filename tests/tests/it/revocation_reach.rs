//! Revocations reach all verifiers: three replicas on PostgreSQL, verifiers behind the balancer. R17 in
//! `reliability.rs` measures the time.

use std::time::Duration;

use e2e::balancer::Balancer;
use e2e::cluster::{Cluster, Plan};
use e2e::jwt::Peek;
use e2e::postgres::Postgres;
use e2e::wait;
use http::StatusCode;
use verifier::{FeedState, Reason, Seconds, Verified, Verifier, VerifyError};

const REPLICAS: usize = 3;
/// The limit of the strict verifier, well above any stall of this machine.
const LIMIT: Seconds = Seconds(10);

#[tokio::test(flavor = "multi_thread")]
async fn compromised_key_is_refused_by_every_verifier() {
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
            // Either may arrive first: the key is also removed from the key set.
            matches!(answer, Err(VerifyError::Invalid(Reason::RevokedKey | Reason::UnknownKey))).then_some(())
        })
        .await;
        wait::until("the key is known to be stolen", Duration::from_secs(5), async || {
            (verifier.status().feed.keys == 1).then_some(())
        })
        .await;
    }
    // Tokens of its successor are valid immediately, at every replica and verifier.
    for _ in 0..REPLICAS {
        let fresh = login().await;
        assert_ne!(Peek::into(&fresh.access).kid, kid);
        for verifier in &verifiers {
            let _: Verified = verifier.verify(&fresh.access).await.expect("a good token");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnected_verifier_reports_its_staleness_and_follows_its_policy() {
    let database = Postgres::shared().create_database();
    let cluster = Cluster::start(Plan::new(REPLICAS, database.url())).await;
    let user = cluster.create_users("user", 2, &["ping"]).await.remove(0);
    let [stays, ends] = [
        cluster.client().login(&user, cluster.user_password()).await.expect("an answer").tokens(),
        cluster.client().login(&user, cluster.user_password()).await.expect("an answer").tokens(),
    ];
    // A separate connection to the replicas, which will break.
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
    // The lenient one is configured to accept this: it accepts the same tokens as before.
    accepts(&lenient, &stays.access);
    accepts(&lenient, &ends.access);
    // It may have received one document more than the strict one before the connection froze.
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

/// Verifiers that read the feed through the balancer.
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
