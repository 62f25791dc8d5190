//! Strict request bodies in JSON. Forms are in [`form`](super::form).

use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::http::base::code::Code;
use crate::http::base::error::Problem;
use crate::http::base::headers::only_value;
use crate::store::Deadline;

/// The largest body.
const LARGEST_BODY: usize = 16 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body of exactly this shape.
#[derive(Debug)]
pub(in crate::http) struct JsonBody<T>(pub(in crate::http) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let missing = || malformed("a JSON body is required");
        let bytes = read(request, "application/json").await?.ok_or_else(missing)?;
        parse(&bytes).map(Self)
    }
}

/// Like [`JsonBody`], but the request may have no body.
#[derive(Debug)]
pub(in crate::http) struct OptionalJsonBody<T>(pub(in crate::http) Option<T>);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for OptionalJsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        read(request, "application/json").await?.map(|bytes| parse(&bytes)).transpose().map(Self)
    }
}

/// The bytes of the body, `None` if it is empty. Refuses a body of another media type, and one that is too large or too slow.
pub(super) async fn read(request: Request, media_type: &str) -> Result<Option<Bytes>, Problem> {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(None);
    }
    let too_large = || Problem::new(Code::BodyTooLarge).detail("the limit is 16 KiB");
    if body.size_hint().lower() > LARGEST_BODY as u64 {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, LARGEST_BODY).collect()).await;
    let bytes = match collected {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_)) => return Err(malformed("the body is incomplete")),
        Err(_) => return Err(malformed("the body did not arrive in time")),
    };
    // Upload time does not count.
    if let Some(deadline) = parts.extensions.get::<Deadline>() {
        deadline.restart();
    }
    if bytes.is_empty() {
        Ok(None)
    } else if has_media_type(&parts.headers, media_type) {
        Ok(Some(bytes))
    } else {
        Err(Problem::new(Code::UnsupportedMediaType).detail(format!("send content-type: {media_type}")))
    }
}

/// Whether `Content-Type` is this media type in UTF-8. Naming the charset is allowed but has no effect (RFC 8259 §11).
fn has_media_type(headers: &HeaderMap, media_type: &str) -> bool {
    let Ok(Some(content_type)) = only_value(headers, &header::CONTENT_TYPE) else { return false };
    let mut parts = content_type.split(';').map(str::trim);
    let is_expected = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case(media_type));
    is_expected
        && parts.all(|parameter| parameter.is_empty() || parameter.eq_ignore_ascii_case("charset=utf-8"))
}

pub(super) fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(Code::MalformedRequest).detail(detail)
}

/// Parses JSON. An error names the member that is wrong and what was expected, never what was sent.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("the body is not UTF-8"))?;
    // serde would accept a list as an object with its members in order.
    if !text.trim_start().starts_with('{') {
        return Err(malformed("the body is not a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let member = error.path().iter().next().map(ToString::to_string);
        let error = error.inner();
        malformed(if error.is_data() {
            explain(&error.to_string(), member.as_deref())
        } else {
            format!("the body is not JSON: line {}, column {}", error.line(), error.column())
        })
    })?;
    json.end().map_err(|_| malformed("unexpected data after the JSON object"))?;
    Ok(value)
}

/// Keeps the parts of serde's message that the client did not send: the names of known members, and what was expected.
pub(super) fn explain(message: &str, member: Option<&str>) -> String {
    if message.starts_with("missing field") || message.starts_with("duplicate field") {
        // "missing field `username` at line 1 column 2"
        return message.split(" at line ").next().unwrap_or_default().replace("field", "member");
    }
    let expected = message.rsplit_once(", expected ").and_then(|(_, rest)| rest.split(" at line ").next());
    match (message.starts_with("unknown field"), member, expected) {
        (true, _, Some(known)) => format!("unknown member, expected {known}"),
        (true, _, None) => "unknown member, expected none".to_owned(),
        // The path of an unknown member is its own name, which the client chose; other paths are names of ours.
        (false, Some(member), Some(expected)) if member != "." => format!("`{member}`: expected {expected}"),
        (false, Some(member), None) if member != "." => format!("`{member}` is malformed"),
        (false, _, Some(expected)) => format!("expected {expected}"),
        (false, _, None) => "the body is malformed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body as RawBody;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it can be read matters")]
    struct Sample {
        name: String,
        #[serde(default, deserialize_with = "crate::domain::not_null")]
        count: Option<u32>,
        #[serde(default)]
        extra: serde_json::Map<String, serde_json::Value>,
    }

    fn request(headers: &[(&str, &str)], body: &'static [u8]) -> Request {
        let mut request = Request::new(RawBody::from(body));
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        request
    }

    const JSON: (&str, &str) = ("content-type", "application/json");

    fn refusal(bytes: &[u8]) -> String {
        format!("{:?}", parse::<Sample>(bytes).expect_err("must be refused"))
    }

    #[test]
    fn an_error_names_the_member_and_never_the_value() {
        for (body, says) in [
            (r#"{"name": 5}"#, "`name`: expected a string"),
            (r#"{"name": "n", "count": "canary"}"#, "`count`: expected u32"),
            (r#"{"name": "n", "count": ", expected canary"}"#, "`count`: expected u32"),
            (r#"{"name": "n", "count": null}"#, "`count`: expected u32"),
            (r#"{"name": "n", "count": -1}"#, "`count`: expected u32"),
            (r#"{"name": "n", "count": 1e400}"#, "the body is not JSON"),
            (r#"{"name": "n", "extra": ["canary"]}"#, "`extra`: expected a map"),
            (r#"{"canary": 1, "name": "n"}"#, "unknown member, expected one of `name`, `count`, `extra`"),
            (r#"{"name": "canary", "name": "canary"}"#, "duplicate member `name`"),
            ("{}", "missing member `name`"),
            ("[]", "the body is not a JSON object"),
            (r#"["canary"]"#, "the body is not a JSON object"),
            (r#""canary""#, "the body is not a JSON object"),
            (r#"{"name": "canary"#, "the body is not JSON"),
            (r#"{"name": "canary"} x"#, "unexpected data after the JSON object"),
            ("\u{feff}{}", "the body is not a JSON object"),
        ] {
            let refusal = refusal(body.as_bytes());
            assert!(refusal.contains(says), "{body} gave {refusal}");
            assert!(!refusal.contains("canary"), "{refusal}");
        }
        assert!(refusal(b"{\"name\": \"\xff\"}").contains("not UTF-8"));
        assert!(refusal("[".repeat(5_000).as_bytes()).contains("the body"));
    }

    #[test]
    fn only_the_expected_media_type_in_utf_8_is_accepted() {
        for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;"] {
            assert!(
                has_media_type(request(&[("content-type", good)], b"").headers(), "application/json"),
                "{good}"
            );
        }
        for bad in [
            "text/plain",
            "application/json; charset=latin1",
            "application/jsonp",
            "application/problem+json",
        ] {
            assert!(
                !has_media_type(request(&[("content-type", bad)], b"").headers(), "application/json"),
                "{bad}"
            );
        }
        assert!(!has_media_type(request(&[], b"").headers(), "application/json"));
        assert!(!has_media_type(request(&[JSON, JSON], b"").headers(), "application/json"));
    }

    #[tokio::test]
    async fn a_body_is_limited_and_an_empty_body_is_none() {
        assert!(read(request(&[], b""), "application/json").await.unwrap().is_none());
        assert!(read(request(&[JSON], b"{}"), "application/json").await.unwrap().is_some());
        let refused = |problem: Problem| format!("{problem:?}");
        assert!(
            refused(read(request(&[], b"{}"), "application/json").await.unwrap_err())
                .contains("UnsupportedMediaType")
        );
        let large: &'static [u8] = Box::leak(vec![b' '; LARGEST_BODY + 1].into_boxed_slice());
        assert!(
            refused(read(request(&[JSON], large), "application/json").await.unwrap_err())
                .contains("BodyTooLarge")
        );
        assert!(read(request(&[JSON], &large[1..]), "application/json").await.unwrap().is_some());
        // Mapping hides the length.
        let unknown_length =
            RawBody::new(http_body_util::Full::new(large.into()).map_frame(std::convert::identity));
        assert!(
            refused(read(Request::new(unknown_length), "application/json").await.unwrap_err())
                .contains("BodyTooLarge")
        );
    }
}
