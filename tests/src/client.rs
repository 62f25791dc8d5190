//! A correct client: one address, JSON in and out; every call returns a response or [`Lost`].

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::balancer::{PICK, SERVED_BY};
use crate::clock;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A client of one address, with a pool of connections that its clones share.
#[derive(Clone, Debug)]
pub struct Client {
    http: Http<HttpConnector, Full<Bytes>>,
    base: String,
    headers: HeaderMap,
    timeout: Duration,
}

/// There was no response: the connection broke, or the deadline passed. The request may have been executed.
#[derive(Debug)]
pub struct Lost {
    /// The reason.
    pub why: String,
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body as sent.
    pub body: Bytes,
    /// Time from the start of the request to the end of the response.
    pub took: Duration,
}

/// The tokens of a login or a refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The JWT.
    pub access: String,
    /// The opaque token for the next pair.
    pub refresh: String,
    /// The session of both.
    pub session: String,
}

impl Client {
    /// A client of `base`, such as `http://127.0.0.1:8080`.
    pub fn new(base: &str) -> Self {
        Self::with_connector(base, HttpConnector::new())
    }

    /// A client of `base` that connects from the address `from`, such as `127.0.0.7`.
    pub fn new_from(from: Ipv4Addr, base: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_local_address(Some(from.into()));
        Self::with_connector(base, connector)
    }

    fn with_connector(base: &str, mut connector: HttpConnector) -> Self {
        connector.set_nodelay(true);
        let http = Http::builder(TokioExecutor::new()).build(connector);
        Self { http, base: base.to_owned(), headers: HeaderMap::new(), timeout: TIMEOUT }
    }

    /// The same client with one more header field.
    #[must_use]
    pub fn with_header(&self, name: HeaderName, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.append(name, HeaderValue::from_str(value).expect("a header value"));
        other
    }

    /// The same client with the bearer token `token`.
    #[must_use]
    pub fn with_bearer(&self, token: &str) -> Self {
        let mut other = self.clone();
        other.headers.remove(header::AUTHORIZATION);
        other.with_header(header::AUTHORIZATION, &format!("Bearer {token}"))
    }

    /// The same client with this timeout for a whole response.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The same client for another address.
    #[must_use]
    pub fn at_address(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    /// The same client, which requests one replica from the balancer.
    #[must_use]
    pub fn at_replica(&self, number: usize) -> Self {
        self.with_header(PICK, &number.to_string())
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Result<Answer, Lost> {
        self.send(Method::GET, path, None, Bytes::new()).await
    }

    /// `method path` with a JSON body.
    pub async fn send_json(&self, method: Method, path: &str, body: &Value) -> Result<Answer, Lost> {
        self.send(method, path, Some("application/json"), body.to_string().into()).await
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, Lost> {
        self.send_json(Method::POST, path, body).await
    }

    /// Any request.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Answer, Lost> {
        let start = clock::instant();
        let uri = format!("{}{path}", self.base);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().expect("a path the test wrote");
        request.headers_mut().clone_from(&self.headers);
        if let Some(value) = content_type {
            let value = HeaderValue::from_str(value).expect("a header value");
            request.headers_mut().insert(header::CONTENT_TYPE, value);
        }
        let exchange = async {
            let (head, body) = self
                .http
                .request(request)
                .await
                .map_err(|error| Lost { why: format!("{error:?}") })?
                .into_parts();
            let body = body.collect().await.map_err(|error| Lost { why: format!("{error:?}") })?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body, took: start.elapsed() })
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(Lost { why: format!("no answer within {:?}", self.timeout) }),
        }
    }

    /// Logs in for the default audience.
    pub async fn login(&self, username: &str, password: &str) -> Result<Answer, Lost> {
        self.post("/v1/login", &json!({ "username": username, "password": password })).await
    }

    /// Logs in for `audience`.
    pub async fn login_for(&self, audience: &str, username: &str, password: &str) -> Result<Answer, Lost> {
        let body = json!({ "username": username, "password": password, "audience": audience });
        self.post("/v1/login", &body).await
    }

    /// Exchanges a refresh token.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Answer, Lost> {
        self.post("/v1/refresh", &json!({ "refresh_token": refresh_token })).await
    }

    /// Ends the session of a refresh token.
    pub async fn logout(&self, refresh_token: &str) -> Result<Answer, Lost> {
        self.post("/v1/logout", &json!({ "refresh_token": refresh_token })).await
    }

    /// The user of the bearer token.
    pub async fn me(&self) -> Result<Answer, Lost> {
        self.get("/v1/me").await
    }

    /// The published keys.
    pub async fn jwks(&self) -> Result<Answer, Lost> {
        self.get("/.well-known/jwks.json").await
    }

    /// All signing keys with their schedules (admin).
    pub async fn keys(&self) -> Result<Answer, Lost> {
        self.get("/admin/v1/keys").await
    }

    /// Announces the next signing key (admin).
    pub async fn rotate(&self) -> Result<Answer, Lost> {
        self.post("/admin/v1/keys/rotate", &json!({})).await
    }

    /// Creates or replaces the role `name` (admin).
    pub async fn put_role(&self, name: &str, permissions: &[&str]) -> Result<Answer, Lost> {
        let body = json!({ "permissions": permissions });
        self.send_json(Method::PUT, &format!("/admin/v1/roles/{name}"), &body).await
    }

    /// Creates a user (admin).
    pub async fn post_user(&self, username: &str, password: &str, roles: &[&str]) -> Result<Answer, Lost> {
        let body = json!({ "username": username, "password": password, "roles": roles });
        self.post("/admin/v1/users", &body).await
    }
}

impl Answer {
    /// The body as JSON; `null` if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The stable `code` of a problem document; empty if there is none.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// A header field as text; empty if it is absent.
    pub fn header(&self, name: impl http::header::AsHeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// How long a client waits before it repeats a request that was not considered (429, 503); `None` for other
    /// responses.
    pub fn retry_after(&self) -> Option<Duration> {
        let is_refused =
            [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&self.status);
        is_refused.then(|| Duration::from_secs(self.header(header::RETRY_AFTER).parse().unwrap_or(1)))
    }

    /// The number of the replica that served the request, from the balancer's header.
    pub fn served_by(&self) -> Option<usize> {
        self.header(SERVED_BY).parse().ok()
    }

    /// Panics with the response unless it has this status.
    #[track_caller]
    pub fn assert_status(&self, status: StatusCode) -> &Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// The tokens of a 200; panics with the response otherwise.
    #[track_caller]
    pub fn tokens(&self) -> Tokens {
        self.find_tokens().unwrap_or_else(|| panic!("no tokens in {self}"))
    }

    /// The tokens of a 200; `None` for another response.
    pub fn find_tokens(&self) -> Option<Tokens> {
        let body = self.json();
        let text = |field: &str| body[field].as_str().map(str::to_owned);
        (self.status == StatusCode::OK).then_some(())?;
        Some(Tokens {
            access: text("access_token")?,
            refresh: text("refresh_token")?,
            session: text("session_id")?,
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(formatter, "{} after {:?}: {body}", self.status, self.took)
    }
}
