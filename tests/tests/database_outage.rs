//! The database is away, in four ways: stopped, frozen, waiting for a standby that does not answer, and behind a network
//! that swallows every packet.

use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, header};
use tests::checking::{Pool, check_tokens, ready_verifier};
use tests::client::{Answer, Lost};
use tests::clock;
use tests::cluster::{Cluster, Plan};
use tests::ledger::{self, Ledger};
use tests::load::Load;
use tests::passage::Passage;
use tests::postgres::{Postgres, Stop};
use tests::random::Random;
use tests::session::{Refreshed, Session};
use tests::wait;
use tokio::sync::Mutex;

const REPLICAS: usize = 3;
const SESSIONS: usize = 16;
const AWAY: Duration = Duration::from_secs(30);
/// Short enough that a statement which is waited for too long is still unanswered when the way is free again.
const AWAY_IN_A_HOLE: Duration = Duration::from_secs(10);
const LONGEST_REFUSAL: Duration = Duration::from_secs(2);
const LONGEST_RECOVERY: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn stopped_database_costs_no_token_and_no_session() {
    let postgres = Postgres::start();
    let url = postgres.create_database().url();
    outage("stopped", url, AWAY, || postgres.stop(Stop::Fast), || postgres.start_again()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_database_costs_no_token_and_no_session() {
    let postgres = Postgres::start();
    let url = postgres.create_database().url();
    outage("frozen", url, AWAY, || postgres.freeze(), || postgres.thaw()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_standby_costs_no_token_and_no_session() {
    let postgres = Postgres::start();
    let standby = postgres.start_synchronous_standby();
    let url = postgres.create_database().url();
    outage("stalled", url, AWAY, || standby.stall(), || standby.resume()).await;
}

/// No packet arrives and none comes back, not even a refusal; and the connections of before stay silent for ever, as behind a firewall
/// that has forgotten them.
#[tokio::test(flavor = "multi_thread")]
async fn black_hole_before_the_database_costs_no_token_and_no_session() {
    let database = Postgres::shared().create_database();
    let passage = Passage::to(database.port()).await;
    let url = database.url_at(passage.port());
    outage("swallowed", url, AWAY_IN_A_HOLE, || passage.swallow(), || passage.let_through()).await;
}

async fn outage(
    name: &'static str,
    database_url: String,
    away: Duration,
    break_it: impl Fn(),
    mend_it: impl Fn(),
) {
    let random = Random::announced(name);
    // Caches of 5 s, so that every key set is fetched again several times while the database is away.
    let plan = Plan::new(REPLICAS, database_url)
        .set("jwks_max_age", "5s")
        .set("key_poll_interval", "1s")
        .set("key_publish_ahead", "60s");
    let cluster = Arc::new(Cluster::start(plan).await);
    let users = cluster.create_users(name, 2, &["ping"]).await;
    let (ledger, pool, mut load) = (Arc::new(Ledger::default()), Pool::new(&random), Load::default());
    let verifiers = [ready_verifier(&cluster.issuer()).await, ready_verifier(&cluster.issuer()).await];

    let mut sessions = Vec::new();
    for user in users.iter().cycle().take(SESSIONS) {
        let session = Session::log_in(&cluster.client(), &ledger, user, cluster.user_password()).await;
        pool.push(&session.tokens().access);
        sessions.push(Arc::new(Mutex::new(session)));
    }
    check_tokens(&mut load, &verifiers, 100, &pool, &ledger);
    watch_key_set(&mut load, &cluster, &ledger);
    // All sessions refresh without a pause, so that 16 requests are in flight when it happens.
    let mut busy = Load::default();
    for session in &sessions {
        let (session, ledger) = (Arc::clone(session), Arc::clone(&ledger));
        busy.repeat(Duration::ZERO, move || refresh_once(Arc::clone(&session), Arc::clone(&ledger)));
    }
    wait::let_pass(Duration::from_secs(2)).await;

    tokio::task::block_in_place(&break_it);
    let began = clock::instant();
    busy.stop().await;
    let mut refused = 0;
    while began.elapsed() < away {
        refused += all_are_told_to_wait(&cluster, &sessions, &users).await;
        wait::let_pass(Duration::from_millis(500)).await;
    }
    assert!(refused as u64 >= 2 * away.as_secs(), "{refused} requests were made");
    let accepted_while_away = ledger.accepted_count();
    tokio::task::block_in_place(&mend_it);
    let ended = clock::instant();

    everything_works_again(&cluster, &users).await;
    let recovery = ended.elapsed();
    for session in &sessions {
        session.lock().await.refresh_patiently(Duration::from_secs(10)).await;
        pool.push(&session.lock().await.tokens().access);
    }
    wait::let_pass(Duration::from_secs(1)).await;
    load.stop().await;
    println!(
        "{name}: {refused} told to wait, {accepted_while_away} tokens checked, normal after {recovery:?}"
    );
    assert!(recovery <= LONGEST_RECOVERY, "normal only after {recovery:?}");
    ledger::none("failures", &ledger.failures());
    ledger::none("valid tokens refused", &ledger.false_refusals(Duration::ZERO));
    let expected = 80 * away.as_secs();
    assert!(accepted_while_away as u64 > expected, "{accepted_while_away} tokens checked");
}

/// Fetches the key set from all replicas in turn, as a new resource server would.
fn watch_key_set(load: &mut Load, cluster: &Arc<Cluster>, ledger: &Arc<Ledger>) {
    let (client, ledger) = (cluster.client(), Arc::clone(ledger));
    load.every(Duration::from_millis(100), move || {
        let (client, ledger) = (client.clone(), Arc::clone(&ledger));
        async move {
            match client.jwks().await {
                Ok(answer) if answer.status == StatusCode::OK && answer.took < Duration::from_secs(1) => {}
                Ok(answer) => ledger.failed(format!("key set: {answer}")),
                Err(lost) => ledger.failed(format!("key set: {}", lost.why)),
            }
        }
    });
}

async fn refresh_once(session: Arc<Mutex<Session>>, ledger: Arc<Ledger>) {
    if let Refreshed::Refused(answer) = session.lock().await.refresh().await {
        ledger.failed(format!("session lost: {answer}"));
    }
}

/// A login and four refreshes at once; each must be told, in time, to come back later. Returns how many there were.
async fn all_are_told_to_wait(
    cluster: &Cluster,
    sessions: &[Arc<Mutex<Session>>],
    users: &[String],
) -> usize {
    let mut calls = tokio::task::JoinSet::new();
    let (client, user, password) = (cluster.client(), users[0].clone(), cluster.user_password());
    calls.spawn(async move { client.login(&user, password).await });
    for session in &sessions[..4] {
        let (client, shown) = (cluster.client(), session.lock().await.tokens().refresh.clone());
        calls.spawn(async move { client.refresh(&shown).await });
    }
    let answers = calls.join_all().await;
    answers.iter().for_each(told_to_wait);
    answers.len()
}

fn told_to_wait(answer: &Result<Answer, Lost>) {
    let answer = answer.as_ref().expect("an answer");
    answer.assert_status(StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.took <= LONGEST_REFUSAL, "{answer}");
    assert!(answer.served_by().is_some(), "the service itself says so: {answer}");
    let seconds: u32 =
        answer.header(header::RETRY_AFTER).parse().unwrap_or_else(|_| panic!("Retry-After: {answer}"));
    assert!((1..=60).contains(&seconds), "Retry-After: {seconds}");
    assert_eq!(answer.code(), "unavailable");
}

/// Waits until each replica logs in and refreshes again.
async fn everything_works_again(cluster: &Cluster, users: &[String]) {
    for replica in 0..REPLICAS {
        let client = cluster.client().at_replica(replica);
        wait::until(&format!("replica {replica} works again"), Duration::from_secs(20), async || {
            let login = client.login(&users[1], cluster.user_password()).await.ok()?.find_tokens()?;
            client.refresh(&login.refresh).await.ok()?.find_tokens()
        })
        .await;
    }
}
