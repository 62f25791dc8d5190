//! What handlers take in: strict JSON bodies, queries, path parts, the caller, and where the request comes from.

use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::request::Parts;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use secrecy::SecretString;
use serde::de::DeserializeOwned;

use crate::domain::authority::Actor;
use crate::flows::{AuthError, Caller, Origin, authenticate};
use crate::http::base::Shared;
use crate::http::base::client_address::{Peer, client_address};
use crate::http::base::error::{Code, Problem};
use crate::http::base::routes::Access;
use crate::http::base::wire::only_value;
use crate::runtime::app::{App, Door};
use crate::store::restart_span;

/// The largest body.
const LARGEST_BODY: usize = 16 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// As much of `User-Agent` as is kept.
const LONGEST_USER_AGENT: usize = 256;

/// A JSON body of exactly this shape.
#[derive(Debug)]
pub(in crate::http) struct Body<T>(pub(in crate::http) T);

impl<T: DeserializeOwned> FromRequest<Shared> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Problem> {
        let missing = || Problem::new(Code::MalformedRequest).detail("a JSON body is needed");
        let bytes = read(request).await?.ok_or_else(missing)?;
        parse(&bytes).map(Self)
    }
}

/// As [`Body`], but it may be left out.
#[derive(Debug)]
pub(in crate::http) struct OptionalBody<T>(pub(in crate::http) Option<T>);

impl<T: DeserializeOwned> FromRequest<Shared> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Problem> {
        read(request).await?.map(|bytes| parse(&bytes)).transpose().map(Self)
    }
}

/// The bytes of the body, or `None` when there is none.
async fn read(request: Request) -> Result<Option<bytes::Bytes>, Problem> {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(None);
    }
    let too_large = || Problem::new(Code::BodyTooLarge).detail("the limit is 16 KiB");
    if body.size_hint().lower() > LARGEST_BODY as u64 {
        return Err(too_large());
    }
    let is_json = is_json(&parts.headers);
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, LARGEST_BODY).collect()).await;
    let bytes = match collected {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_)) => return Err(Problem::new(Code::MalformedRequest).detail("the body broke off")),
        Err(_) => return Err(Problem::new(Code::MalformedRequest).detail("the body did not arrive in time")),
    };
    restart_span();
    match (bytes.is_empty(), is_json) {
        (true, _) => Ok(None),
        (false, true) => Ok(Some(bytes)),
        (false, false) => {
            Err(Problem::new(Code::UnsupportedMediaType).detail("send content-type: application/json"))
        }
    }
}

/// JSON has no charset but UTF-8 (RFC 8259 §8.1); naming it is harmless, another one is not JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let Ok(Some(content_type)) = only_value(headers, &header::CONTENT_TYPE) else { return false };
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    is_json && parts.all(|parameter| parameter.is_empty() || parameter.eq_ignore_ascii_case("charset=utf-8"))
}

/// Reads JSON. The refusal names the member that is wrong and what it should be, never what it was.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let malformed = |detail: String| Problem::new(Code::MalformedRequest).detail(detail);
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("the body is not UTF-8".to_owned()))?;
    // serde would take a list for an object with its members in order.
    if !text.trim_start().starts_with('{') {
        return Err(malformed("the body is not a JSON object".to_owned()));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let member = error.path().iter().next().map(ToString::to_string);
        malformed(explain(error.inner(), member.as_deref()))
    })?;
    json.end().map_err(|_| malformed("the body goes on after its end".to_owned()))?;
    Ok(value)
}

/// Keeps of serde's message only what is ours: the names of members, and what was expected.
fn explain(error: &serde_json::Error, member: Option<&str>) -> String {
    let message = error.to_string();
    if !error.is_data() {
        return format!("the body is not JSON: see line {}, column {}", error.line(), error.column());
    }
    if message.starts_with("missing field") || message.starts_with("duplicate field") {
        // "missing field `username` at line 1 column 2"
        return message.split(" at line ").next().unwrap_or_default().to_owned();
    }
    let expected = message.rsplit_once(", expected ").and_then(|(_, rest)| rest.split(" at line ").next());
    match (message.starts_with("unknown field"), member, expected) {
        (true, _, Some(known)) => format!("a member is not known; expected {known}"),
        (true, _, None) => "no members are expected".to_owned(),
        // An unknown member has its own name as the path; the others are names of ours.
        (false, Some(member), Some(expected)) if member != "." => format!("`{member}`: expected {expected}"),
        (false, Some(member), None) if member != "." => format!("`{member}` is malformed"),
        (false, _, Some(expected)) => format!("expected {expected}"),
        (false, _, None) => "the body is malformed".to_owned(),
    }
}

/// The parameters after the question mark, all of them known.
#[derive(Debug)]
pub(in crate::http) struct Parameters<T>(pub(in crate::http) T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        // axum's refusal quotes the query.
        let refusal =
            || Problem::new(Code::MalformedRequest).detail("a query parameter is unknown or malformed");
        Query::try_from_uri(&parts.uri).map(|Query(query)| Self(query)).map_err(|_| refusal())
    }
}

/// The one variable part of the path. One that cannot be read names nothing: 404.
#[derive(Debug)]
pub(in crate::http) struct Part(pub(in crate::http) String);

impl Part {
    /// The thing that the part names, or 404.
    pub(in crate::http) fn read<T>(&self, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Problem> {
        read(&self.0).ok_or_else(|| Problem::new(Code::NotFound))
    }
}

impl FromRequestParts<Shared> for Part {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        path.map(|Path(part)| Self(part)).map_err(|_| Problem::new(Code::NotFound))
    }
}

/// Where the request comes from.
pub(in crate::http) struct From(pub(in crate::http) Origin);

impl FromRequestParts<Shared> for From {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<Peer>().map(|Peer(address)| address.ip());
        let user_agent = parts.headers.get(header::USER_AGENT).map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            text.chars().filter(|c| !c.is_control()).take(LONGEST_USER_AGENT).collect()
        });
        let address = client_address(peer, &parts.headers, &app.config.trusted_proxies);
        Ok(Self(Origin { address, user_agent }))
    }
}

/// The access token in `Authorization`, not looked at yet; `None` when none was sent.
pub(in crate::http) struct Bearer(pub(in crate::http) Option<SecretString>);

impl FromRequestParts<Shared> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        bearer(&parts.headers).map(Self)
    }
}

/// Two `Authorization` headers are refused: a proxy in front may have looked at the other one.
fn bearer(headers: &HeaderMap) -> Result<Option<SecretString>, Problem> {
    let value = only_value(headers, &header::AUTHORIZATION).map_err(|()| Problem::new(Code::InvalidToken))?;
    let parts = value.and_then(|value| value.split_once(' ').or(Some((value, ""))));
    Ok(match parts {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            Some(token.trim_start_matches(' ').into())
        }
        _ => None,
    })
}

/// Someone with a good access token and a live session, at the public listener.
#[derive(Debug)]
pub(in crate::http) struct Me(pub(in crate::http) Caller);

impl FromRequestParts<Shared> for Me {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        caller(parts, app, Door::Public).await.map(Self)
    }
}

/// Someone with a token for the admin API and the permission that the route names.
#[derive(Debug)]
pub(in crate::http) struct Operator(pub(in crate::http) Caller);

impl Operator {
    /// How flows and the audit log know them.
    pub(in crate::http) fn actor(&self) -> Actor {
        Actor { name: self.0.user_id.to_string(), authority: self.0.authority() }
    }
}

impl FromRequestParts<Shared> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        // A handler that asks for an operator on a route that names no permission is a mistake of ours: closed.
        let Some(Access::Permission(needed)) = parts.extensions.get::<Access>().copied() else {
            return Err(Problem::new(Code::InternalError));
        };
        let caller = caller(parts, app, Door::Admin).await?;
        if caller.permissions.contains(needed) {
            Ok(Self(caller))
        } else {
            Err(AuthError::Forbidden(needed).into())
        }
    }
}

async fn caller(parts: &Parts, app: &App, door: Door) -> Result<Caller, Problem> {
    use secrecy::ExposeSecret as _;
    let token = bearer(&parts.headers)?.ok_or_else(|| Problem::new(Code::MissingToken))?;
    Ok(authenticate(app, token.expose_secret(), door).await?)
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
        #[serde(default, deserialize_with = "crate::http::base::wire::present")]
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
    fn a_refusal_names_the_member_and_never_the_value() {
        for (body, says) in [
            (r#"{"name": 5}"#, "`name`: expected a string"),
            (r#"{"name": "n", "count": "canary"}"#, "`count`: expected u32"),
            (r#"{"name": "n", "count": ", expected canary"}"#, "`count`: expected u32"),
            (r#"{"name": "n", "count": null}"#, "`count`: expected u32"),
            (r#"{"name": "n", "count": -1}"#, "`count`: expected u32"),
            (r#"{"name": "n", "count": 1e400}"#, "the body is not JSON"),
            (r#"{"name": "n", "extra": ["canary"]}"#, "`extra`: expected a map"),
            (
                r#"{"canary": 1, "name": "n"}"#,
                "a member is not known; expected one of `name`, `count`, `extra`",
            ),
            (r#"{"name": "canary", "name": "canary"}"#, "duplicate field `name`"),
            ("{}", "missing field `name`"),
            ("[]", "the body is not a JSON object"),
            (r#"["canary"]"#, "the body is not a JSON object"),
            (r#""canary""#, "the body is not a JSON object"),
            (r#"{"name": "canary"#, "the body is not JSON"),
            (r#"{"name": "canary"} x"#, "the body goes on after its end"),
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
    fn only_json_is_json() {
        for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;"] {
            assert!(is_json(request(&[("content-type", good)], b"").headers()), "{good}");
        }
        for bad in [
            "text/plain",
            "application/json; charset=latin1",
            "application/jsonp",
            "application/problem+json",
        ] {
            assert!(!is_json(request(&[("content-type", bad)], b"").headers()), "{bad}");
        }
        assert!(!is_json(request(&[], b"").headers()));
        assert!(!is_json(request(&[JSON, JSON], b"").headers()));
    }

    #[tokio::test]
    async fn a_body_is_limited_and_an_empty_one_is_none() {
        assert!(read(request(&[], b"")).await.unwrap().is_none());
        assert!(read(request(&[JSON], b"{}")).await.unwrap().is_some());
        let refused = |problem: Problem| format!("{problem:?}");
        assert!(refused(read(request(&[], b"{}")).await.unwrap_err()).contains("UnsupportedMediaType"));
        let large: &'static [u8] = Box::leak(vec![b' '; LARGEST_BODY + 1].into_boxed_slice());
        assert!(refused(read(request(&[JSON], large)).await.unwrap_err()).contains("BodyTooLarge"));
        assert!(read(request(&[JSON], &large[1..])).await.unwrap().is_some());
        // Mapping hides how long it is.
        let unknown_length =
            RawBody::new(http_body_util::Full::new(large.into()).map_frame(std::convert::identity));
        assert!(refused(read(Request::new(unknown_length)).await.unwrap_err()).contains("BodyTooLarge"));
    }

    #[test]
    fn one_bearer_token_is_taken_and_two_are_refused() {
        use secrecy::ExposeSecret as _;
        let token = |headers: &[(&str, &str)]| {
            bearer(request(headers, b"").headers())
                .map(|token| token.map(|token| token.expose_secret().to_owned()))
        };
        assert_eq!(token(&[("authorization", "Bearer abc")]).unwrap().as_deref(), Some("abc"));
        assert_eq!(token(&[("authorization", "bEARER  abc")]).unwrap().as_deref(), Some("abc"));
        assert_eq!(token(&[("authorization", "Bearer")]).unwrap().as_deref(), Some(""));
        assert_eq!(token(&[("authorization", "Basic abc")]).unwrap(), None);
        assert_eq!(token(&[]).unwrap(), None);
        assert!(token(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]).is_err());
    }
}
