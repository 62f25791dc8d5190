//! Settings that change while three replicas run.

use std::sync::Arc;
use std::time::Duration;

use e2e::arrivals::Tally;
use e2e::checkers::{self, Bounds, Volume};
use e2e::checking::{Checks, Pool, ready_verifier};
use e2e::client::Client;
use e2e::clock;
use e2e::cluster::{Cluster, Plan};
use e2e::ledger::Ledger;
use e2e::load::Load;
use e2e::postgres::Postgres;
use e2e::random::Random;
use e2e::session::{Refreshed, Session};
use e2e::wait;
use http::{Method, StatusCode};
use serde_json::{Value, json};

const REPLICAS: usize = 3;
const SETTINGS: &str = "/admin/v1/settings";
/// The time until every replica uses a change made at one of them.
const REACH: Duration = Duration::from_secs(2);
const SESSIONS: usize = 6;

async fn change(admin: &Client, body: &Value) -> Value {
    let answer = admin.send_json(Method::PATCH, SETTINGS, body).await.expect("an answer");
    answer.assert_status(StatusCode::OK);
    answer.json()
}

/// A replica's caching headers, which it takes from memory.
async fn max_age(cluster: &Cluster, replica: usize) -> String {
    let client = Client::new(&cluster.replicas()[replica].public_url());
    client.jwks().await.expect("an answer").header("cache-control").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn change_reaches_all_replicas_within_two_seconds_and_survives_a_restart() {
    let database = Postgres::shared().create_database();
    let cluster = Cluster::start(Plan::new(REPLICAS, database.url())).await;
    for (turn, seconds) in [100, 50, 200].into_iter().enumerate() {
        let admin = cluster.admin_at(turn).await;
        change(&admin, &json!({"jwks_max_age": format!("{seconds}s")})).await;
        let changed_at = clock::instant();
        for replica in 0..REPLICAS {
            wait::until(&format!("replica {replica} uses {seconds} s"), REACH, async || {
                let told = max_age(&cluster, replica).await;
                told.contains(&format!("max-age={seconds},")).then_some(())
            })
            .await;
        }
        println!("change {turn} was used everywhere {:?} after its answer", changed_at.elapsed());
        assert!(changed_at.elapsed() < REACH);
    }
    cluster.kill(2);
    cluster.restart(2).await;
    assert!(max_age(&cluster, 2).await.contains("max-age=200,"), "a new process starts with what is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_conflicting_changes_at_different_replicas_is_refused() {
    let database = Postgres::shared().create_database();
    let cluster = Cluster::start(Plan::new(REPLICAS, database.url())).await;
    let (first, second) = (cluster.admin_at(0).await, cluster.admin_at(1).await);
    for _ in 0..10 {
        // Each is valid with the defaults of 7 days idle and 30 days in total.
        let (short, long) = (json!({"refresh_absolute_ttl": "8d"}), json!({"refresh_idle_ttl": "9d"}));
        let answers = tokio::join!(
            first.send_json(Method::PATCH, SETTINGS, &short),
            second.send_json(Method::PATCH, SETTINGS, &long)
        );
        let mut statuses = [answers.0, answers.1].map(|answer| answer.expect("an answer").status.as_u16());
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 400]);
        change(&first, &json!({"refresh_absolute_ttl": null, "refresh_idle_ttl": null})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn token_never_outlives_its_key_during_ttl_changes_and_rotations() {
    let random = Random::announced("changing lives");
    let database = Postgres::shared().create_database();
    let cluster = Cluster::start(Plan::new(REPLICAS, database.url()).keys_of_seconds()).await;
    let admin = cluster.admin_at(0).await;
    change(&admin, &json!({"access_token_ttl": "4s"})).await;
    let users = cluster.create_users("lives", 1, &["ping"]).await;
    let (ledger, pool, mut load) = (Arc::new(Ledger::default()), Pool::new(&random), Load::default());
    let verifiers = [ready_verifier(&cluster.issuer()).await];
    keep_refreshing(&mut load, &cluster, &users[0], &pool, &ledger).await;
    Checks::new(verifiers.to_vec(), &pool, &ledger).arrive(&mut load, 100, &Tally::new("verify"));
    let mut turn = 0;
    // Longer than a key signs, and shorter than the announcement of the next one; each for longer than a
    // rotation.
    for life in [30, 3, 25, 2] {
        turn += 1;
        let admin = cluster.admin_at(turn % REPLICAS).await;
        change(&admin, &json!({"access_token_ttl": format!("{life}s")})).await;
        for replica in 0..REPLICAS {
            let client = Client::new(&cluster.replicas()[replica].public_url());
            wait::until(&format!("replica {replica} issues for {life} s"), REACH, async || {
                let login = client.login(&users[0], cluster.user_password()).await.expect("an answer");
                (login.json()["expires_in"] == life).then_some(())
            })
            .await;
        }
        wait::let_pass(Duration::from_secs(12)).await;
    }
    load.stop().await;
    let entries = ledger.entries();
    let Volume { grants, accepted, kids, .. } = Volume::of(&entries);
    println!("{grants} tokens of {} keys, {accepted} checks", kids.len());
    checkers::assert_hold(&entries, &Bounds::default());
    assert!(kids.len() >= 4, "keys rotated: {}", kids.len());
}

/// Sessions that refresh each second and feed the pool; each refresh must succeed.
async fn keep_refreshing(
    load: &mut Load,
    cluster: &Cluster,
    user: &str,
    pool: &Arc<Pool>,
    ledger: &Arc<Ledger>,
) {
    for _ in 0..SESSIONS {
        let session = Session::log_in(&cluster.client(), ledger, user, cluster.user_password()).await;
        pool.push(&session.tokens().access);
        let session = Arc::new(tokio::sync::Mutex::new(session));
        let (pool, ledger) = (Arc::clone(pool), Arc::clone(ledger));
        load.repeat(Duration::from_secs(1), move || {
            let (session, pool, ledger) = (Arc::clone(&session), Arc::clone(&pool), Arc::clone(&ledger));
            async move {
                let mut session = session.lock().await;
                match session.refresh().await {
                    Refreshed::Done => pool.push(&session.tokens().access),
                    Refreshed::Later(why) => ledger.failed(format!("no signer: {why}")),
                    Refreshed::Refused(answer) => ledger.failed(format!("session lost: {answer}")),
                }
            }
        });
    }
}
