//! What surrounds every request: its id, its log line, its count, and the body of a refusal.
//!
//! Runs for every request, so it costs next to nothing: counters are looked up once and kept, ids need no system call.

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

use crate::entropy::Entropy;
use crate::http::base::error::{Code, Problem, Unwritten};
use crate::http::base::routes::{Listener, Route};
use crate::http::base::wire::only_value;
use crate::runtime::app::App;
use crate::runtime::telemetry::{RequestLabels, in_request};
use crate::store::with_budget;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The route of a request that no route matched.
const UNMATCHED: &str = "unmatched";

/// What the outermost layer of one listener needs.
#[derive(Debug)]
pub(in crate::http) struct Observer {
    listener: Listener,
    counters: HashMap<&'static str, RouteCounters>,
    ids: RequestIds,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Observer {
    pub(in crate::http) fn new(listener: Listener, table: &[Route], app: &App) -> Self {
        let paths = table.iter().map(|route| route.path).chain([UNMATCHED]);
        Self {
            listener,
            counters: paths.map(|path| (path, RouteCounters::default())).collect(),
            ids: RequestIds::new(&*app.entropy),
            clock: Arc::clone(&app.clock),
            entropy: Arc::clone(&app.entropy),
        }
    }

    fn count(&self, method: &'static str, route: &str, status: u16) {
        if let Some((route, counters)) = self.counters.get_key_value(route) {
            let listener = match self.listener {
                Listener::Public => "public",
                Listener::Admin => "admin",
            };
            counters.find_or_register((method, status), || {
                metrics::counter!(
                    "auth_http_requests_total",
                    "listener" => listener,
                    "method" => method,
                    "route" => *route,
                    "status" => status.to_string(),
                )
            });
        }
    }
}

/// The counters of one route that were needed so far; a handful.
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
        // Should another request have registered it meanwhile, both are the same counter.
        self.0.write().unwrap_or_else(PoisonError::into_inner).push((key, counter));
    }
}

impl std::fmt::Debug for RouteCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteCounters").finish_non_exhaustive()
    }
}

/// The outermost layer: nothing leaves without an id, and nothing is logged without it.
///
/// The log names the route's pattern, never the path, the query or a header that a client chose.
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
        let mut response = with_budget(caught(next.run(request))).await;
        if let Some(problem) = response.extensions_mut().remove::<Unwritten>() {
            problem.write(&mut response, &id, jitter(&*observer.entropy));
        }
        let status = response.status().as_u16();
        let took = observer.clock.monotonic().saturating_sub(started);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        debug!(listener = ?observer.listener, method, route, status, took_us, "answered");
        observer.count(method, route, status);
        // Made of visible ASCII, whoever made it.
        if let Ok(id) = HeaderValue::try_from(id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    })
    .await
}

/// Turns a panic into a refusal. The hook has logged where it was; the process goes on.
async fn caught(answer: impl Future<Output = Response>) -> Response {
    let mut answer = pin!(answer);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context)));
        polled.unwrap_or_else(|_| Poll::Ready(Problem::new(Code::InternalError).into_response()))
    })
    .await
}

/// Methods have no limit, labels must.
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

/// Ids for requests: 64 random bits of this process and a count.
#[derive(Debug)]
struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    fn new(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 8];
        // Without randomness ids repeat those of other processes; nothing depends on that they do not.
        let _ = entropy.fill(&mut bytes);
        Self { process: u64::from_be_bytes(bytes), next: AtomicU64::new(1) }
    }

    /// The id that a balancer gave, if it is a plain one, else a new one.
    fn of(&self, headers: &HeaderMap) -> String {
        let is_plain = |id: &&str| {
            (1..=128).contains(&id.len())
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
        };
        match only_value(headers, &REQUEST_ID).ok().flatten().filter(is_plain) {
            Some(given) => given.to_owned(),
            None => format!("{:016x}-{:x}", self.process, self.next.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

/// The trace that the request belongs to: W3C Trace Context, `version-trace_id-parent_id-flags`.
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
        // Later versions may add parts; this one may not.
        && (version != "00" || parts.next().is_none());
    is_valid.then_some(trace_id)
}

fn jitter(entropy: &dyn Entropy) -> u8 {
    let mut byte = [0];
    // Without randomness everyone waits equally long.
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
    fn a_plain_request_id_is_kept_and_any_other_replaced() {
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
