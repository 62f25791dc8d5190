//! One refresh token presented many times, late, and by two holders, at replicas with different clocks.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::balancer::{Fault, Share};
use e2e::client::{Answer, Client, Tokens};
use e2e::cluster::{Cluster, Plan};
use e2e::jwt::Peek;
use e2e::postgres::Postgres;
use e2e::wait;
use http::StatusCode;
use tokio::task::JoinSet;

use crate::TURN;

const REPLICAS: usize = 3;
const PARALLEL: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn lost_responses_are_recovered_and_a_replaced_token_ends_the_session() {
    let _turn = TURN.lock().await;
    let database = Postgres::shared().create_database();
    let plan = Plan::new(REPLICAS, database.url()).set("refresh_grace", "2s");
    let cluster = Cluster::start(plan).await;
    let user = cluster.create_users("lossy", 1, &[]).await.remove(0);
    late_clients_and_thieves(&cluster, &user, Duration::from_secs(2)).await;
    answers_dropped_by_the_proxy(&cluster, &user, Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_ten_seconds_apart_change_nothing() {
    let _turn = TURN.lock().await;
    let database = Postgres::shared().create_database();
    let plan = Plan::new(REPLICAS, database.url())
        .set("refresh_grace", "3s")
        .set("clock_bound", "15s")
        .set("jwks_max_age", "5s")
        .set("key_poll_interval", "1s")
        .set("key_publish_ahead", "60s")
        .clock_offset(1, 10)
        .clock_offset(2, -10);
    let cluster = Cluster::start(plan).await;
    assert_clocks_differ(&cluster).await;
    let user = cluster.create_users("skewed", 1, &[]).await.remove(0);
    race(&cluster, &user, 20).await;
    late_clients_and_thieves(&cluster, &user, Duration::from_secs(3)).await;
}

/// In each round all callers present the same token in parallel, and all must get the same response.
async fn race(cluster: &Cluster, user: &str, rounds: usize) {
    let mut current = log_in(cluster, user).await;
    for round in 0..rounds {
        let mut callers = JoinSet::new();
        for _ in 0..PARALLEL {
            let (client, shown) = (cluster.client(), current.refresh.clone());
            callers.spawn(async move { client.refresh(&shown).await.expect("an answer") });
        }
        let mut successors = BTreeSet::new();
        for answer in callers.join_all().await {
            assert_eq!(answer.status, StatusCode::OK, "round {round}: {answer}");
            current = answer.tokens();
            let peek = Peek::into(&current.access);
            successors.insert((current.refresh.clone(), peek.jti, peek.iat, peek.exp));
        }
        assert_eq!(successors.len(), 1, "round {round}: {successors:?}");
    }
}

async fn late_clients_and_thieves(cluster: &Cluster, user: &str, grace: Duration) {
    // They mostly wait, so they run in parallel.
    tokio::join!(
        answer_lost_once(cluster, user, grace),
        answer_lost_again_and_again(cluster, user, grace),
        token_moved_past(cluster, user, grace),
        late_duplicate(cluster, user),
        two_outstanding_tokens(cluster, user, grace),
    );
}

/// The response is lost; the client retries much later, at another replica.
async fn answer_lost_once(cluster: &Cluster, user: &str, grace: Duration) {
    let first = log_in(cluster, user).await;
    let lost = refresh(cluster, 0, &first).await.tokens();
    past(grace).await;
    let found = refresh(cluster, 1, &first).await.tokens();
    assert_ne!(found.refresh, lost.refresh, "a late retry gets a token of its own");
    assert_eq!(found.session, first.session);
    refresh(cluster, 2, &found).await.assert_status(StatusCode::OK);
}

/// Several responses in a row are lost; the client continues with the first one that arrives.
async fn answer_lost_again_and_again(cluster: &Cluster, user: &str, grace: Duration) {
    let first = log_in(cluster, user).await;
    let mut lost = BTreeSet::new();
    for attempt in 0..3 {
        lost.insert(refresh(cluster, attempt % REPLICAS, &first).await.tokens().refresh);
        past(grace).await;
    }
    assert_eq!(lost.len(), 3, "each late retry gets a token of its own");
    let found = refresh(cluster, 1, &first).await.tokens();
    refresh(cluster, 2, &found).await.assert_status(StatusCode::OK);
}

/// A thief presents a replaced token: the session ends for both.
async fn token_moved_past(cluster: &Cluster, user: &str, grace: Duration) {
    let stolen = log_in(cluster, user).await;
    let second = refresh(cluster, 0, &stolen).await.tokens();
    let third = refresh(cluster, 1, &second).await.tokens();
    past(grace).await;
    refused(&refresh(cluster, 2, &stolen).await);
    for replica in 0..REPLICAS {
        refused(&refresh(cluster, replica, &third).await);
        let me =
            cluster.client().at_replica(replica).with_bearer(&third.access).me().await.expect("an answer");
        me.assert_status(StatusCode::UNAUTHORIZED);
    }
}

/// The same within the grace is a late duplicate: refused, but the session lives.
async fn late_duplicate(cluster: &Cluster, user: &str) {
    let first = log_in(cluster, user).await;
    let second = refresh(cluster, 0, &first).await.tokens();
    let third = refresh(cluster, 1, &second).await.tokens();
    refused(&refresh(cluster, 2, &first).await);
    refresh(cluster, 0, &third).await.assert_status(StatusCode::OK);
}

/// One of two outstanding tokens is presented; the other is void, and presenting it ends the session.
async fn two_outstanding_tokens(cluster: &Cluster, user: &str, grace: Duration) {
    let first = log_in(cluster, user).await;
    let one = refresh(cluster, 0, &first).await.tokens();
    past(grace).await;
    let other = refresh(cluster, 1, &first).await.tokens();
    // The earlier one is still valid, although a later one was issued.
    let next = refresh(cluster, 2, &one).await.tokens();
    past(grace).await;
    refused(&refresh(cluster, 0, &other).await);
    refused(&refresh(cluster, 1, &next).await);
}

/// The proxy drops, repeats and delays; the client repeats its request until it gets a response.
async fn answers_dropped_by_the_proxy(cluster: &Cluster, user: &str, grace: Duration) {
    let (client, balancer) = (cluster.client(), cluster.balancer());
    let mut current = log_in(cluster, user).await;
    for fault in [Fault::DropAnswer, Fault::Repeat, Fault::DelayAnswer(Duration::from_millis(300))] {
        balancer.misbehave("/v1/refresh", fault, Share::Next(1));
        let answer = client.refresh(&current.refresh).await;
        assert_eq!(answer.is_err(), fault == Fault::DropAnswer, "{fault:?}: {answer:?}");
        // Immediately and late: both must get a response.
        let retried = client.refresh(&current.refresh).await.expect("an answer").tokens();
        if let Ok(answer) = answer {
            assert_eq!(answer.tokens().refresh, retried.refresh, "{fault:?}");
        }
        past(grace).await;
        current = client.refresh(&current.refresh).await.expect("an answer").tokens();
        balancer.behave();
    }
    refresh(cluster, 0, &current).await.assert_status(StatusCode::OK);
}

/// The time of each replica's own clock, from the `Date` of its responses.
async fn assert_clocks_differ(cluster: &Cluster) {
    let mut dates = BTreeSet::new();
    for replica in cluster.replicas() {
        let answer = Client::new(&replica.public_url()).get("/livez").await.expect("an answer");
        dates.insert(answer.header(http::header::DATE).to_owned());
    }
    assert_eq!(dates.len(), REPLICAS, "clocks differ: {dates:?}");
    // Tokens still contain the database's time.
    for replica in 0..REPLICAS {
        let client = cluster.client().at_replica(replica);
        let admin =
            client.login(e2e::cluster::ADMIN, cluster.admin_password()).await.expect("an answer").tokens();
        let iat = Peek::into(&admin.access).iat;
        let apart = (iat - e2e::clock::unix_seconds()).abs();
        assert!(apart <= 2, "replica {replica} issued {apart} s off");
    }
}

async fn log_in(cluster: &Cluster, user: &str) -> Tokens {
    cluster.client().login(user, cluster.user_password()).await.expect("an answer").tokens()
}

async fn refresh(cluster: &Cluster, replica: usize, tokens: &Tokens) -> Answer {
    cluster.client().at_replica(replica).refresh(&tokens.refresh).await.expect("an answer")
}

#[track_caller]
fn refused(answer: &Answer) {
    assert_eq!(answer.assert_status(StatusCode::UNAUTHORIZED).code(), "invalid_refresh_token");
}

/// Grace is counted in whole seconds of the database's clock.
async fn past(grace: Duration) {
    wait::let_pass(grace + Duration::from_millis(1100)).await;
}
