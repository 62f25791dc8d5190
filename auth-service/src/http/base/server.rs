//! Accepts connections. HTTP/1.1 with limits that `axum::serve` does not have: on connections, headers and idle time.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::rt::{Sleep, Timer};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::http::base::client_address::Peer;

/// The number of connections that may be open on one listener.
const MOST_CONNECTIONS: usize = 4096;
/// How long the head of the first request may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Additional time that a connection may be idle after its first request. Longer than balancers keep idle connections, so
/// that the balancer closes first and no request is lost.
const IDLE_BONUS: Duration = Duration::from_secs(65);
/// The largest request head; a token may take 8 KiB of it.
const LARGEST_HEAD: usize = 32 * 1024;
/// How long requests in flight may take to finish after the server was stopped.
const GRACE: Duration = Duration::from_secs(30);

/// Serves `router` until `stop` resolves, then waits for the requests in flight, 30 s at most.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    allow_open_files();
    let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                let timer = ConnectionTimer::new(Arc::clone(&connections));
                let connection = graceful.watch(connection(stream, peer, router.clone(), timer));
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        debug!(%error, "a connection ended early");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                // Out of file descriptors: some must be closed first.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        warn!("requests in flight were aborted after 30 s");
    }
}

/// Raises the soft limit of open files: each connection is one. The usual soft limit of 1024 exists for programs that use
/// `select`.
fn allow_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        debug!(%error, "cannot raise the limit of open files");
    }
}

/// Waits until a connection is available, then for a client.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Responses are small and written in one piece; waiting to fill a packet would only delay them.
    stream.set_nodelay(true)?;
    Ok((stream, peer, permit))
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    timer: ConnectionTimer,
) -> hyper::server::conn::http1::Connection<
    TokioIo<TcpStream>,
    impl hyper::service::Service<
        hyper::Request<Incoming>,
        Response = axum::response::Response,
        Error = std::convert::Infallible,
        Future: Send,
    >,
> {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.clone().oneshot(request)
    });
    hyper::server::conn::http1::Builder::new()
        .timer(timer)
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service)
}

/// Gives the first head of a connection `HEAD_TIMEOUT` and later ones `IDLE_BONUS` more, unless connections are scarce.
///
/// hyper has one timeout, `header_read_timeout`, for the idle time before a head and for the head itself, and no value fits
/// both. With 10 s, we would close idle connections before a balancer does (60 s is usual), and requests that it sends on
/// them at that moment fail. With 75 s, a client could hold each of the 4096 connections for that long with an unfinished
/// head. Hence a timer of our own, which hyper asks for every deadline.
#[derive(Debug)]
struct ConnectionTimer {
    connections: Arc<Semaphore>,
    is_reused: AtomicBool,
}

impl ConnectionTimer {
    fn new(connections: Arc<Semaphore>) -> Self {
        Self { connections, is_reused: AtomicBool::new(false) }
    }

    fn deadline(&self, asked: Instant) -> Instant {
        let is_reused = self.is_reused.swap(true, Ordering::Relaxed);
        if is_reused && self.connections.available_permits() > MOST_CONNECTIONS / 4 {
            asked + IDLE_BONUS
        } else {
            asked
        }
    }
}

impl Timer for ConnectionTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        TokioTimer::new().sleep(duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        TokioTimer::new().sleep_until(self.deadline(deadline))
    }

    fn now(&self) -> Instant {
        TokioTimer::new().now()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: Instant) {
        TokioTimer::new().reset(sleep, self.deadline(new_deadline));
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;

    use super::*;

    const ONCE: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    const SLOW: &str = "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";

    struct Running {
        address: SocketAddr,
        stop: Arc<Notify>,
        /// The handler of `/slow` returns when this is notified.
        release: Arc<Notify>,
        server: tokio::task::JoinHandle<()>,
    }

    async fn running() -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (stopped, released) = (Arc::clone(&stop), Arc::clone(&release));
        let slow = async move || {
            released.notified().await;
            "late"
        };
        let router = Router::new().route("/", get(async || "ok")).route("/slow", get(slow));
        let server = tokio::spawn(serve(listener, router, async move { stopped.notified().await }));
        Running { address, stop, release, server }
    }

    async fn send(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        // A reset shows as well as an end that the server has closed the connection.
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    #[tokio::test]
    async fn a_connection_serves_several_requests() {
        let running = running().await;
        let mut stream = send(running.address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut buffer = [0; 1024];
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        stream.write_all(ONCE.as_bytes()).await.unwrap();
        assert!(rest(&mut stream).await.ends_with("\r\n\r\nok"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unfinished_head_is_dropped_after_ten_seconds() {
        let running = running().await;
        let started = tokio::time::Instant::now();
        let mut stream = send(running.address, "GET / HTTP/1.1\r\nhost: x\r\n").await;
        assert!(!rest(&mut stream).await.contains("200"));
        let took = started.elapsed();
        assert!((HEAD_TIMEOUT..HEAD_TIMEOUT + Duration::from_secs(2)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_stays_open_longer_than_at_balancers() {
        let running = running().await;
        let mut stream = send(running.address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let started = tokio::time::Instant::now();
        assert!(rest(&mut stream).await.ends_with("ok"));
        assert!(started.elapsed() > Duration::from_mins(1), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_too_large_head_is_refused() {
        let running = running().await;
        let head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(LARGEST_HEAD));
        let mut stream = send(running.address, &head).await;
        assert!(rest(&mut stream).await.starts_with("HTTP/1.1 431"));
    }

    #[tokio::test]
    async fn a_request_in_flight_finishes_before_the_server_stops() {
        let running = running().await;
        let mut stream = send(running.address, SLOW).await;
        // An idle connection does not delay the stop.
        let _idle = send(running.address, "").await;
        // Another response has arrived, so the slow request has been accepted.
        rest(&mut send(running.address, ONCE).await).await;
        running.stop.notify_one();
        while TcpStream::connect(running.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!running.server.is_finished());
        running.release.notify_one();
        assert!(rest(&mut stream).await.ends_with("late"));
        running.server.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_end_is_aborted_after_thirty_seconds() {
        let running = running().await;
        let _stream = send(running.address, SLOW).await;
        rest(&mut send(running.address, ONCE).await).await;
        running.stop.notify_one();
        let started = tokio::time::Instant::now();
        running.server.await.unwrap();
        assert!(started.elapsed() >= GRACE);
    }
}
