//! R14: the release before and this one side by side on one database, under load: up, down, and up again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Run;
use super::traffic::{Clients, REACH_WHEN_CUT, Rates, Traffic, plan, verifiers};
use crate::cluster::{Cluster, service};
use crate::ledger::Ledger;
use crate::postgres::{Database, Postgres};
use crate::process;
use crate::wait;

const REPLICAS: usize = 3;

pub(super) async fn play(run: &mut Run) {
    let mixed = Duration::from_secs(run.size.pick(1, 20));
    let short = Rates { logins: 3, refreshes: 40, verifies: 200, logouts: 2 };
    let full = Rates { logins: 10, refreshes: 100, verifies: 1000, logouts: 5 };
    let rates = run.size.pick(short, full);
    run.bounds.reach = REACH_WHEN_CUT;
    let (old, new) = (process::previous("auth-service"), service());

    let database = Postgres::shared().create_database();
    let cluster = Arc::new(Cluster::start(plan(database.url()).program(old.clone())).await);
    let clients = Clients::start(run, &cluster, 60).await;
    let verifiers = verifiers(3, &cluster).await;
    let mut traffic = Traffic::start(run, &clients, &verifiers, rates);
    traffic.watch(&cluster, &run.ledger, &[0, 1, 2]);
    // The first new replica migrates under the eyes of the old ones, and the old ones start again on the new schema.
    for (name, program) in [("this release", &new), ("the one before", &old), ("this release", &new)] {
        roll(run, &cluster, name, program, mixed).await;
    }
    traffic.stop().await;
    run.close(&cluster).await;
    run.few_failures(1.0);
    migrate_once(&run.ledger, &old, &new).await;
}

/// Replaces one replica after the other.
async fn roll(run: &Run, cluster: &Cluster, name: &str, program: &Path, mixed: Duration) {
    for number in 0..REPLICAS {
        run.ledger.deed(format!("replica {number} becomes {name}"));
        cluster.replace(number, program).await;
        wait::let_pass(mixed).await;
    }
}

/// Three replicas start at once: on an empty database, and on what the release before has left. Each time one of them migrates.
async fn migrate_once(ledger: &Ledger, old: &Path, new: &Path) {
    let database = Postgres::shared().create_database();
    let cluster = Cluster::start(plan(database.url()).program(old.to_owned())).await;
    cluster.stop_all().await;
    let (rows, writers) = migrations(&database);
    if writers != 1 {
        ledger.failed(format!("{writers} of three starters migrated an empty database"));
    }
    cluster.start_all(new).await;
    let (rows_after, writers_after) = migrations(&database);
    if writers_after - writers != i64::from(rows_after > rows) {
        ledger.failed(format!("{rows} to {rows_after} migrations by {} starters", writers_after - writers));
    }
}

/// How many migrations there are, and how many transactions wrote them.
fn migrations(database: &Database<'_>) -> (i64, i64) {
    let answer = database.query("SELECT count(*), count(DISTINCT xmin::text) FROM schema_migrations");
    let (rows, writers) = answer.trim().split_once('|').expect("two columns");
    (rows.parse().expect("a number"), writers.parse().expect("a number"))
}
