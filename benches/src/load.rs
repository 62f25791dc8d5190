//! Keep-alive clients. Each sends its next request when the previous response has arrived, and does as little
//! work as possible.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use verifier::{Clock as _, SystemClock};

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Responses per second with a status below 300.
    pub(crate) per_second: f64,
    /// Responses with another status.
    pub(crate) failures: usize,
    /// Times from request to response, sorted.
    latencies: Vec<Duration>,
}

impl Outcome {
    /// The latency that this share of the requests does not exceed.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a percentile of some thousand values"
        )]
        let index = ((self.latencies.len() as f64 - 1.0) * share).round() as usize;
        self.latencies.get(index).copied().unwrap_or_default()
    }
}

/// One connection. It makes the next request from the body of the previous response.
pub(crate) trait Caller: Send + 'static {
    /// Writes the next request.
    fn request(&mut self, out: &mut Vec<u8>);
    /// Processes a response.
    fn receive(&mut self, status: u16, body: &[u8]);
}

/// Runs the callers in parallel for `duration`.
pub(crate) async fn run<C: Caller>(address: SocketAddr, callers: Vec<C>, duration: Duration) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let clock = Arc::new(SystemClock::new());
    let tasks: Vec<_> = callers
        .into_iter()
        .map(|caller| tokio::spawn(call(address, caller, Arc::clone(&stop), Arc::clone(&clock))))
        .collect();
    let start = clock.monotonic();
    tokio::time::sleep(duration).await;
    stop.store(true, Ordering::Relaxed);
    let (mut latencies, mut failures) = (Vec::new(), 0);
    for task in tasks {
        let (mut times, failed) = task.await.expect("a caller panicked");
        latencies.append(&mut times);
        failures += failed;
    }
    let took = clock.monotonic().saturating_sub(start);
    latencies.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "a rate of some thousand requests")]
    let per_second = latencies.len() as f64 / took.as_secs_f64();
    Outcome { per_second, failures, latencies }
}

async fn call<C: Caller>(
    address: SocketAddr,
    mut caller: C,
    stop: Arc<AtomicBool>,
    clock: Arc<SystemClock>,
) -> (Vec<Duration>, usize) {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.set_nodelay(true).expect("a TCP option");
    let (mut out, mut input) = (Vec::new(), Vec::new());
    let (mut latencies, mut failures) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        out.clear();
        caller.request(&mut out);
        let sent = clock.monotonic();
        stream.write_all(&out).await.expect("the connection holds");
        let (status, body) = read(&mut stream, &mut input).await;
        if status < 300 {
            latencies.push(clock.monotonic().saturating_sub(sent));
        } else {
            failures += 1;
        }
        caller.receive(status, &input[body..]);
    }
    (latencies, failures)
}

/// Reads one response with a `content-length`. Returns its status and the position of its body.
async fn read(stream: &mut TcpStream, input: &mut Vec<u8>) -> (u16, usize) {
    input.clear();
    loop {
        if let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = std::str::from_utf8(&input[..end]).expect("an ASCII head").to_ascii_lowercase();
            let status = head.get(9..12).and_then(|digits| digits.parse().ok()).expect("a status");
            let length = head.split("content-length: ").nth(1).map_or(0, |rest| {
                rest.split("\r\n").next().and_then(|digits| digits.parse().ok()).expect("a length")
            });
            while input.len() < end + 4 + length {
                assert_ne!(stream.read_buf(input).await.expect("the connection holds"), 0, "closed");
            }
            return (status, end + 4);
        }
        assert_ne!(stream.read_buf(input).await.expect("the connection holds"), 0, "closed");
    }
}
