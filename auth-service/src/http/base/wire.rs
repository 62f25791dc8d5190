//! Pieces of JSON that several responses share.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;

/// A JSON response that no cache may keep.
pub(in crate::http) fn private(body: impl Serialize) -> Response {
    ([NO_STORE], Json(body)).into_response()
}

/// For responses that only their requester may see.
pub(in crate::http) const NO_STORE: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
