//! R15: fifty operators at three replicas request a rotation at the moment in which one is due for the
//! replicas' jobs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;

use super::Run;
use super::traffic::{Clients, Rates, Traffic, hurried, plan, verifiers};
use crate::client::{Answer, Client, Lost};
use crate::clock;
use crate::cluster::Cluster;
use crate::keys::{self, Key};
use crate::ledger::Ledger;
use crate::postgres::Postgres;
use crate::wait;

const OPERATORS: usize = 50;
const RATES: Rates = Rates { logins: 1, refreshes: 20, verifies: 200, logouts: 1 };

pub(super) async fn play(run: &mut Run) {
    let rounds: u32 = run.size.pick(3, 40);
    run.bounds.lead = Duration::from_millis(3750);
    let database = Postgres::shared().create_database();
    let cluster = Arc::new(Cluster::start(hurried(plan(database.url()))).await);
    let clients = Clients::start(run, &cluster, RATES).await;
    let verifiers = verifiers(3, &cluster).await;
    let mut traffic = Traffic::start(run, &clients, &verifiers, RATES);
    run.watch(&cluster);
    traffic.watch_keys(&cluster, &run.ledger, &[0, 1, 2]);

    let (mut by_operators, mut announced) = (0_u32, BTreeSet::new());
    for _ in 0..rounds {
        let newest = newest(&cluster).await;
        // One login for all, before the race: a token is valid at every replica.
        let admin = cluster.admin_at(0).await;
        activation(&newest).await;
        let won = race(&cluster, &admin, &run.ledger).await;
        if won.len() > 1 || won.iter().any(|generation| !announced.insert(*generation)) {
            run.ledger.failed(format!("one round announced {won:?}"));
        }
        by_operators += u32::from(!won.is_empty());
        let after = self::newest(&cluster).await.generation;
        if after != newest.generation + 1 {
            run.ledger
                .failed(format!("generation {} was followed by {after} in one round", newest.generation));
        }
    }
    traffic.stop().await;
    run.close(&cluster).await;
    run.few_failures(0.0);
    run.at_least("rounds that an operator won", f64::from(by_operators), f64::from(rounds) * 0.1, "");
}

/// The generations announced by fifty parallel calls.
async fn race(cluster: &Cluster, admin: &Client, ledger: &Ledger) -> Vec<i64> {
    let mut calls = JoinSet::new();
    for operator in 0..OPERATORS {
        let replica = &cluster.replicas()[operator % cluster.replicas().len()];
        // A connection of its own, so that they do not wait for each other.
        let client: Client = admin.at_address(&replica.admin_url());
        calls.spawn(async move { client.rotate().await });
    }
    let answers = calls.join_all().await;
    answers.into_iter().filter_map(|answer| announced(answer, ledger)).collect()
}

fn announced(answer: Result<Answer, Lost>, ledger: &Ledger) -> Option<i64> {
    match answer {
        Ok(answer) if answer.status == StatusCode::CREATED => answer.json()["key"]["generation"].as_i64(),
        Ok(answer) if answer.code() == "rotation_pending" => None,
        Ok(answer) => {
            ledger.failed(format!("rotation: {answer}"));
            None
        }
        Err(lost) => {
            ledger.failed(format!("rotation: {}", lost.why));
            None
        }
    }
}

async fn newest(cluster: &Cluster) -> Key {
    keys::all(&cluster.admin_at(0).await).await.pop().expect("a key")
}

/// Waits for the second in which `key` starts to sign and its successor may be announced.
async fn activation(key: &Key) {
    let at = Duration::from_secs(key.activates_at.try_into().expect("after 1970"));
    wait::let_pass(at.saturating_sub(clock::since_epoch())).await;
}
