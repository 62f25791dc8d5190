//! The outermost layer of every request: its id, log line, metric, and the body of an error response.
//!
//! It runs for every request, so it is cheap: counters are looked up once and kept, and ids need no system call.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::Poll;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue};
use metrics::Counter;
use tracing::debug;
use verifier::Clock;

use crate::domain::listener::Listener;
use crate::entropy::Entropy;
use crate::http::base::access::Route;
use crate::http::base::code::Code;
use crate::http::base::error::{Problem, Unwritten};
use crate::http::base::error_body::ErrorBody;
use crate::http::base::headers::only_value;
use crate::runtime::telemetry::{RequestLabels, in_request};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The label of requests that matched no route.
const UNMATCHED: &str = "unmatched";

/// The state of the outermost layer of one listener.
#[derive(Debug)]
pub(in crate::http) struct Observer {
    listener: Listener,
    routes: HashMap<&'static str, ObservedRoute>,
    ids: RequestIds,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Observer {
    pub(in crate::http) fn new(
        listener: Listener,
        table: &[Route],
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let mut routes = HashMap::from([(UNMATCHED, ObservedRoute::default())]);
        for route in table {
            routes.entry(route.path).or_default().error_body = route.error_body;
        }
        Self { listener, routes, ids: RequestIds::new(&*entropy), clock, entropy }
    }

    /// The format of the error responses of a route.
    fn error_body(&self, route: &str) -> ErrorBody {
        self.routes.get(route).map(|route| route.error_body).unwrap_or_default()
    }

    fn count(&self, method: &'static str, route: &str, status: u16) {
        if let Some((path, route)) = self.routes.get_key_value(route) {
            let listener = match self.listener {
                Listener::Public => "public",
                Listener::Admin => "admin",
            };
            route.counters.find_or_register((method, status), || {
                metrics::counter!(
                    "auth_http_requests_total",
                    "listener" => listener,
                    "method" => method,
                    "route" => *path,
                    "status" => status.to_string(),
                )
            });
        }
    }
}

/// What the outermost layer keeps for one path.
#[derive(Debug, Default)]
struct ObservedRoute {
    error_body: ErrorBody,
    counters: RouteCounters,
}

/// The counters of one path that have been used so far; a handful.
#[derive(Default)]
struct RouteCounters(RwLock<Vec<((&'static str, u16), Counter)>>);

impl RouteCounters {
    fn find_or_register(&self, key: (&'static str, u16), register: impl FnOnce() -> Counter) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counter)) = known.iter().find(|(other, _)| *other == key) {
            return counter.increment(1);
        }
        drop(known);
        let counter = register();
        counter.increment(1);
        // If another request has registered it meanwhile, both are the same counter.
        self.0.write().unwrap_or_else(PoisonError::into_inner).push((key, counter));
    }
}

impl std::fmt::Debug for RouteCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteCounters").finish_non_exhaustive()
    }
}

/// The outermost layer: every response has a request id, and so has every line logged for it.
///
/// The log contains the route's pattern, never the path, the query or a header that a client chose.
pub(in crate::http) async fn observe(
    State(observer): State<Arc<Observer>>,
    request: Request,
    next: Next,
) -> Response {
    let id = observer.ids.of(request.headers());
    let labels = RequestLabels { id: id.clone(), trace_id: trace_id(request.headers()).map(str::to_owned) };
    let path = request.extensions().get::<MatchedPath>().cloned();
    let route = path.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
    let method = method_label(request.method());
    let started = observer.clock.monotonic();

    in_request(labels, async {
        let mut response = caught(next.run(request)).await;
        if let Some(error) = response.extensions_mut().remove::<Unwritten>() {
            observer.error_body(route).write(&error, &mut response, &id, jitter(&*observer.entropy));
        }
        let status = response.status().as_u16();
        let took = observer.clock.monotonic().saturating_sub(started);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        debug!(listener = ?observer.listener, method, route, status, took_us, "responded");
        observer.count(method, route, status);
        // Visible ASCII, whether given or generated.
        if let Ok(id) = HeaderValue::try_from(id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    })
    .await
}

/// Turns a panic into `internal_error`. The panic hook has logged the place; the process continues.
async fn caught(answer: impl Future<Output = Response>) -> Response {
    let mut answer = pin!(answer);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context)));
        polled.unwrap_or_else(|_| Poll::Ready(Problem::new(Code::InternalError).into_response()))
    })
    .await
}

/// Clients can send any method; the number of labels must be bounded.
fn method_label(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Request ids: 64 random bits per process, and a counter.
#[derive(Debug)]
struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    fn new(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 8];
        // Without randomness, ids may equal those of other processes; nothing depends on their uniqueness.
        let _ = entropy.fill(&mut bytes);
        Self { process: u64::from_be_bytes(bytes), next: AtomicU64::new(1) }
    }

    /// The id that the request brought, if it is well formed, otherwise a new one.
    fn of(&self, headers: &HeaderMap) -> String {
        let is_well_formed = |id: &&str| {
            (1..=128).contains(&id.len())
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
        };
        match only_value(headers, &REQUEST_ID).ok().flatten().filter(is_well_formed) {
            Some(given) => given.to_owned(),
            None => format!("{:016x}-{:x}", self.process, self.next.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

/// The trace of the request (W3C Trace Context: `version-trace_id-parent_id-flags`).
fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let value = only_value(headers, &TRACEPARENT).ok().flatten()?;
    let mut parts = value.split('-');
    let (version, trace_id, parent_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let is_valid = is_hex(version, 2)
        && version != "ff"
        && is_hex(trace_id, 32)
        && !is_zero(trace_id)
        && is_hex(parent_id, 16)
        && !is_zero(parent_id)
        && is_hex(flags, 2)
        // Only later versions may have more parts.
        && (version != "00" || parts.next().is_none());
    is_valid.then_some(trace_id)
}

fn jitter(entropy: &dyn Entropy) -> u8 {
    let mut byte = [0];
    // Without randomness, all clients wait equally long.
    let _ = entropy.fill(&mut byte);
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn a_well_formed_request_id_is_kept_and_any_other_replaced() {
        let ids = RequestIds::new(&SystemEntropy::new());
        let id = |value: &str| ids.of(&headers(REQUEST_ID, value));
        assert_eq!(id("abc-1.2:3_4"), "abc-1.2:3_4");
        for other in ["", "a b", "a\"b", &"x".repeat(129)] {
            assert!(id(other).starts_with(&format!("{:016x}-", ids.process)), "{other}");
        }
        assert_ne!(ids.of(&HeaderMap::new()), ids.of(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn a_panic_becomes_an_internal_error() {
        let response = caught(async { panic!("on purpose") }).await;
        assert_eq!(response.status(), 500);
        assert!(response.extensions().get::<Unwritten>().is_some());
    }

    #[test]
    fn a_valid_traceparent_names_its_trace() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        for (value, valid) in [
            (format!("00-{trace}-{parent}-01"), true),
            (format!("cc-{trace}-{parent}-01-later"), true),
            (format!("00-{trace}-{parent}-01-later"), false),
            (format!("ff-{trace}-{parent}-01"), false),
            (format!("00-{}-{parent}-01", "0".repeat(32)), false),
            (format!("00-{}-{parent}-01", trace.to_uppercase()), false),
            (format!("00-{trace}-{parent}"), false),
            (trace.to_owned(), false),
        ] {
            assert_eq!(trace_id(&headers(TRACEPARENT, &value)), valid.then_some(trace), "{value}");
        }
    }
}
