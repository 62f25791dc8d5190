//! What surrounds every request: its id, its log line, its count, and the body of a refusal.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::{Instrument as _, debug, field, info_span};

use super::error::{Code, Problem, Unwritten};
use super::routes::Listener;
use super::wire::only_value;
use crate::app::App;
use crate::entropy::Entropy;
use crate::store::with_budget;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The outermost layer: nothing leaves without an id, and nothing is logged without it.
///
/// The log names the route's pattern, never the path, the query or a header that a client chose.
pub(super) async fn observe(
    State((app, listener)): State<(App, Listener)>,
    request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers(), &*app.entropy);
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let method = method_label(request.method());
    let span = info_span!("request", id, trace_id = field::Empty);
    if let Some(trace_id) = trace_id(request.headers()) {
        span.record("trace_id", trace_id);
    }
    let started = app.clock.monotonic();

    let mut response = with_budget(next.run(request)).instrument(span.clone()).await;

    if let Some(problem) = response.extensions_mut().remove::<Unwritten>() {
        problem.write(&mut response, &id, jitter(&*app.entropy));
    }
    let status = response.status().as_u16();
    span.in_scope(|| {
        let took = app.clock.monotonic().saturating_sub(started);
        debug!(?listener, method, route, status, took_ms = took.as_secs_f64() * 1e3, "answered");
    });
    count(listener, method, route, status);
    // Made of visible ASCII, whoever made it.
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The answer to a request whose handler panicked. The hook has logged where; the process goes on.
pub(super) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    Problem::new(Code::InternalError).into_response()
}

fn count(listener: Listener, method: &'static str, route: &str, status: u16) {
    let listener = match listener {
        Listener::Public => "public",
        Listener::Admin => "admin",
    };
    metrics::counter!(
        "auth_http_requests_total",
        "listener" => listener,
        "method" => method,
        "route" => route.to_owned(),
        "status" => status.to_string(),
    )
    .increment(1);
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

/// The id that a balancer gave, if it is a plain one, else 128 random bits in the form of a UUID.
fn request_id(headers: &HeaderMap, entropy: &dyn Entropy) -> String {
    let is_plain = |id: &&str| {
        (1..=128).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
    };
    if let Some(given) = only_value(headers, &REQUEST_ID).ok().flatten().filter(is_plain) {
        return given.to_owned();
    }
    let mut bytes = [0; 16];
    // Without randomness ids repeat; nothing depends on that they do not.
    let _ = entropy.fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid().hyphenated().to_string()
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
        let entropy = SystemEntropy::new();
        let id = |value: &str| request_id(&headers(REQUEST_ID, value), &entropy);
        assert_eq!(id("abc-1.2:3_4"), "abc-1.2:3_4");
        for other in ["", "a b", "a\"b", &"x".repeat(129)] {
            assert_eq!(id(other).len(), 36, "{other}");
        }
        assert_ne!(request_id(&HeaderMap::new(), &entropy), request_id(&HeaderMap::new(), &entropy));
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
