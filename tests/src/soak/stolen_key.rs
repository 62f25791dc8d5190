//! R6: the active key is stolen repeatedly, with twenty connected verifiers.

use std::sync::Arc;
use std::time::Duration;

use verifier::{NoExtra, Reason, Verifier, VerifyError};

use super::Run;
use super::traffic::{Clients, Rates, Traffic, plan, verifiers};
use crate::clock;
use crate::cluster::Cluster;
use crate::histogram::Histogram;
use crate::jwt::Peek;
use crate::ledger::{Call, Outcome};
use crate::postgres::Postgres;
use crate::wait;

const VERIFIERS: usize = 20;
const RATES: Rates = Rates { logins: 2, refreshes: 25, verifies: 400, logouts: 1 };
/// The resolution of the measured time of a refusal.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// A heartbeat of the feed, and 5 s.
const LONGEST_REACH: Duration = Duration::from_secs(2 + 5);

pub(super) async fn play(run: &mut Run) {
    let compromises = run.size.pick(3, 15);
    run.bounds.reach = LONGEST_REACH;
    // Each theft invalidates all current tokens.
    run.least_accepted_percent = 10.0;
    let database = Postgres::shared().create_database();
    let cluster = Arc::new(Cluster::start(plan(database.url())).await);
    let clients = Clients::start(run, &cluster, RATES).await;
    let verifiers = verifiers(VERIFIERS, &cluster).await;
    let mut traffic = Traffic::start(run, &clients, &verifiers, RATES);
    run.watch(&cluster);
    traffic.watch_keys(&cluster, &run.ledger, &[0, 1, 2]);

    let mut reach = Histogram::default();
    for _ in 0..compromises {
        wait::let_pass(Duration::from_secs(3)).await;
        let stolen = wait::until("a thief has a token", Duration::from_secs(20), async || {
            let login = cluster.client().login(&clients.users()[0], cluster.user_password()).await;
            Some(login.ok()?.find_tokens()?.access)
        })
        .await;
        compromise(run, &cluster, &[0, 1, 2], &Peek::into(&stolen).kid).await;
        let acknowledged_at = clock::instant();
        for verifier in &verifiers {
            wait::until("a verifier refuses the key", Duration::from_secs(30), async || {
                tokio::time::sleep(LOOK_INTERVAL).await;
                refuses(verifier, &stolen).then_some(())
            })
            .await;
            reach.record(acknowledged_at.elapsed());
        }
    }
    traffic.stop().await;
    run.close(&cluster).await;
    run.few_failures(1.0);
    run.within("from the answer to the last refusal", reach.max(), LONGEST_REACH);
    run.within("p50 of that", reach.percentile(50.0), Duration::from_secs(1));
}

/// Reports the key as compromised at any of `replicas`.
pub(super) async fn compromise(run: &Run, cluster: &Cluster, replicas: &[usize], kid: &str) {
    let admin = cluster.admin_at(replicas[run.random.below(replicas.len())]).await;
    let sent = clock::since_epoch();
    let path = format!("/admin/v1/keys/{kid}/compromise");
    let answer = admin.post(&path, &serde_json::json!({})).await;
    run.ledger.write(sent, Outcome::of(&answer), Call::Compromise { kid: kid.to_owned() });
    assert_eq!(Outcome::of(&answer), Outcome::Ok);
}

fn refuses(verifier: &Verifier, token: &str) -> bool {
    let answer = verifier.verify_now::<NoExtra>(token);
    matches!(answer, Err(VerifyError::Invalid(Reason::RevokedKey | Reason::UnknownKey)))
}
