//! The proxy's state of one replica.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::TokioExecutor;

const HEALTH_TIMEOUT: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Backend {
    number: usize,
    address: SocketAddr,
    http: Client<HttpConnector, Full<Bytes>>,
    in_rotation: AtomicBool,
    is_live: AtomicBool,
    is_ready: AtomicBool,
    answers: AtomicUsize,
}

impl Backend {
    /// Considered ready until the first check.
    pub(super) fn new(number: usize, address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(1)));
        Self {
            number,
            address,
            http: Client::builder(TokioExecutor::new()).build(connector),
            in_rotation: AtomicBool::new(true),
            is_live: AtomicBool::new(true),
            is_ready: AtomicBool::new(true),
            answers: AtomicUsize::new(0),
        }
    }

    pub(super) const fn number(&self) -> usize {
        self.number
    }

    pub(super) fn set_in_rotation(&self, in_rotation: bool) {
        self.in_rotation.store(in_rotation, Ordering::Relaxed);
    }

    pub(super) fn is_usable(&self) -> bool {
        self.in_rotation.load(Ordering::Relaxed) && self.is_live.load(Ordering::Relaxed)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }

    pub(super) fn answers(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }

    /// Sends the request and reads the whole response, unless it is a stream of events.
    pub(super) async fn call(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Either<Full<Bytes>, Incoming>>, legacy::Error> {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(Authority::try_from(self.address.to_string()).expect("an address is one"));
        *request.uri_mut() = Uri::from_parts(uri).expect("all parts are there");
        let (mut head, body) = self.http.request(request).await?.into_parts();
        head.headers.remove(header::CONNECTION);
        head.headers.remove(header::TRANSFER_ENCODING);
        self.answers.fetch_add(1, Ordering::Relaxed);
        if head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream") {
            return Ok(Response::from_parts(head, Either::Right(body)));
        }
        // An incomplete body counts as no response; the status tells the client.
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return Ok(super::failure(http::StatusCode::BAD_GATEWAY).map(Either::Left)),
        };
        Ok(Response::from_parts(head, Either::Left(Full::new(body))))
    }

    /// Checks the health of the replica.
    pub(super) async fn check_health(&self) {
        let (live, ready) = tokio::join!(self.answers_ok("/livez"), self.answers_ok("/readyz"));
        self.is_live.store(live, Ordering::Relaxed);
        self.is_ready.store(ready, Ordering::Relaxed);
    }

    async fn answers_ok(&self, path: &str) -> bool {
        let uri = format!("http://{}{path}", self.address);
        let request = Request::get(uri).body(Full::default()).expect("a fixed path");
        let answer = tokio::time::timeout(HEALTH_TIMEOUT, self.http.request(request)).await;
        matches!(answer, Ok(Ok(answer)) if answer.status().is_success())
    }
}
