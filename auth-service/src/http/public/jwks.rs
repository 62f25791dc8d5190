//! The key set and the metadata that names it. From memory and configuration only, so also without the database.

use std::io::Write as _;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::http::base::SharedApp;

/// The key set as sent: plain or compressed.
struct Representation {
    body: Bytes,
    /// Strong, so each representation has its own (RFC 9110 §8.8.3).
    etag: String,
    is_compressed: bool,
}

/// The key set, compressed on request. Each key set is compressed once.
pub(in crate::http) fn route() -> MethodRouter<SharedApp> {
    let compressed = Arc::new(ArcSwapOption::<Representation>::empty());
    get(async move |State(app): State<SharedApp>, headers: HeaderMap| {
        let document = app.keyring.document();
        let life = app.keyring.cache_life(app.settings().jwks_max_age, app.config.clock_bound);
        let cache_control = format!(
            "public, max-age={}, stale-while-revalidate={}",
            life.max_age, life.stale_while_revalidate
        );
        if accepts_gzip(&headers) {
            let etag = format!("{}-gzip\"", document.etag.trim_end_matches('"'));
            let known = compressed.load_full().filter(|known| known.etag == etag);
            let representation = known.unwrap_or_else(|| {
                let body = gzip(&document.body);
                let fresh = Arc::new(Representation { body, etag, is_compressed: true });
                compressed.store(Some(Arc::clone(&fresh)));
                fresh
            });
            respond(&representation, cache_control, &headers)
        } else {
            let (body, etag) = (document.body.clone(), document.etag.clone());
            respond(&Representation { body, etag, is_compressed: false }, cache_control, &headers)
        }
    })
}

fn respond(representation: &Representation, cache_control: String, asked: &HeaderMap) -> Response {
    let is_held = is_held(asked, &representation.etag);
    let mut response = if is_held {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        representation.body.clone().into_response()
    };
    let headers = response.headers_mut();
    let text = |text: String| HeaderValue::try_from(text).ok();
    headers.extend(text(cache_control).map(|value| (header::CACHE_CONTROL, value)));
    headers.extend(text(representation.etag.clone()).map(|value| (header::ETAG, value)));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if !is_held {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if representation.is_compressed {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    response
}

/// Whether `If-None-Match` lists this representation; compares weakly (RFC 9110 §13.1.2).
fn is_held(asked: &HeaderMap, etag: &str) -> bool {
    let lines = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).any(|tag| {
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || tag == etag
    })
}

/// Whether `Accept-Encoding` lists gzip with a weight other than zero (RFC 9110 §12.5.3).
fn accepts_gzip(asked: &HeaderMap) -> bool {
    let lines = asked.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let is_refused = |weight: &str| weight.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32));
        is_gzip && !parts.any(is_refused)
    })
}

fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default().into()
}

/// The members of RFC 8414 and `OpenID` Connect Discovery that apply. The issuer is the configured one; `Host` and headers of
/// proxies do not matter.
pub(in crate::http) async fn metadata(State(app): State<SharedApp>) -> impl IntoResponse {
    #[derive(Serialize)]
    struct Metadata<'a> {
        issuer: &'a str,
        jwks_uri: String,
        response_types_supported: [&'a str; 0],
        grant_types_supported: [&'a str; 0],
        subject_types_supported: [&'a str; 1],
        id_token_signing_alg_values_supported: Vec<&'a str>,
    }
    let issuer = app.config.issuer.as_str();
    let algorithms = &app.settings().signing_algorithms;
    Json(Metadata {
        issuer,
        jwks_uri: format!("{issuer}/.well-known/jwks.json"),
        response_types_supported: [],
        grant_types_supported: [],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: algorithms
            .iter()
            .map(|algorithm| algorithm.as_str())
            .collect(),
    })
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_if_the_request_accepts_it() {
        let accepts = |value: &'static str| {
            accepts_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        for good in ["gzip", "br, GZIP;q=0.5", "deflate, gzip;q=1.0, *;q=0.5"] {
            assert!(accepts(good), "{good}");
        }
        for bad in ["", "br", "gzip;q=0", "gzip; q=0.000", "identity", "xgzip"] {
            assert!(!accepts(bad), "{bad}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
