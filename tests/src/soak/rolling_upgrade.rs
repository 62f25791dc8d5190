//! R14: the previous release and this one side by side on one database, under load: upgrade, downgrade, and
//! upgrade again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Run;
use super::confirmed::Confirmed;
use super::traffic::{Clients, REACH_WHEN_CUT, Rates, SIGNS_FOR, Traffic, plan, verifiers};
use crate::clock;
use crate::cluster::{Cluster, service};
use crate::ledger::Ledger;
use crate::postgres::{Database, Postgres};
use crate::process;
use crate::wait;

const REPLICAS: usize = 3;

pub(super) async fn play(run: &mut Run) {
    let mixed = Duration::from_millis(run.size.pick(1_500, 20_000));
    let short = Rates { logins: 3, refreshes: 25, verifies: 200, logouts: 2 };
    let full = Rates { logins: 10, refreshes: 100, verifies: 1000, logouts: 5 };
    let rates = run.size.pick(short, full);
    run.bounds.reach = REACH_WHEN_CUT;
    // Processes of some seconds are still in warm-up: each hashing thread keeps the 19 MiB of its last
    // password.
    run.bounds.rss_growth_kib = 64 * 1024;
    let (old, new) = (process::previous("auth-service"), service());

    let database = Postgres::shared().create_database();
    let cluster = Arc::new(Cluster::start(plan(database.url()).program(old.clone())).await);
    let clients = Clients::start(run, &cluster, rates).await;
    let verifiers = verifiers(3, &cluster).await;
    let mut traffic = Traffic::start(run, &clients, &verifiers, rates);
    run.watch(&cluster);
    traffic.watch_keys(&cluster, &run.ledger, &[0, 1, 2]);
    let (began, mut confirmed) = (clock::instant(), Confirmed::default());
    // The first new replica migrates while the old ones run, and the old ones restart on the new schema.
    for (name, program) in [("this release", &new), ("the one before", &old), ("this release", &new)] {
        roll(run, &cluster, name, program, mixed, &mut confirmed).await;
    }
    let passed = began.elapsed();
    traffic.stop().await;
    confirmed.find(run, &cluster).await;
    run.close(&cluster).await;
    run.few_failures(1.0);
    run.rotations(passed, SIGNS_FOR);
    migrate_once(&run.ledger, &old, &new).await;
}

/// Replaces one replica after the other.
async fn roll(
    run: &Run,
    cluster: &Cluster,
    name: &str,
    program: &Path,
    mixed: Duration,
    confirmed: &mut Confirmed,
) {
    for number in 0..REPLICAS {
        // The writes that one release confirmed just before its end must exist for the other.
        confirmed.make_at(run, cluster, number).await;
        run.ledger.deed(format!("replica {number} becomes {name}"));
        cluster.replace(number, program).await;
        wait::let_pass(mixed).await;
    }
}

/// Three replicas start together: on an empty database, and on a database of the previous release. Each time,
/// one of them migrates.
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

/// The number of migrations, and of the transactions that wrote them.
fn migrations(database: &Database<'_>) -> (i64, i64) {
    let answer = database.query("SELECT count(*), count(DISTINCT xmin::text) FROM schema_migrations");
    let (rows, writers) = answer.trim().split_once('|').expect("two columns");
    (rows.parse().expect("a number"), writers.parse().expect("a number"))
}
