//! A replica without sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use auth_service::boot;
use auth_service::config::{Config, Database, Loaded};
use auth_service::entropy::SeededEntropy;
use auth_service::flows::rotate_keys;
use auth_service::http::{self as service, Listener, Peer};
use auth_service::runtime::app::App;
use auth_service::runtime::feed::{Feed, FeedParts};
use auth_service::runtime::telemetry::Metrics;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;
use verifier::{ManualClock, Seconds, UnixTime};

use super::contract::Contract;

pub(crate) const ADMIN_PASSWORD: &str = "plum-tractor-cobalt-49";
pub(crate) const PASSWORD: &str = "seven-violet-harbour-kites";

pub(crate) struct Replica {
    pub(crate) app: App,
    pub(crate) clock: Arc<ManualClock>,
    public: Router,
    admin: Router,
    _folder: TempDir,
}

impl Replica {
    /// A feed like that of the replica, which has read nothing yet.
    pub(crate) fn fresh_feed(&self) -> Arc<Feed> {
        let app = &self.app;
        Arc::new(Feed::new(FeedParts {
            config: Arc::clone(&app.config),
            store: app.store.clone(),
            keyring: Arc::clone(&app.keyring),
            clock: Arc::clone(&app.clock),
            clock_guard: Arc::clone(&app.clock_guard),
            settings: Arc::clone(&app.settings),
            drain: app.drain.watch(),
        }))
    }

    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts with a changed configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::loaded(|loaded| change(&mut loaded.config)).await
    }

    /// Starts with changed settings. Hashes are cheaper than `check` would allow.
    pub(crate) async fn loaded(change: impl FnOnce(&mut Loaded)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            database_url: format!("sqlite://{}", folder.path().join("auth.db").display()).into(),
            bootstrap_admin_password: Some(ADMIN_PASSWORD.into()),
            hash_memory_kib: 64,
            hash_iterations: 1,
            ..Config::default()
        };
        let mut loaded = Loaded { config, ..Loaded::default() };
        change(&mut loaded);
        // 2026-03-01T12:00:00Z
        let clock = Arc::new(ManualClock::new(UnixTime(1_772_366_400)));
        let app = boot::start(loaded, clock.clone(), Arc::new(SeededEntropy::new(1))).await.unwrap();
        boot::bootstrap(&app).await.unwrap();
        app.feed.poll().await.unwrap();
        let (public, admin) =
            (service::public(app.clone()), service::admin(app.clone(), Metrics::detached()));
        Self { app, clock, public, admin, _folder: folder }
    }

    /// Advances the clock and runs the jobs once.
    pub(crate) async fn advance(&self, seconds: i64) {
        self.clock.advance(Seconds(seconds));
        let seen = self.app.store.confirmation().await.unwrap();
        self.app.keyring.catch_up(&self.app.store, &seen).await.unwrap();
        rotate_keys::rotate_if_due(&self.app).await.unwrap();
        self.app.feed.poll().await.unwrap();
    }

    /// Executes SQL without the service.
    pub(crate) async fn execute(&self, sql: &'static str) {
        use sqlx::Connection as _;
        let Database::Sqlite { path } = self.app.config.database() else { panic!("a file") };
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Sends a request and checks the response against the contract.
    pub(crate) async fn send(&self, call: Call) -> Answer {
        let Call { listener, request } = call;
        let (method, path) = (request.method().clone(), request.uri().to_string());
        let router = if listener == Listener::Public { &self.public } else { &self.admin };
        let answer = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let answer = Answer { status: parts.status, headers: parts.headers, body };
        Contract::shared().check((listener, &method, &path), answer.status, &answer.headers, &answer.body);
        answer
    }

    /// Sends a request for a stream and checks the head of the response against the contract.
    pub(crate) async fn open(&self, call: Call) -> (HeaderMap, Body) {
        let (method, path) = (call.request.method().clone(), call.request.uri().to_string());
        let (head, body) = self.public.clone().oneshot(call.request).await.unwrap().into_parts();
        Contract::shared().check((Listener::Public, &method, &path), head.status, &head.headers, b"");
        assert_eq!(head.status, 200);
        (head.headers, body)
    }

    /// Sends a request to which a layer responds, not a route.
    pub(crate) async fn send_to_layers(&self, call: Call) -> (StatusCode, HeaderMap) {
        let router = if call.listener == Listener::Public { &self.public } else { &self.admin };
        let answer = router.clone().oneshot(call.request).await.unwrap();
        (answer.status(), answer.headers().clone())
    }

    /// Logs in; the response must be 200.
    pub(crate) async fn login(&self, username: &str, password: &str, audience: &str) -> Value {
        let body = json!({"username": username, "password": password, "audience": audience});
        let answer = self.send(post("/v1/login").json(&body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// An access token with every admin permission.
    pub(crate) async fn admin_token(&self) -> String {
        let tokens = self.login("admin", ADMIN_PASSWORD, "auth-admin").await;
        tokens["access_token"].as_str().unwrap().to_owned()
    }

    /// Creates a user with [`PASSWORD`] and these roles; returns the id.
    pub(crate) async fn create_user(&self, token: &str, username: &str, roles: &[&str]) -> String {
        let body = json!({"username": username, "password": PASSWORD, "roles": roles});
        let answer = self.send(admin_post("/admin/v1/users").bearer(token).json(&body)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Creates or replaces a role.
    pub(crate) async fn put_role(&self, token: &str, name: &str, permissions: &[&str]) {
        let path = format!("/admin/v1/roles/{name}");
        let call = Call::new(Listener::Admin, Method::PUT, &path).bearer(token);
        let answer = self.send(call.json(&json!({"permissions": permissions}))).await;
        assert!(answer.status.is_success(), "{}", answer.text());
    }
}

/// A request to be sent.
pub(crate) struct Call {
    listener: Listener,
    request: Request<Body>,
}

impl Call {
    pub(crate) fn new(listener: Listener, method: Method, path: &str) -> Self {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        Self { listener, request }.from("127.0.0.1")
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.request.headers_mut().append(name, HeaderValue::from_bytes(value.as_ref()).unwrap());
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub(crate) fn from(mut self, peer: &str) -> Self {
        let address = SocketAddr::new(peer.parse().unwrap(), 40_000);
        self.request.extensions_mut().insert(Peer(address));
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").bytes(body.to_string())
    }

    pub(crate) fn bytes(mut self, body: impl Into<Bytes>) -> Self {
        *self.request.body_mut() = Body::from(body.into());
        self
    }
}

pub(crate) fn get(path: &str) -> Call {
    Call::new(Listener::Public, Method::GET, path)
}

pub(crate) fn post(path: &str) -> Call {
    Call::new(Listener::Public, Method::POST, path)
}

pub(crate) fn admin_get(path: &str) -> Call {
    Call::new(Listener::Admin, Method::GET, path)
}

pub(crate) fn admin_post(path: &str) -> Call {
    Call::new(Listener::Admin, Method::POST, path)
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Panics unless this is the problem with this status and code.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        let body = self.json();
        assert_eq!((self.status.as_u16(), body["code"].as_str()), (status, Some(code)), "{body:#}");
        assert_eq!(body["request_id"].as_str(), self.header("x-request-id"));
    }
}
