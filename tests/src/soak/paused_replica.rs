//! R16: a replica is suspended while keys rotate and one of them is stolen, and resumes with a full queue.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::Run;
use super::stolen_key::compromise;
use super::traffic::{Clients, REACH_WHEN_CUT, Rates, Traffic, plan, verifiers};
use crate::client::Client;
use crate::clock;
use crate::cluster::Cluster;
use crate::keys;
use crate::ledger::{Call, Entry};
use crate::load::Load;
use crate::postgres::Postgres;
use crate::session::{Refreshed, Session};
use crate::wait;

const RATES: Rates = Rates { logins: 2, refreshes: 20, verifies: 200, logouts: 1 };
/// Sessions that use only the sleeper.
const FAITHFUL: usize = 16;
/// Logins that arrive while it sleeps.
const WAITING: usize = 4;
const SLEEPER: usize = 1;

pub(super) async fn play(run: &mut Run) {
    let sleep = Duration::from_secs(run.size.pick(12, 30));
    run.bounds.reach = REACH_WHEN_CUT;
    // The theft invalidates all current tokens.
    run.least_accepted_percent = 25.0;
    let database = Postgres::shared().create_database();
    let cluster = Arc::new(Cluster::start(plan(database.url())).await);
    let clients = Clients::start(run, &cluster, RATES).await;
    let verifiers = verifiers(3, &cluster).await;
    let mut traffic = Traffic::start(run, &clients, &verifiers, RATES);
    // Not the sleeper's: its responses to queued requests are as old as its sleep, and therefore have
    // `max-age=0` (K8).
    run.watch(&cluster);
    traffic.watch_keys(&cluster, &run.ledger, &[0, 2]);
    let (faithful, sessions) = faithful(run, &cluster, &clients).await;
    wait::let_pass(Duration::from_secs(1)).await;

    run.ledger.deed("the sleeper is stopped");
    cluster.pause(SLEEPER);
    let (stopped_at, asleep_from) = (clock::since_epoch(), clock::unix_seconds());
    let queue = queue(&cluster, &clients, sleep + Duration::from_secs(20));
    wait::let_pass(sleep / 2).await;
    let stolen = signing(&cluster, asleep_from).await;
    compromise(run, &cluster, &[0, 2], &stolen).await;
    wait::let_pass(sleep / 2).await;
    let woken_at = clock::since_epoch();
    cluster.resume(SLEEPER);
    run.ledger.deed("the sleeper goes on");

    // All queued requests finish or are abandoned; none waits forever.
    for (sent, login) in queue.join_all().await {
        let status = login.as_ref().map(|login| login.status);
        if run.ledger.login(sent, &login).is_none() && status.ok() != Some(StatusCode::SERVICE_UNAVAILABLE) {
            run.ledger.failed(format!("a login that waited for the sleeper: {login:?}"));
        }
    }
    wait::let_pass(Duration::from_secs(1)).await;
    faithful.stop().await;
    wait::let_pass(Duration::from_secs(1)).await;
    traffic.stop().await;
    let back = Client::new(&cluster.replicas()[SLEEPER].public_url()).get("/readyz").await;
    back.expect("an answer").assert_status(StatusCode::OK);
    for session in sessions {
        session.lock().await.refresh_patiently(Duration::from_secs(10)).await;
    }

    // The response to an earlier call may have been signed before the sleep, but sent only now.
    let waited = |entry: &&Entry| entry.sent > stopped_at && entry.answered > woken_at;
    for entry in run.ledger.entries().iter().filter(waited) {
        if signed_by(entry) == Some(&stolen) {
            run.ledger.failed(format!("signed by the stolen key after it woke: {entry:?}"));
        }
    }
    let slept = asleep_from..i64::try_from(woken_at.as_secs()).expect("fits for a very long time");
    let keys = keys::all(&cluster.admin_at(0).await).await;
    let retired = keys.iter().filter(|key| key.retires_at.is_some_and(|at| slept.contains(&at))).count();
    run.close(&cluster).await;
    run.few_failures(5.0);
    run.at_least("keys that retired while it slept", f64::from(u32::try_from(retired).unwrap_or(0)), 1.0, "");
}

/// Sessions, some of which have a request in flight at the sleeper when it is suspended.
async fn faithful(run: &Run, cluster: &Cluster, clients: &Clients) -> (Load, Vec<Arc<Mutex<Session>>>) {
    let client = Client::new(&cluster.replicas()[SLEEPER].public_url());
    let (mut load, mut sessions) = (Load::default(), Vec::new());
    for user in clients.users().iter().cycle().take(FAITHFUL) {
        let session = Session::log_in(&client, &run.ledger, user, cluster.user_password()).await;
        let session = Arc::new(Mutex::new(session));
        sessions.push(Arc::clone(&session));
        let (ledger, pool) = (Arc::clone(&run.ledger), Arc::clone(&clients.pool));
        load.repeat(Duration::ZERO, move || {
            let (session, ledger, pool) = (Arc::clone(&session), Arc::clone(&ledger), Arc::clone(&pool));
            async move {
                let mut session = session.lock().await;
                match session.refresh().await {
                    Refreshed::Done => pool.push(&session.tokens().access),
                    Refreshed::Later(_) => {}
                    Refreshed::Refused(answer) => ledger.failed(format!("session lost: {answer}")),
                }
            }
        });
    }
    (load, sessions)
}

type Login = (Duration, Result<crate::client::Answer, crate::client::Lost>);

/// Logins that wait in the sleeper's queue until it resumes, for at most `timeout`.
fn queue(cluster: &Cluster, clients: &Clients, timeout: Duration) -> JoinSet<Login> {
    let client = Client::new(&cluster.replicas()[SLEEPER].public_url()).with_timeout(timeout);
    let mut queue = JoinSet::new();
    for user in clients.users().iter().take(WAITING) {
        let (client, user, password) = (client.clone(), user.clone(), cluster.user_password());
        queue.spawn(async move { (clock::since_epoch(), client.login(&user, password).await) });
    }
    queue
}

/// The key that was active when the sleeper was suspended, with which it might continue to sign.
async fn signing(cluster: &Cluster, at: i64) -> String {
    let keys = keys::all(&cluster.admin_at(0).await).await;
    keys.into_iter().rfind(|key| key.activates_at <= at).expect("somebody signs").kid
}

fn signed_by(entry: &Entry) -> Option<&String> {
    match &entry.call {
        Call::Login(Some(grant)) | Call::Refresh { grant: Some(grant), .. } => Some(&grant.access.kid),
        _ => None,
    }
}
