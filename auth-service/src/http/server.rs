//! Accepts connections. HTTP/1.1 with limits that `axum::serve` does not have: on connections, on headers, on silence.

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

use super::client_address::Peer;

/// Connections that may be open on one listener.
const MOST_CONNECTIONS: usize = 4096;
/// How long the first request's head may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How much longer a connection may be idle after its first request: longer than balancers keep theirs, so that they close
/// first and no request is lost.
const IDLE_BONUS: Duration = Duration::from_secs(65);
/// The largest request head; a token may take 8 KiB of it.
const LARGEST_HEAD: usize = 32 * 1024;
/// How long requests in flight may take to finish when the server stops.
const GRACE: Duration = Duration::from_secs(30);

/// Serves `router` until `stop` resolves, then lets the requests in flight finish, for 30 s at most.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
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
                warn!(%error, "a connection cannot be accepted");
                // Out of file descriptors: some must be closed first.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        warn!("requests were cut off after 30 s");
    }
}

/// Waits for room, then for a client.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Answers are small and whole; waiting to fill a packet would only delay them.
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

/// Hyper has one timeout for the head and for the silence before it. This timer gives the first head `HEAD_TIMEOUT` and
/// the later ones `IDLE_BONUS` more, unless connections are running out.
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

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: Instant) {
        TokioTimer::new().reset(sleep, self.deadline(new_deadline));
    }
}
