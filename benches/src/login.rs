//! Password hashes per second against bare argon2, and the latency of refresh while logins saturate the
//! service.

use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use e2e::cluster::{Cluster, Plan};
use verifier::{Clock as _, SystemClock};

use crate::http::{public, sessions};
use crate::load::{self, Caller, Outcome};
use crate::{head, row, service};

const ROUND: Duration = Duration::from_secs(8);

/// Prints the table. Nothing is pinned: hashing uses every CPU.
pub(crate) async fn run() {
    head("Login");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("service.db").display());
    // All clients are the same user. With a limit, the logins would end the sessions that are being
    // refreshed.
    let plan = Plan::new(1, url).set("log", "warn").set("max_sessions_per_user", "0");
    let cluster = Cluster::start(plan).await;
    service::settle().await;

    let floor = tokio::task::spawn_blocking(move || bare_hashes(threads)).await.expect("hashes");
    let logins = || (0..threads * 2).map(|_| Login(cluster.admin_password().to_owned())).collect::<Vec<_>>();
    let ours = load::run(public(&cluster), logins(), ROUND).await;
    let (rate, bare) = (format!("{:.1}/s", ours.per_second), format!("{floor:.1}/s"));
    row("logins, as many threads as CPUs", &rate, &bare, ours.per_second / floor, "≥ 0.95");

    let idle =
        load::run(public(&cluster), sessions(&cluster).await.into_iter().take(2).collect(), ROUND).await;
    let pair = sessions(&cluster).await.into_iter().take(2).collect();
    let (busy, _) =
        tokio::join!(load::run(public(&cluster), pair, ROUND), load::run(public(&cluster), logins(), ROUND),);
    let p99 = |outcome: &Outcome| outcome.percentile(0.99);
    let ratio = p99(&busy).as_secs_f64() / p99(&idle).as_secs_f64();
    let (measured, floor) = (format!("{:.2?}", p99(&busy)), format!("{:.2?}", p99(&idle)));
    row("refresh p99, logins saturated; floor: idle p99", &measured, &floor, ratio, "≤ 3");
}

fn bare_hashes(threads: usize) -> f64 {
    let clock = SystemClock::new();
    let start = clock.monotonic();
    let hash = || {
        let argon2 =
            Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(19_456, 2, 1, None).expect("sane"));
        let mut done = 0_u32;
        while clock.monotonic().saturating_sub(start) < ROUND {
            argon2.hash_password_into(b"password", b"0123456789abcdef", &mut [0; 32]).expect("a hash");
            done += 1;
        }
        done
    };
    let done: u32 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(hash)).collect();
        threads.into_iter().map(|thread| thread.join().expect("hashes")).sum()
    });
    f64::from(done) / clock.monotonic().saturating_sub(start).as_secs_f64()
}

/// Logs in repeatedly as `admin` with this password.
pub(crate) struct Login(pub(crate) String);

impl Caller for Login {
    fn request(&mut self, out: &mut Vec<u8>) {
        let body = serde_json::json!({ "username": "admin", "password": self.0 }).to_string();
        let length = body.len();
        let head = format!(
            "POST /v1/login HTTP/1.1\r\nhost: floor\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body.as_bytes());
    }

    fn receive(&mut self, _: u16, _: &[u8]) {}
}
