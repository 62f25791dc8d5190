//! An application without token support: it returns the request that reached it, and echoes over upgraded
//! connections.

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The accept value for [`EXAMPLE_KEY`], which some front ends check (RFC 6455 §1.3).
const EXAMPLE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// The only key with which clients request an upgrade.
pub const EXAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// One replica, in this process. It ends when dropped.
#[derive(Debug)]
pub struct Plain {
    sockets: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Plain {
    /// Listens on `address` as replica `number`, which it returns in `x-replica`.
    pub async fn start(number: usize, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("an address of this site");
        let sockets = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, number, Arc::clone(&sockets)));
        Self { sockets, _tasks: tasks }
    }

    /// The number of open upgraded connections.
    pub fn sockets(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, number: usize, sockets: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(serve(stream, number, Arc::clone(&sockets)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, number: usize, sockets: Arc<AtomicUsize>) {
    let service = service_fn(|request| ready(Ok::<_, Infallible>(answer(request, number, &sockets))));
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // An error here means that the client disconnected.
    drop(connection.with_upgrades().await);
}

fn answer(
    mut request: Request<Incoming>,
    number: usize,
    sockets: &Arc<AtomicUsize>,
) -> Response<Full<Bytes>> {
    let is_upgrade = request.headers().get(header::UPGRADE).is_some_and(|to| to == "websocket");
    if is_upgrade {
        tokio::spawn(echo(hyper::upgrade::on(&mut request), Arc::clone(sockets)));
        let answer = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_ACCEPT, EXAMPLE_ACCEPT)
            .header("x-replica", number);
        return answer.body(Full::default()).expect("fixed headers");
    }
    let mut headers = Map::new();
    for (name, value) in request.headers() {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let values = headers.entry(name.as_str()).or_insert_with(|| json!([]));
        values.as_array_mut().expect("made above").push(Value::from(value));
    }
    let seen = json!({ "path": request.uri().path(), "headers": headers });
    Response::new(Full::from(seen.to_string()))
}

/// Echoes until the other side closes.
async fn echo(upgrade: OnUpgrade, sockets: Arc<AtomicUsize>) {
    let Ok(upgraded) = upgrade.await else { return };
    sockets.fetch_add(1, Ordering::Relaxed);
    let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
    drop(tokio::io::copy(&mut from, &mut to).await);
    sockets.fetch_sub(1, Ordering::Relaxed);
}
