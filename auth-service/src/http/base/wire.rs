//! Pieces of JSON that several responses share.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, header};
use serde::{Serialize, Serializer};
use verifier::UnixTime;

use crate::domain::rfc3339::rfc3339;

/// An instant, serialised as RFC 3339 in UTC, whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Timestamp(pub(in crate::http) UnixTime);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(self.0))
    }
}

/// A JSON response that no cache may keep.
pub(in crate::http) fn private(body: impl Serialize) -> Response {
    ([NO_STORE], Json(body)).into_response()
}

/// For responses that only their requester may see.
pub(in crate::http) const NO_STORE: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
