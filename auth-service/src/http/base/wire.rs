//! Pieces of JSON that several answers share.

use axum::Json;
use axum::response::{IntoResponse, Response};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use verifier::UnixTime;

use crate::http::base::error::{Code, Problem};

/// An instant as RFC 3339 in UTC, whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Timestamp(pub(in crate::http) UnixTime);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(self.0))
    }
}

/// An instant in RFC 3339, UTC, whole seconds. Before 1970 and after 9999 it is written as the nearest of them.
pub fn rfc3339(at: UnixTime) -> String {
    let seconds = at.0.clamp(0, 253_402_300_799);
    let text = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|at| at.format(&Rfc3339).ok());
    text.unwrap_or_default()
}

/// A member that may be left out, but not be null.
pub(in crate::http) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A JSON answer that no cache may keep.
pub(in crate::http) fn private(body: impl Serialize) -> Response {
    ([NO_STORE], Json(body)).into_response()
}

/// For answers that are only for the one who asked.
pub(in crate::http) const NO_STORE: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// Which part of a list is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PageQuery {
    #[serde(default = "PageQuery::usual_limit")]
    limit: u32,
    #[serde(default)]
    after: Option<String>,
}

impl PageQuery {
    const LARGEST: u32 = 200;

    fn usual_limit() -> u32 {
        50
    }

    /// One item more than asked for, so that the last page is known to be the last.
    pub(in crate::http) fn limit(&self) -> Result<u32, Problem> {
        if (1..=Self::LARGEST).contains(&self.limit) {
            Ok(self.limit + 1)
        } else {
            Err(Problem::new(Code::MalformedRequest).detail("`limit` must be from 1 to 200"))
        }
    }

    /// The place after which the page starts, as [`next`](Self::next) wrote it.
    pub(in crate::http) fn after<T>(
        &self,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(after) = &self.after else { return Ok(None) };
        let place = URL_SAFE_NO_PAD
            .decode(after)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .filter(|place| !place.is_empty() && !place.chars().any(char::is_control))
            .and_then(|place| read(&place));
        let refusal =
            || Problem::new(Code::MalformedRequest).detail("`after` must be the `next` of another page");
        place.map(Some).ok_or_else(refusal)
    }

    /// Cuts the surplus item off and says where the next page starts; `place` must hold no control characters.
    pub(in crate::http) fn next<T>(
        &self,
        items: &mut Vec<T>,
        place: impl FnOnce(&T) -> String,
    ) -> Option<String> {
        let limit = self.limit as usize;
        if items.len() <= limit {
            return None;
        }
        items.truncate(limit);
        items.last().map(|last| URL_SAFE_NO_PAD.encode(place(last)))
    }
}

/// The one value of a header; `Err` when it stands twice or is not visible ASCII.
pub(in crate::http) fn only_value<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(drop),
        (Some(_), Some(_)) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_rfc_3339() {
        for (seconds, text) in [
            (0, "\"1970-01-01T00:00:00Z\""),
            (1_772_366_400, "\"2026-03-01T12:00:00Z\""),
            (4_102_444_800, "\"2100-01-01T00:00:00Z\""),
            (i64::MAX, "\"9999-12-31T23:59:59Z\""),
        ] {
            assert_eq!(serde_json::to_string(&Timestamp(UnixTime(seconds))).unwrap(), text);
        }
    }

    #[test]
    fn the_last_page_has_no_next_and_a_cursor_reads_back() {
        let query = PageQuery { limit: 2, after: None };
        let mut items = vec!["a", "b"];
        assert_eq!(query.next(&mut items, |item| (*item).to_owned()), None);
        let mut items = vec!["a", "b", "c"];
        let next = query.next(&mut items, |item| (*item).to_owned());
        assert_eq!(items, ["a", "b"]);
        let query = PageQuery { limit: 2, after: next };
        assert_eq!(query.after(|place| Some(place.to_owned())).unwrap(), Some("b".to_owned()));
    }

    #[test]
    fn a_forged_cursor_is_refused() {
        for after in ["!", "YQBi", "", "_w"] {
            let query = PageQuery { limit: 2, after: Some(after.to_owned()) };
            let read = |place: &str| (!place.is_empty()).then(|| place.to_owned());
            assert!(query.after(read).is_err(), "{after}");
        }
    }
}
