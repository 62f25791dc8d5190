//! R19: clients that send a byte a second, and clients that send far too much, together with ordinary ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Run;
use super::run::sample;
use super::traffic::{Clients, Rates, Traffic, plan, verifiers};
use crate::clock;
use crate::cluster::Cluster;
use crate::histogram::Histogram;
use crate::ledger::{Call, Entry};
use crate::postgres::Postgres;
use crate::rude;
use crate::wait;

const RATES: Rates = Rates { logins: 2, refreshes: 50, verifies: 200, logouts: 1 };
/// A slow client must be disconnected after this time.
const LONGEST_LIFE: Duration = Duration::from_secs(15);
/// The tolerance of a percentile of few calls on a small machine.
const LEAST_P99: Duration = Duration::from_millis(50);
const MOST_KIB: u64 = 64 * 1024;
const TOO_MUCH: usize = 16 * 1024 * 1024;
/// The time in which the slow clients connect.
const OPENING: Duration = Duration::from_secs(2);
const GREEDY: u32 = 12;
const GREEDY_EVERY: Duration = Duration::from_millis(500);

/// The behaviour of a slow client: its first bytes, and the one that it repeats.
const SLOW: [(&str, u8); 3] = [
    ("GET /livez HTTP/1.1\r\nhost: x\r\nx-slow: ", b'a'),
    (
        "POST /v1/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{",
        b' ',
    ),
    ("G", b'E'),
];

pub(super) async fn play(run: &mut Run) {
    let (sockets, calm) = run.size.pick((300, 6), (2000, 30));
    let database = Postgres::shared().create_database();
    let cluster = Arc::new(Cluster::start(plan(database.url())).await);
    let clients = Clients::start(run, &cluster, RATES).await;
    let verifiers = verifiers(3, &cluster).await;

    let traffic = Traffic::start(run, &clients, &verifiers, RATES);
    wait::let_pass(Duration::from_secs(calm)).await;
    traffic.pause().await;
    let calm = run.counts("refresh").ok;
    sample(&cluster, &run.ledger);
    let memory_before = most_memory(&run.ledger.entries());

    run.watch(&cluster);
    // No call is refused while the slow clients connect, either; latencies count when all of them are
    // connected.
    let traffic = Traffic::start(run, &clients, &verifiers, RATES);
    let siege = Siege::begin(&cluster, sockets);
    wait::let_pass(OPENING).await;
    traffic.pause().await;
    let traffic = Traffic::start(run, &clients, &verifiers, RATES);
    let lives = siege.end().await;
    traffic.stop().await;
    let beset = run.counts("refresh").ok;
    let memory = most_memory(&run.ledger.entries());
    run.close(&cluster).await;
    run.few_failures(0.0);
    run.within("longest life of a slow client", lives.max(), LONGEST_LIFE);
    let limit = (calm.percentile(99.0) * 2).max(LEAST_P99);
    run.within("p99 of a refresh meanwhile", beset.percentile(99.0), limit);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    run.at_most("memory on top", memory.saturating_sub(memory_before) as f64, MOST_KIB as f64, "KiB");
}

/// Slow and greedy clients at all replicas.
struct Siege {
    slow: JoinSet<Duration>,
    greedy: JoinSet<()>,
}

impl Siege {
    /// The slow ones connect evenly spread over [`OPENING`], and so do their bytes every second: independent
    /// clients do not all send in the same millisecond.
    fn begin(cluster: &Cluster, sockets: usize) -> Self {
        let addresses: Vec<SocketAddr> =
            cluster.replicas().iter().map(|replica| replica.address("public")).collect();
        let (mut slow, mut greedy) = (JoinSet::new(), JoinSet::new());
        for number in 0..sockets {
            let (address, (start, drop)) =
                (addresses[number % addresses.len()], SLOW[number / 3 % SLOW.len()]);
            let comes = OPENING.mul_f64(super::run::number(number) / super::run::number(sockets));
            slow.spawn(async move {
                wait::let_pass(comes).await;
                trickle(address, start, drop).await
            });
        }
        let flood = Arc::new(flood());
        for number in 0..GREEDY {
            let (address, flood) = (addresses[greedy.len() % addresses.len()], Arc::clone(&flood));
            greedy.spawn(async move {
                wait::let_pass(GREEDY_EVERY * number).await;
                pour(address, &flood).await;
            });
        }
        Self { slow, greedy }
    }

    /// Waits until all are disconnected, and returns how long the slow ones were connected.
    async fn end(self) -> Histogram {
        let mut lives = Histogram::default();
        self.slow.join_all().await.into_iter().for_each(|life| lives.record(life));
        self.greedy.join_all().await;
        lives
    }
}

/// Sends `start` and then `drop` each second until the other side closes, and returns how long that took.
async fn trickle(address: SocketAddr, start: &str, drop: u8) -> Duration {
    let began = clock::instant();
    let mut stream = TcpStream::connect(address).await.expect("the service listens");
    let mut buffer = [0; 1024];
    let mut next = start.as_bytes().to_vec();
    while began.elapsed() < 2 * LONGEST_LIFE {
        if stream.write_all(&next).await.is_err() {
            break;
        }
        next = vec![drop];
        let heard = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut buffer)).await;
        // The end, or a reset; a response is read until the end.
        if matches!(heard, Ok(Ok(0) | Err(_))) {
            break;
        }
    }
    began.elapsed()
}

/// A request with a body that is far too large.
fn flood() -> Vec<u8> {
    let head = format!(
        "POST /v1/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {TOO_MUCH}\r\n\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + TOO_MUCH, b' ');
    bytes
}

/// Sends it; it must be refused.
async fn pour(address: SocketAddr, flood: &[u8]) {
    let reply = rude::send(address, flood).await;
    // The service may close before the request is complete.
    assert!(matches!(reply.status, None | Some(413)), "{reply:?}");
}

/// The maximum memory of one replica.
fn most_memory(entries: &[Entry]) -> u64 {
    let used = entries.iter().filter_map(|entry| match entry.call {
        Call::Process { rss_kib, .. } => Some(rss_kib),
        _ => None,
    });
    used.max().unwrap_or_default()
}
