//! The public keys, and where to find them. From memory and configuration only, whatever the database does.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use tower::ServiceBuilder;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

use crate::app::App;

/// Ends the `ETag` of the compressed representation: a strong one may name only one sequence of bytes (RFC 9110 §8.8.3).
const COMPRESSED: &str = "-gzip\"";

/// The key set, compressed for those who ask.
pub(super) fn compressed() -> MethodRouter<App> {
    get(jwks).layer(
        ServiceBuilder::new()
            .map_response(distinguish)
            .layer(CompressionLayer::new().gzip(true).compress_when(SizeAbove::default())),
    )
}

async fn jwks(State(app): State<App>, headers: HeaderMap) -> Response {
    let document = app.keyring.document(app.clock.now());
    let life = app.keyring.cache_life(app.config.jwks_max_age, app.config.clock_bound);
    let cache_control =
        format!("public, max-age={}, stale-while-revalidate={}", life.max_age, life.stale_while_revalidate);
    if let Some(etag) = held(&headers, &document.etag) {
        let headers = [(header::CACHE_CONTROL, cache_control), (header::ETAG, etag)];
        return (StatusCode::NOT_MODIFIED, headers, [(header::VARY, "accept-encoding")]).into_response();
    }
    let headers = [(header::CACHE_CONTROL, cache_control), (header::ETAG, document.etag.clone())];
    (headers, [(header::CONTENT_TYPE, "application/json")], document.body.clone()).into_response()
}

/// Which representation of the current document the client holds, if any. Compares weakly, as `If-None-Match` does.
fn held(headers: &HeaderMap, current: &str) -> Option<String> {
    let compressed = current.strip_suffix('"').map(|open| format!("{open}{COMPRESSED}"));
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).find_map(|tag| {
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        let is_current = tag == "*" || tag == current;
        if is_current {
            Some(current.to_owned())
        } else {
            compressed.clone().filter(|compressed| tag == compressed)
        }
    })
}

/// Gives the compressed representation a tag of its own.
fn distinguish<B>(mut response: http::Response<B>) -> http::Response<B> {
    let headers = response.headers_mut();
    if headers.contains_key(header::CONTENT_ENCODING)
        && let Some(etag) = headers.get(header::ETAG).and_then(|etag| etag.to_str().ok())
        && let Some(open) = etag.strip_suffix('"')
        && let Ok(etag) = HeaderValue::try_from(format!("{open}{COMPRESSED}"))
    {
        headers.insert(header::ETAG, etag);
    }
    response
}

/// RFC 8414 and `OpenID` Connect Discovery, as far as there is something to say. The issuer is the configured one, whatever
/// `Host` or a proxy says.
pub(super) async fn metadata(State(app): State<App>) -> impl IntoResponse {
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
    Json(Metadata {
        issuer,
        jwks_uri: format!("{issuer}/.well-known/jwks.json"),
        response_types_supported: [],
        grant_types_supported: [],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: app
            .config
            .signing_algorithms
            .iter()
            .map(|algorithm| algorithm.as_str())
            .collect(),
    })
    .into_response()
}
