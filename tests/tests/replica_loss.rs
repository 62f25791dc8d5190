//! Replicas that die or stand still in the middle of the work.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tests::checking::{Pool, check_tokens, ready_verifier};
use tests::client::Client;
use tests::clock;
use tests::cluster::{Cluster, Plan};
use tests::keys;
use tests::ledger::{self, Ledger};
use tests::load::Load;
use tests::postgres::Postgres;
use tests::random::Random;
use tests::session::{Refreshed, Session};
use tests::wait;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

const REPLICAS: usize = 3;
const GRACE: i64 = 10;

/// The machine is small: one test of this file at a time.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn killed_replicas_cost_no_token_and_no_session() {
    const KILLS: usize = 7;
    let _turn = TURN.lock().await;
    let Scene { cluster, users, ledger, pool, mut load, random } = Scene::set("kill").await;
    let sessions = keep_refreshing(&mut load, &cluster, &users, &ledger, &pool).await;

    let mut ended = Vec::new();
    let mut created = Vec::new();
    for _ in 0..KILLS {
        let victim = random.below(REPLICAS);
        let survivor = (victim + 1) % REPLICAS;
        // What was acknowledged before the kill must hold after it.
        let session = Session::log_in(&cluster.client(), &ledger, &users[0], cluster.user_password()).await;
        let logout = cluster.client().at_replica(victim).logout(&session.tokens().refresh).await;
        logout.expect("an answer").assert_status(StatusCode::NO_CONTENT);
        ended.push(session);
        let admin = cluster.admin_at(victim).await;
        let name = format!("late-{}", random.word(8));
        let user = admin.post_user(&name, cluster.user_password(), &[]).await.expect("an answer");
        created.push(user.assert_status(StatusCode::CREATED).json()["username"].clone());

        cluster.kill(victim);
        wait::let_pass(Duration::from_secs(2)).await;
        let alive =
            Client::new(&cluster.replicas()[survivor].public_url()).get("/readyz").await.expect("an answer");
        alive.assert_status(StatusCode::OK);
        cluster.restart(victim).await;
        wait::let_pass(Duration::from_secs(1)).await;
    }
    load.stop().await;

    for session in &sessions {
        session.lock().await.refresh_patiently(Duration::from_secs(10)).await;
    }
    for session in &ended {
        let refused = cluster.client().refresh(&session.tokens().refresh).await.expect("an answer");
        refused.assert_status(StatusCode::UNAUTHORIZED);
    }
    for name in &created {
        let name = name.as_str().expect("a name");
        let login = cluster.client().login(name, cluster.user_password()).await.expect("an answer");
        login.assert_status(StatusCode::OK);
    }
    judge(&cluster, &ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_that_slept_longer_than_its_lease_signs_nothing_with_a_retired_key() {
    const SLEEP: Duration = Duration::from_secs(14);
    const WAITING: usize = 16;
    const WAITING_LOGINS: usize = 4;
    let _turn = TURN.lock().await;
    let Scene { cluster, users, ledger, pool, mut load, random } = Scene::set("pause").await;
    let sessions = keep_refreshing(&mut load, &cluster, &users, &ledger, &pool).await;
    let sleeper = random.below(REPLICAS);
    let sleeper_client = Client::new(&cluster.replicas()[sleeper].public_url());

    // Sessions that speak to the sleeper alone: some have a request in its hands when it falls asleep.
    let mut faithful = Load::default();
    let mut theirs = Vec::new();
    for user in users.iter().cycle().take(WAITING) {
        let session = Session::log_in(&sleeper_client, &ledger, user, cluster.user_password()).await;
        let session = Arc::new(Mutex::new(session));
        theirs.push(Arc::clone(&session));
        let (ledger, pool) = (Arc::clone(&ledger), Arc::clone(&pool));
        faithful
            .repeat(Duration::ZERO, move || refresh_once(Arc::clone(&session), ledger.clone(), pool.clone()));
    }
    wait::let_pass(Duration::from_secs(2)).await;
    cluster.pause(sleeper);
    // More arrive while it sleeps: logins that wait in its queue.
    let mut queue = JoinSet::new();
    for user in users.iter().cycle().take(WAITING_LOGINS) {
        let (client, user, password) = (sleeper_client.clone(), user.clone(), cluster.user_password());
        queue.spawn(async move { client.login(&user, password).await });
    }
    wait::let_pass(SLEEP).await;
    let woken_at = clock::unix_seconds();
    cluster.resume(sleeper);

    // Whatever it held is answered or given up; nobody waits for ever.
    let mut answered = 0;
    for login in queue.join_all().await {
        let login = login.expect("an answer");
        if let Some(tokens) = login.find_tokens() {
            ledger.issued(None, &tokens);
            pool.push(&tokens.access);
            answered += 1;
        } else {
            login.assert_status(StatusCode::SERVICE_UNAVAILABLE);
        }
    }
    wait::let_pass(Duration::from_secs(1)).await;
    faithful.stop().await;
    let keys = signing_keys(&cluster).await;
    let during = woken_at - i64::try_from(SLEEP.as_secs()).expect("small")..woken_at;
    let retired = keys.iter().filter(|key| key.retires_at.is_some_and(|at| during.contains(&at))).count();
    assert!(retired >= 1, "a key retired while the replica slept: {keys:?}");
    println!(
        "{retired} keys retired while it slept; {answered} of {WAITING_LOGINS} waiting logins were answered"
    );

    wait::let_pass(Duration::from_secs(2)).await;
    load.stop().await;
    // It came back by itself, and no session was lost.
    let ready = sleeper_client.get("/readyz").await.expect("an answer");
    ready.assert_status(StatusCode::OK);
    for session in sessions.iter().chain(&theirs) {
        session.lock().await.refresh_patiently(Duration::from_secs(10)).await;
    }
    judge(&cluster, &ledger).await;
}

/// Three replicas whose keys live for seconds, and two verifiers that check tokens all the time.
struct Scene {
    cluster: Arc<Cluster>,
    users: Vec<String>,
    ledger: Arc<Ledger>,
    pool: Arc<Pool>,
    load: Load,
    random: Random,
}

impl Scene {
    async fn set(name: &str) -> Self {
        let random = Random::announced(name);
        let database = Postgres::shared().create_database();
        let plan = Plan::new(REPLICAS, database.url()).keys_of_seconds().set("access_token_ttl", "20s");
        let cluster = Arc::new(Cluster::start(plan).await);
        let users = cluster.create_users(name, 2, &["ping"]).await;
        let (ledger, pool, mut load) = (Arc::new(Ledger::default()), Pool::new(&random), Load::default());
        let login = cluster.client().login(&users[0], cluster.user_password()).await.expect("an answer");
        pool.push(&login.tokens().access);
        let verifiers = [ready_verifier(&cluster.issuer()).await, ready_verifier(&cluster.issuer()).await];
        check_tokens(&mut load, &verifiers, 100, &pool, &ledger);
        Self { cluster, users, ledger, pool, load, random }
    }
}

/// Sessions that refresh all the time through the balancer; only the end of a session is a failure.
async fn keep_refreshing(
    load: &mut Load,
    cluster: &Cluster,
    users: &[String],
    ledger: &Arc<Ledger>,
    pool: &Arc<Pool>,
) -> Vec<Arc<Mutex<Session>>> {
    let mut sessions = Vec::new();
    for user in users.iter().cycle().take(8) {
        let session = Session::log_in(&cluster.client(), ledger, user, cluster.user_password()).await;
        let session = Arc::new(Mutex::new(session));
        sessions.push(Arc::clone(&session));
        let (ledger, pool) = (Arc::clone(ledger), Arc::clone(pool));
        load.repeat(Duration::from_millis(100), move || {
            refresh_once(Arc::clone(&session), Arc::clone(&ledger), Arc::clone(&pool))
        });
    }
    sessions
}

async fn refresh_once(session: Arc<Mutex<Session>>, ledger: Arc<Ledger>, pool: Arc<Pool>) {
    let mut session = session.lock().await;
    match session.refresh().await {
        Refreshed::Done => pool.push(&session.tokens().access),
        Refreshed::Later(_) => {}
        Refreshed::Refused(answer) => ledger.failed(format!("session lost: {answer}")),
    }
}

async fn signing_keys(cluster: &Cluster) -> Vec<keys::Key> {
    let admin = cluster.admin_at(0).await;
    keys::listed(&admin.get("/admin/v1/keys?limit=200").await.expect("an answer"))
}

async fn judge(cluster: &Cluster, ledger: &Ledger) {
    let keys = signing_keys(cluster).await;
    println!(
        "{} tokens issued by {} of {} keys, {} checks",
        ledger.issued_count(),
        ledger.kids().len(),
        keys.len(),
        ledger.accepted_count()
    );
    ledger::none("failures", &ledger.failures());
    ledger::none("valid tokens refused", &ledger.false_refusals(Duration::ZERO));
    ledger::none("instants with two signers or none", &keys::chain_faults(&keys));
    ledger::none("signed out of turn", &ledger.signed_out_of_turn(&keys, GRACE));
    assert!(ledger.kids().len() >= 3, "keys rotated meanwhile");
    assert!(!cluster.logs().contains("panicked"), "a replica panicked");
}
