//! The loops of a replica: they poll keys, revocations and settings, rotate keys, send heartbeats, and delete
//! old rows.

pub mod feed;
mod keys;
mod outage;
mod replicas;
pub mod settings;
pub mod tidy;

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::error;

use crate::entropy::Entropy;
use crate::runtime::app::App;
use tidy::Tidy;

/// Delay before a job is restarted, so that one that crashes immediately does not fill the log.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Runs all jobs until the sender of `stopped` is dropped, and then removes this replica from the list of replicas. A job that
/// panics is restarted, and does not stop the others: without them, the signing lease would expire, or the feed would stop.
pub async fn run(app: App, stopped: watch::Receiver<()>) {
    let forever = async {
        tokio::join!(
            keep_running("keys", || keys::run(app.clone())),
            keep_running("feed", || feed::run(app.feed.clone(), app.store.clone())),
            keep_running("settings", || settings::run(app.settings.clone(), app.store.clone())),
            keep_running("tidy", || Tidy::of(&app).run(app.entropy.clone())),
        )
    };
    tokio::select! {
        _ = forever => {}
        () = until_done("replicas", || replicas::run(app.clone(), stopped.clone())) => {}
    }
}

/// Runs a job until it returns.
async fn until_done<F: Future<Output = ()> + Send + 'static>(name: &str, job: impl Fn() -> F) {
    while has_crashed(name, job()).await {
        tokio::time::sleep(RESTART_DELAY).await;
    }
}

/// Runs a job once, and returns whether it panicked.
async fn has_crashed(name: &str, job: impl Future<Output = ()> + Send + 'static) -> bool {
    // Unlike a spawned task, a set of one task is aborted when it is dropped.
    let mut task = JoinSet::from_iter([job]);
    let crashed = matches!(task.join_next().await, Some(Err(_)));
    if crashed {
        error!(job = name, "a background job crashed and is restarted");
    }
    crashed
}

async fn keep_running<F: Future<Output = ()> + Send + 'static>(name: &str, job: impl Fn() -> F) {
    loop {
        has_crashed(name, job()).await;
        tokio::time::sleep(RESTART_DELAY).await;
    }
}

/// The interval with a random jitter of up to 10 %, so that replicas that start together do not poll
/// together.
fn jittered(entropy: &dyn Entropy, interval: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness there is no jitter.
    let _ = entropy.fill(&mut byte);
    interval.mul_f64(0.9 + 0.2 * f64::from(byte[0]) / 255.0)
}
