//! Measures whether one process uses all CPUs: one process on one CPU, one on all CPUs, and one process per
//! CPU.
//!
//! The clients and the database share the CPUs with the service. Besides requests per second, the table
//! therefore shows the CPU time that the service itself used, in total and per request. A request must not
//! cost more CPU time because the threads of one process block each other.

use std::time::Duration;

use e2e::cluster::{ADMIN, Cluster, Plan};
use e2e::postgres::Postgres;
use verifier::{Clock as _, SystemClock};

use crate::http::{CALLERS, Plain, Session, sessions};
use crate::load::{self, Caller};
use crate::login::Login;
use crate::{median, service};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);

/// One measurement.
#[derive(Clone, Copy)]
struct Run {
    per_second: f64,
    /// CPUs that the service kept busy.
    cpus: f64,
}

/// The processes, and the CPUs of each.
struct Arrangement<'a> {
    cluster: &'a Cluster,
    cpus: Vec<String>,
}

/// Prints the table.
pub(crate) async fn run() {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "\nOne process on 1 CPU, one on all {count}, and {count} pinned to one each; clients and PostgreSQL unpinned"
    );
    println!("\n| what | 1 CPU | all CPUs | a process each | all / 1 | all / each | CPU time, all / each |");
    println!("|---|---|---|---|---|---|---|");

    let postgres = tokio::task::spawn_blocking(Postgres::start).await.expect("PostgreSQL starts");
    let databases = [postgres.create_database(), postgres.create_database()];
    let plan = |replicas, url| Plan::new(replicas, url).set("log", "warn").set("max_sessions_per_user", "0");
    let alone = Cluster::start(plan(1, databases[0].url())).await;
    // By default, each process would use all CPUs for hashing; together they must not run more hashes than
    // the single process.
    let each = Cluster::start(plan(count, databases[1].url()).set("hash_permits", "1")).await;
    let arrangements = [
        Arrangement { cluster: &alone, cpus: vec!["0".to_owned()] },
        Arrangement { cluster: &alone, cpus: vec![format!("0-{}", count - 1)] },
        Arrangement { cluster: &each, cpus: (0..count).map(|cpu| cpu.to_string()).collect() },
    ];
    service::settle().await;

    measure("JWKS", &arrangements, async |_| get("/.well-known/jwks.json", "")).await;
    measure("forward auth, `/v1/verify`", &arrangements, async |cluster| {
        let login = cluster.client().login(ADMIN, cluster.admin_password()).await.expect("a response");
        get("/v1/verify", &format!("authorization: Bearer {}\r\n", login.tokens().access))
    })
    .await;
    measure("refresh, PostgreSQL", &arrangements, async |cluster| -> Vec<Session> {
        sessions(cluster).await
    })
    .await;
    measure("login", &arrangements, async |cluster| {
        (0..CALLERS / 2).map(|_| Login(cluster.admin_password().to_owned())).collect()
    })
    .await;
}

fn get(path: &str, headers: &str) -> Vec<Plain> {
    (0..CALLERS).map(|_| Plain::get_with(path, headers)).collect()
}

/// The three arrangements alternate, so that a slow minute of the machine affects all of them.
async fn measure<C: Caller>(
    what: &str,
    arrangements: &[Arrangement<'_>; 3],
    callers: impl AsyncFn(&Cluster) -> Vec<C>,
) {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut runs = Vec::new();
        for arrangement in arrangements {
            runs.push(arrangement.measure(callers(arrangement.cluster).await).await);
        }
        rounds.push(runs);
    }
    let middle = |value: &dyn Fn(&[Run]) -> f64| median(rounds.iter().map(|runs| value(runs)).collect());
    let shown = |number: usize| {
        let (rate, cpus) = (middle(&|runs| runs[number].per_second), middle(&|runs| runs[number].cpus));
        format!("{rate:.0}/s, {cpus:.2} CPUs")
    };
    let cost = |run: Run| run.cpus / run.per_second;
    println!(
        "| {what} | {} | {} | {} | {:.2} | {:.2} | {:.2} |",
        shown(0),
        shown(1),
        shown(2),
        middle(&|runs| runs[1].per_second / runs[0].per_second),
        middle(&|runs| runs[1].per_second / runs[2].per_second),
        middle(&|runs| cost(runs[1]) / cost(runs[2])),
    );
}

impl Arrangement<'_> {
    async fn measure<C: Caller>(&self, mut callers: Vec<C>) -> Run {
        let replicas = self.cluster.replicas();
        for (replica, cpus) in replicas.iter().zip(&self.cpus) {
            service::pin(replica.id(), cpus);
        }
        let used = || replicas.iter().map(|replica| service::cpu_time(replica.id())).sum::<Duration>();
        let (clock, before) = (SystemClock::new(), used());
        let share = callers.len() / replicas.len();
        let mut loads = tokio::task::JoinSet::new();
        for replica in replicas {
            loads.spawn(load::run(replica.address("public"), callers.drain(..share).collect(), ROUND));
        }
        let outcomes = loads.join_all().await;
        let (used, took) = (used().saturating_sub(before), clock.monotonic());
        assert!(outcomes.iter().all(|outcome| outcome.failures == 0), "every request succeeds");
        let per_second = outcomes.iter().map(|outcome| outcome.per_second).sum();
        Run { per_second, cpus: used.as_secs_f64() / took.as_secs_f64() }
    }
}
