//! The service behind PgBouncer in transaction mode, where every statement may use another connection.

use std::sync::Arc;
use std::time::Duration;

use e2e::checkers::{self, Bounds, Volume};
use e2e::checking::ready_verifier;
use e2e::clock;
use e2e::cluster::{Cluster, Plan};
use e2e::ledger::Ledger;
use e2e::load::Load;
use e2e::postgres::{Pgbouncer, Postgres};
use e2e::session::{Refreshed, Session};
use e2e::wait;
use http::StatusCode;
use tokio::sync::Mutex;
use verifier::NoExtra;

const REPLICAS: usize = 3;
const SESSIONS: usize = 12;
const LONGEST_RECOVERY: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn cluster_works_through_a_transaction_pooler_and_survives_its_crash() {
    let database = Postgres::shared().create_database();
    let pooler = tokio::task::block_in_place(|| Pgbouncer::start(&database));
    let plan = Plan::new(REPLICAS, database.url_at(pooler.port())).keys_of_seconds();
    let cluster = Cluster::start(plan).await;
    let users = cluster.create_users("pool", 2, &["ping"]).await;
    let ledger = Arc::new(Ledger::default());
    let mut sessions = Vec::new();
    for user in users.iter().cycle().take(SESSIONS) {
        let session = Session::log_in(&cluster.client(), &ledger, user, cluster.user_password()).await;
        sessions.push(Arc::new(Mutex::new(session)));
    }
    let mut busy = Load::default();
    for session in &sessions {
        let (session, ledger) = (Arc::clone(session), Arc::clone(&ledger));
        busy.repeat(Duration::from_millis(20), move || {
            refresh_once(Arc::clone(&session), Arc::clone(&ledger))
        });
    }
    // Long enough for a scheduled rotation: statements use many connections of the server.
    let first = key_count(&cluster).await;
    wait::until("a key was announced", Duration::from_secs(30), async || {
        (key_count(&cluster).await > first).then_some(())
    })
    .await;
    wait::until("500 tokens were given out", Duration::from_secs(30), async || {
        (Volume::of(&ledger.entries()).grants >= 500).then_some(())
    })
    .await;
    revocation_reaches_a_verifier(&cluster, &ledger, &users[0]).await;
    busy.stop().await;
    let grants = Volume::of(&ledger.entries()).grants;
    assert_eq!(complaints(&cluster.logs()), "", "a quiet log");
    assert!(
        !pooler.log().contains("when not linked"),
        "nobody listens on a shared connection: {}",
        pooler.log()
    );

    pooler.kill();
    let refused = cluster.client().refresh(&sessions[0].lock().await.tokens().refresh).await;
    refused.expect("an answer").assert_status(StatusCode::SERVICE_UNAVAILABLE);
    wait::let_pass(Duration::from_secs(3)).await;
    tokio::task::block_in_place(|| pooler.start_again());
    let returned = clock::instant();
    cluster.everything_works_again(&users[1]).await;
    let recovery = returned.elapsed();
    println!("pooler: {grants} tokens, normal {recovery:?} after its return");
    assert!(recovery <= LONGEST_RECOVERY, "normal only after {recovery:?}");
    for session in &sessions {
        session.lock().await.refresh_patiently(Duration::from_secs(10)).await;
    }
    checkers::assert_hold(&ledger.entries(), &Bounds::default());
}

async fn refresh_once(session: Arc<Mutex<Session>>, ledger: Arc<Ledger>) {
    match session.lock().await.refresh().await {
        Refreshed::Done => {}
        Refreshed::Later(why) => ledger.failed(format!("told to come back: {why}")),
        Refreshed::Refused(answer) => ledger.failed(format!("session lost: {answer}")),
    }
}

async fn key_count(cluster: &Cluster) -> usize {
    let keys = cluster.admin_at(0).await.keys().await.expect("an answer").json();
    keys["keys"].as_array().expect("a list").len()
}

async fn revocation_reaches_a_verifier(cluster: &Cluster, ledger: &Arc<Ledger>, user: &str) {
    let verifier = ready_verifier(&cluster.issuer()).await;
    let session = Session::log_in(&cluster.client(), ledger, user, cluster.user_password()).await;
    let token = session.tokens().access.clone();
    verifier.verify::<NoExtra>(&token).await.expect("a good token");
    let logout = cluster.client().logout(&session.tokens().refresh).await.expect("an answer");
    logout.assert_status(StatusCode::NO_CONTENT);
    wait::until("the token is refused", Duration::from_secs(3), async || {
        verifier.verify::<NoExtra>(&token).await.err()
    })
    .await;
}

/// Log lines that report a problem.
fn complaints(log: &str) -> String {
    let lines = log.lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\""));
    lines.collect::<Vec<_>>().join("\n")
}
