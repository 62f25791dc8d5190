//! The primary of PostgreSQL dies and its synchronous standby takes over, behind one stable address.

use std::sync::Arc;
use std::time::Duration;

use e2e::checkers::{self, Bounds, Volume};
use e2e::client::Tokens;
use e2e::clock;
use e2e::cluster::{Cluster, Plan};
use e2e::ledger::Ledger;
use e2e::load::Load;
use e2e::postgres::{Haproxy, Postgres, Stop};
use e2e::session::{Refreshed, Session};
use e2e::wait;
use http::StatusCode;
use tokio::sync::{Mutex, oneshot};

const REPLICAS: usize = 3;
const SESSIONS: usize = 16;
/// The number of logouts that are acknowledged before the primary dies; the others are in flight or follow
/// later.
const ENOUGH: usize = 4;
const LONGEST_RECOVERY: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn promoted_standby_has_every_acknowledged_write() {
    let postgres = Postgres::start();
    let database = postgres.create_database();
    let standby = postgres.start_synchronous_standby();
    let proxy = tokio::task::block_in_place(|| Haproxy::start(database.port(), standby.port()));
    let cluster = Cluster::start(Plan::new(REPLICAS, database.url_at(proxy.port()))).await;
    let users = cluster.create_users("over", 2, &["ping"]).await;
    let ledger = Arc::new(Ledger::default());
    let log_in =
        async |user: &str| Session::log_in(&cluster.client(), &ledger, user, cluster.user_password()).await;
    let mut sessions = Vec::new();
    for user in users.iter().cycle().take(SESSIONS) {
        sessions.push(Arc::new(Mutex::new(log_in(user).await)));
    }
    let mut to_end = Vec::new();
    for _ in 0..SESSIONS {
        to_end.push(log_in(&users[0]).await.tokens().clone());
    }
    let mut busy = Load::default();
    for session in &sessions {
        let (session, ledger) = (Arc::clone(session), Arc::clone(&ledger));
        busy.repeat(Duration::ZERO, move || refresh_once(Arc::clone(&session), Arc::clone(&ledger)));
    }
    wait::let_pass(Duration::from_secs(1)).await;

    // During the logouts.
    let (enough, wait_for_some) = oneshot::channel();
    let crash = tokio::spawn(async move {
        wait_for_some.await.expect("some logouts are acknowledged");
        tokio::task::block_in_place(|| postgres.stop(Stop::Kill));
        postgres
    });
    let ended = log_out(&cluster, to_end, enough).await;
    let postgres = crash.await.expect("it was stopped");
    // Now connections lead to the standby, which is read-only.
    standby_only_reads(&cluster, &sessions).await;
    tokio::task::block_in_place(|| {
        proxy.fence();
        postgres.promote(&standby);
    });
    let promoted = clock::instant();
    cluster.everything_works_again(&users[1]).await;
    let recovery = promoted.elapsed();
    busy.stop().await;
    println!(
        "failover: {} tokens, {} logouts, normal after {recovery:?}",
        Volume::of(&ledger.entries()).grants,
        ended.len()
    );
    assert!(recovery <= LONGEST_RECOVERY, "normal only after {recovery:?}");

    for session in &sessions {
        session.lock().await.refresh_patiently(Duration::from_secs(10)).await;
    }
    assert!(ended.len() >= ENOUGH, "some logouts were acknowledged");
    for tokens in &ended {
        let answer = cluster.client().refresh(&tokens.refresh).await.expect("an answer");
        answer.assert_status(StatusCode::UNAUTHORIZED);
    }
    checkers::assert_hold(&ledger.entries(), &Bounds::default());
}

/// A demoted primary still responds, but refuses writes.
#[tokio::test(flavor = "multi_thread")]
async fn replica_leaves_a_read_only_database_server() {
    let postgres = Postgres::start();
    let database = postgres.create_database();
    let cluster = Cluster::start(Plan::new(1, database.url())).await;
    let users = cluster.create_users("read", 1, &["ping"]).await;
    // Applies to connections that are opened from now on.
    database.query("ALTER ROLE auth SET default_transaction_read_only = on");
    database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'auth'");
    let client = cluster.client();
    wait::until("it is told to read only", Duration::from_secs(10), async || {
        let login = client.login(&users[0], cluster.user_password()).await.ok()?;
        login.assert_status(StatusCode::SERVICE_UNAVAILABLE);
        cluster.logs().contains("read-only transaction").then_some(())
    })
    .await;
    database.query("ALTER ROLE auth RESET default_transaction_read_only");
    let returned = clock::instant();
    cluster.everything_works_again(&users[0]).await;
    assert!(returned.elapsed() <= LONGEST_RECOVERY, "only after {:?}", returned.elapsed());
}

async fn refresh_once(session: Arc<Mutex<Session>>, ledger: Arc<Ledger>) {
    if let Refreshed::Refused(answer) = session.lock().await.refresh().await {
        ledger.failed(format!("session lost: {answer}"));
    }
}

/// Ends sessions one after another while this succeeds, and signals when [`ENOUGH`] have ended. Returns the
/// sessions with an acknowledged end.
async fn log_out(cluster: &Cluster, sessions: Vec<Tokens>, enough: oneshot::Sender<()>) -> Vec<Tokens> {
    let (mut ended, mut enough) = (Vec::new(), Some(enough));
    for tokens in sessions {
        let answer = cluster.client().logout(&tokens.refresh).await;
        if !answer.is_ok_and(|answer| answer.status == StatusCode::NO_CONTENT) {
            break;
        }
        ended.push(tokens);
        if ended.len() >= ENOUGH
            && let Some(enough) = enough.take()
        {
            enough.send(()).expect("the crash waits for it");
        }
    }
    ended
}

/// Waits until a replica has received this error from the standby.
async fn standby_only_reads(cluster: &Cluster, sessions: &[Arc<Mutex<Session>>]) {
    wait::until("a replica is connected to the standby", Duration::from_secs(20), async || {
        let shown = sessions[0].lock().await.tokens().refresh.clone();
        let answer = cluster.client().refresh(&shown).await.ok()?;
        answer.assert_status(StatusCode::SERVICE_UNAVAILABLE);
        cluster.logs().contains("read-only transaction").then_some(())
    })
    .await;
}
