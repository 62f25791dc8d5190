//! A round-robin HTTP proxy in this process that injects faults on demand.
//!
//! It routes as docs/operator-guide.md, "Health checks", requires of a real one: a replica that is not ready
//! gets no issuing calls, and requests that need only a live process (`/.well-known/*`) go to any live one if
//! none is ready. A request that could not be delivered goes to the next replica; a delivered one is never
//! sent again, unless it is a GET. A stream of events passes through without buffering.

mod backend;
mod faults;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend::Backend;
use faults::Faults;
pub use faults::{Fault, Share};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A request header with which a client chooses the replica, by number.
pub const PICK: HeaderName = HeaderName::from_static("x-test-replica");
/// A response header with the number of the replica that served the request.
pub const SERVED_BY: HeaderName = HeaderName::from_static("x-test-served-by");

const HEALTH_PERIOD: Duration = Duration::from_millis(200);
const ISSUE_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// A running proxy. It ends when dropped.
#[derive(Debug)]
pub struct Balancer {
    routes: Arc<Routes>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Routes {
    backends: Mutex<Backends>,
    faults: Faults,
    is_frozen: watch::Sender<bool>,
}

/// A whole response, or a stream of events.
type Relayed = Either<Full<Bytes>, Channel<Bytes, Dropped>>;

#[derive(Debug, Default)]
struct Backends {
    all: Vec<Arc<Backend>>,
    next: usize,
}

impl Balancer {
    /// Listens on a free port of the loopback interface, without replicas.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let routes = Arc::new(Routes {
            backends: Mutex::default(),
            faults: Faults::default(),
            is_frozen: watch::Sender::new(false),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&routes)));
        tasks.spawn(watch_health(Arc::clone(&routes)));
        Self { routes, address, _tasks: tasks }
    }

    /// `http://127.0.0.1:PORT`, the address for clients, and the issuer.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the address of replica `number`. Replicas are numbered from 0 without a gap.
    pub fn set_backend(&self, number: usize, address: SocketAddr) {
        let mut backends = self.routes.lock();
        let backend = Arc::new(Backend::new(number, address));
        match backends.all.get_mut(number) {
            Some(place) => *place = backend,
            None => backends.all.push(backend),
        }
    }

    /// Takes replica `number` out of the rotation, or returns it.
    pub fn set_in_rotation(&self, number: usize, in_rotation: bool) {
        self.routes.lock().all[number].set_in_rotation(in_rotation);
    }

    /// The number of responses of each replica through this proxy.
    pub fn answers(&self) -> Vec<usize> {
        self.routes.lock().all.iter().map(|backend| backend.answers()).collect()
    }

    /// Injects `fault` into a `share` of the requests to `path`, until [`Balancer::behave`].
    pub fn misbehave(&self, path: &str, fault: Fault, share: Share) {
        self.routes.faults.add(path, fault, share);
    }

    /// Stops all traffic in both directions and keeps all connections open; or resumes it.
    pub fn freeze(&self, is_frozen: bool) {
        self.routes.is_frozen.send_replace(is_frozen);
    }

    /// Removes all faults.
    pub fn behave(&self) {
        self.routes.faults.clear();
    }
}

impl Routes {
    fn lock(&self) -> std::sync::MutexGuard<'_, Backends> {
        self.backends.lock().expect("nobody panics with this lock")
    }

    async fn thawed(&self) {
        // This struct owns the sender, so it cannot be closed.
        let _ = self.is_frozen.subscribe().wait_for(|is_frozen| !is_frozen).await;
    }

    /// The replicas to try for a request, in order of preference.
    fn candidates(&self, path: &str, picked: Option<usize>) -> Vec<Arc<Backend>> {
        let mut backends = self.lock();
        if let Some(number) = picked {
            return backends.all.get(number).cloned().into_iter().collect();
        }
        let count = backends.all.len().max(1);
        let first = backends.next % count;
        backends.next = first + 1;
        let turn = (0..backends.all.len()).map(|offset| &backends.all[(first + offset) % count]);
        let mut usable: Vec<_> = turn.filter(|backend| backend.is_usable()).cloned().collect();
        // A stable sort keeps the rotation within each class.
        usable.sort_by_key(|backend| !backend.is_ready());
        let needs_no_readiness = path.starts_with("/.well-known/") || path.starts_with("/v1/revocations");
        if !needs_no_readiness && usable.first().is_some_and(|best| best.is_ready()) {
            usable.retain(|backend| backend.is_ready());
        }
        usable
    }
}

async fn accept(listener: TcpListener, routes: Arc<Routes>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        drop(stream.set_nodelay(true));
        connections.spawn(serve(stream, Arc::clone(&routes)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, routes: Arc<Routes>) {
    let service = service_fn(|request| forward(&routes, request));
    // An error here means that the client disconnected, or that a fault dropped the response.
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

/// A fault dropped the response: hyper closes the connection on an error.
#[derive(Debug)]
struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the proxy dropped the answer")
    }
}

impl std::error::Error for Dropped {}

async fn forward(routes: &Arc<Routes>, request: Request<Incoming>) -> Result<Response<Relayed>, Dropped> {
    routes.thawed().await;
    let (mut head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Err(Dropped) };
    let body = body.to_bytes();
    let picked = head.headers.remove(PICK).and_then(|number| number.to_str().ok()?.parse().ok());
    head.headers.remove(header::CONNECTION);
    let request = Request::from_parts(head, Full::new(body));

    let fault = routes.faults.next(request.uri().path());
    if let Some(Fault::DelayRequest(span)) = fault {
        tokio::time::sleep(span).await;
    }
    if fault == Some(Fault::Repeat) {
        // The copy goes to the next replica and its response is discarded, as after a proxy's timeout and
        // retry.
        drop(deliver(routes, request.clone(), picked).await);
    }
    let answer = deliver(routes, request, picked).await;
    match fault {
        Some(Fault::DropAnswer) => return Err(Dropped),
        Some(Fault::DelayAnswer(span)) => tokio::time::sleep(span).await,
        _ => {}
    }
    routes.thawed().await;
    Ok(answer.map(|body| match body {
        Either::Left(whole) => Either::Left(whole),
        Either::Right(events) => {
            let (sender, relayed) = Channel::new(1);
            tokio::spawn(relay(Arc::clone(routes), events, sender));
            Either::Right(relayed)
        }
    }))
}

/// Forwards events until one side closes.
async fn relay(routes: Arc<Routes>, mut events: Incoming, mut to: Sender<Bytes, Dropped>) {
    while let Some(frame) = events.frame().await {
        routes.thawed().await;
        let Ok(frame) = frame else { return to.abort(Dropped) };
        if to.send(frame).await.is_err() {
            return;
        }
    }
}

/// Sends the request to the first replica that accepts it.
async fn deliver(
    routes: &Routes,
    request: Request<Full<Bytes>>,
    picked: Option<usize>,
) -> Response<Either<Full<Bytes>, Incoming>> {
    let may_repeat = matches!(*request.method(), Method::GET | Method::HEAD);
    let timeout = if may_repeat { READ_TIMEOUT } else { ISSUE_TIMEOUT };
    for backend in routes.candidates(request.uri().path(), picked) {
        match tokio::time::timeout(timeout, backend.call(request.clone())).await {
            Ok(Ok(mut answer)) => {
                answer.headers_mut().insert(SERVED_BY, HeaderValue::from(backend.number()));
                return answer;
            }
            Ok(Err(error)) if error.is_connect() || may_repeat => {}
            Err(_) if may_repeat => {}
            Ok(Err(_)) => return failure(StatusCode::BAD_GATEWAY).map(Either::Left),
            Err(_) => return failure(StatusCode::GATEWAY_TIMEOUT).map(Either::Left),
        }
    }
    failure(StatusCode::SERVICE_UNAVAILABLE).map(Either::Left)
}

/// A response of the proxy itself: no body and no [`SERVED_BY`].
fn failure(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

async fn watch_health(routes: Arc<Routes>) {
    loop {
        let backends = routes.lock().all.clone();
        let mut checks = JoinSet::new();
        for backend in backends {
            checks.spawn(async move { backend.check_health().await });
        }
        checks.join_all().await;
        tokio::time::sleep(HEALTH_PERIOD).await;
    }
}
