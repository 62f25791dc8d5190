//! Memory when idle, time from start to the first token, size of the binary.

use verifier::{Clock as _, SystemClock};

use crate::service::{resident_mib, settle};
use crate::{head, median, row};

const STARTS: usize = 9;

/// Prints the table.
#[expect(clippy::cast_precision_loss, reason = "a size in MiB")]
pub(crate) async fn run() {
    head("Footprint on SQLite; the floor is the aim");
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("service.db").display());
    let cluster = e2e::cluster::Cluster::start(e2e::cluster::Plan::new(1, url)).await;
    settle().await;
    // Measured after a second start, because the first one hashes a password.
    cluster.kill(0);
    cluster.restart(0).await;
    settle().await;
    let memory = resident_mib(cluster.replicas()[0].id());
    row("idle memory", &format!("{memory:.1} MiB"), "17 MiB", memory / 17.0, "≤ 1");

    // A refresh is the first token that needs no password hash.
    let mut times = Vec::new();
    let mut token = cluster
        .client()
        .login(e2e::cluster::ADMIN, cluster.admin_password())
        .await
        .expect("a response")
        .tokens()
        .refresh;
    let clock = SystemClock::new();
    for _ in 0..STARTS {
        cluster.kill(0);
        let start = clock.monotonic();
        cluster.restart(0).await;
        let answer = cluster.client().refresh(&token).await.expect("a response");
        times.push(clock.monotonic().saturating_sub(start).as_secs_f64() * 1e3);
        token = answer.tokens().refresh;
    }
    let first = median(times);
    row("start to first token", &format!("{first:.0} ms"), "100 ms", first / 100.0, "≤ 1");

    let size = std::fs::metadata(e2e::cluster::service()).expect("the binary").len() as f64 / 1_048_576.0;
    println!("| size of the binary | {size:.1} MiB | | | |");
}
