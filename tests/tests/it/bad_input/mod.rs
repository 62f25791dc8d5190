//! Bad input on every route: the error is clear, nothing changes, and no secret leaves the service.

mod bodies;
mod routes;

use bodies::Case;
use bytes::Bytes;
use e2e::client::{Answer, Client, Tokens};
use e2e::cluster::{ADMIN, ADMIN_AUDIENCE, Cluster, Plan};
use e2e::jwt::Peek;
use e2e::postgres::{Database, Postgres};
use e2e::rude;
use http::{HeaderName, Method, StatusCode, header};
use routes::{Listener, Route};
use serde_json::Value;

/// Part of every invented secret. It must not occur in a response or a log.
const CANARY: &str = "kanarienvogel";

/// Tables that a refused request may change: the audit log and the failure counters. Replicas also write
/// heartbeats.
const RECORDS: &[&str] = &["audit", "login_failures", "replicas"];

/// Bytes that the system takes from a client even if the service reads none of them.
const SENT_IN_ONE_PIECE: usize = 64 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_reported_and_changes_and_leaks_nothing() {
    let scene = Scene::set().await;
    let (mut requests, mut heard, mut unheard) = (0, 0, 0);
    for route in scene.routes() {
        let before = scene.database.dump(RECORDS);
        for case in bodies::cases(&route) {
            let was_heard = scene.send_body(&route, &case).await;
            if case.body.len() > SENT_IN_ONE_PIECE {
                *(if was_heard { &mut heard } else { &mut unheard }) += 1;
            }
            requests += 1;
        }
        for (bearer, what) in bad_bearers() {
            if route.needs_bearer {
                let client = scene.client(route.listener).with_header(header::AUTHORIZATION, &bearer);
                let answer = client.send(route.method.clone(), &route.path, None, Bytes::new()).await;
                let answer = answer.expect("an answer");
                clearly_refused(&answer, &format!("{route:?} with {what}"));
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{route:?} with {what}: {answer}");
                assert!(answer.header(header::WWW_AUTHENTICATE).starts_with("Bearer"), "{route:?}: {answer}");
                requests += 1;
            }
        }
        for path in route.bad_paths() {
            let client = scene.bearer_client(&route);
            let body = route.good.as_ref().map_or_else(Bytes::new, |good| good.to_string().into());
            let content_type = route.good.as_ref().map(|_| "application/json");
            let answer =
                client.send(route.method.clone(), &path, content_type, body).await.expect("an answer");
            clearly_refused(&answer, &format!("{} {path}", route.method));
            requests += 1;
        }
        if !route.takes_any_method {
            let wrong = client_answer(&scene.bearer_client(&route), Method::TRACE, &route.path).await;
            clearly_refused(&wrong, &format!("TRACE {}", route.path));
            assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED, "{route:?}: {wrong}");
            assert!(!wrong.header(header::ALLOW).is_empty(), "405 says what is allowed: {route:?}");
        }
        let elsewhere =
            client_answer(&scene.client(route.listener.other()), route.method.clone(), &route.path).await;
        clearly_refused(&elsewhere, &format!("{} {} at the other listener", route.method, route.path));
        assert_eq!(elsewhere.status, StatusCode::NOT_FOUND, "{route:?} at the other listener: {elsewhere}");
        scene.assert_unchanged(&before, &format!("{route:?}"));
    }
    println!("{requests} bad requests; of responses to large bodies {heard} heard, {unheard} not");
    assert!(heard > unheard, "{unheard} of {} responses to large bodies were lost", heard + unheard);
    assert!(requests > 500, "{requests}");
    scene.rude_bytes_are_refused().await;
    scene.no_secret_was_logged();
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_origin_headers_change_nothing() {
    let scene = Scene::set().await;
    let forged = [
        (header::HOST, "evil.example"),
        (HeaderName::from_static("x-forwarded-host"), "evil.example"),
        (HeaderName::from_static("x-forwarded-proto"), "https"),
        (HeaderName::from_static("x-forwarded-port"), "1"),
        (HeaderName::from_static("x-forwarded-prefix"), "/evil"),
        (HeaderName::from_static("x-forwarded-for"), "203.0.113.7, not an address"),
        (header::FORWARDED, "for=\"[::1]\";host=evil.example;proto=https"),
        (HeaderName::from_static("x-original-url"), "/admin/v1/keys"),
        (HeaderName::from_static("x-rewrite-url"), "/admin/v1/keys"),
        (HeaderName::from_static("x-http-method-override"), "DELETE"),
    ];
    let plain = scene.client(Listener::Public);
    let metadata = [
        "/.well-known/jwks.json",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
    ];
    let all =
        forged.iter().fold(plain.clone(), |client, (name, value)| client.with_header(name.clone(), value));
    for path in metadata {
        let honest = plain.get(path).await.expect("an answer");
        honest.assert_status(StatusCode::OK);
        assert!(!String::from_utf8_lossy(&honest.body).contains("evil"));
        let each = forged.iter().map(|(name, value)| plain.with_header(name.clone(), value));
        for client in each.chain([all.clone()]) {
            let answer = client.get(path).await.expect("an answer");
            assert_eq!((answer.status, &answer.body), (honest.status, &honest.body), "{path}");
            assert_eq!(answer.header(header::ETAG), honest.header(header::ETAG), "{path}");
        }
    }

    // Issuing: the issuer does not depend on the request.
    let login = all.login(ADMIN, scene.cluster.admin_password()).await.expect("an answer").tokens();
    let me = plain.with_bearer(&login.access).me().await.expect("an answer");
    me.assert_status(StatusCode::OK);
    all.with_bearer(&login.access).me().await.expect("an answer").assert_status(StatusCode::OK);
    let claims = e2e::jwt::claims(&login.access);
    assert_eq!(claims["iss"], scene.cluster.issuer());

    // Override headers change neither the method nor the route.
    let before = scene.database.dump(RECORDS);
    let sessions = all.with_bearer(&login.access).get("/v1/me/sessions").await.expect("an answer");
    sessions.assert_status(StatusCode::OK);
    scene.assert_unchanged(&before, "forged headers");
    assert!(!scene.cluster.logs().contains("panicked"));
}

struct Scene {
    cluster: Cluster,
    database: Database<'static>,
    admin: Tokens,
    user: Tokens,
    user_id: String,
    role: String,
    kid: String,
}

impl Scene {
    async fn set() -> Self {
        let database = Postgres::shared().create_database();
        let cluster = Cluster::start(Plan::new(1, database.url()).set("log", "trace")).await;
        let name = cluster.create_users("input", 1, &["ping"]).await.remove(0);
        let client = cluster.client();
        let login = client.login_for(ADMIN_AUDIENCE, ADMIN, cluster.admin_password()).await;
        let admin = login.expect("an answer").tokens();
        let user = client.login(&name, cluster.user_password()).await.expect("an answer").tokens();
        let me = client.with_bearer(&user.access).me().await.expect("an answer").json();
        let user_id = me["sub"].as_str().expect("an id").to_owned();
        let kid = Peek::into(&user.access).kid;
        Self { cluster, database, admin, user, user_id, role: "input-role".into(), kid }
    }

    fn routes(&self) -> Vec<Route> {
        routes::all(&routes::Names {
            username: "input-0",
            password: self.cluster.user_password(),
            refresh_token: &self.user.refresh,
            user_id: &self.user_id,
            session_id: &self.user.session,
            role: &self.role,
            kid: &self.kid,
        })
    }

    fn client(&self, listener: Listener) -> Client {
        let replica = &self.cluster.replicas()[0];
        Client::new(&match listener {
            Listener::Public => replica.public_url(),
            Listener::Admin => replica.admin_url(),
        })
    }

    /// A client with a valid token for the route's listener.
    fn bearer_client(&self, route: &Route) -> Client {
        let token = match route.listener {
            Listener::Public => &self.user.access,
            Listener::Admin => &self.admin.access,
        };
        self.client(route.listener).with_bearer(token)
    }

    /// Sends a body that must be refused. Returns whether the response was heard.
    async fn send_body(&self, route: &Route, case: &Case) -> bool {
        let what = format!("{} {} with {}", route.method, route.path, case.what);
        // With a token, requests pass the first check, so that bodies are read.
        let client = if route.needs_bearer { self.bearer_client(route) } else { self.client(route.listener) };
        let client = client.with_header(HeaderName::from_static("x-forwarded-for"), "203.0.113.9");
        let sent = client.send(route.method.clone(), &route.path, case.content_type, case.body.clone()).await;
        let answer = match sent {
            Ok(answer) => answer,
            // The service responds and closes the connection without reading the rest; the client may see the end before the response.
            Err(lost) if case.body.len() > SENT_IN_ONE_PIECE && lost.why.contains("BodyWrite") => {
                return false;
            }
            Err(lost) => panic!("{what}: {}", lost.why),
        };
        clearly_refused(&answer, &what);
        if let Some(status) = case.status {
            assert_eq!(answer.status, status, "{what}: {answer}");
        }
        true
    }

    /// Checks that the database is as `before`, except for records.
    #[track_caller]
    fn assert_unchanged(&self, before: &str, what: &str) {
        let after = self.database.dump(RECORDS);
        let gone = before.lines().filter(|row| !after.contains(row)).map(|row| format!("gone: {row}"));
        let new = after.lines().filter(|row| !before.contains(row)).map(|row| format!("new: {row}"));
        let changes: Vec<String> = gone.chain(new).collect();
        assert!(changes.is_empty() && before.len() == after.len(), "{what} changed\n{}", changes.join("\n"));
    }

    /// Data other than HTTP is refused or the connection closed, and the service continues.
    async fn rude_bytes_are_refused(&self) {
        let public = self.cluster.replicas()[0].address("public");
        let long = format!("GET /livez HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(1_000_000));
        let rude: [&[u8]; 9] = [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET /livez\r\n\r\n",
            b"GET /livez HTTP/9.9\r\nhost: a\r\n\r\n",
            b"GET /li\xffvez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            b"GET /livez HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n",
            b"POST /v1/login HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
            b"POST /v1/login HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
            b"POST /v1/login HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            long.as_bytes(),
        ];
        for bytes in rude {
            let reply = rude::send(public, bytes).await;
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
            assert!(
                reply.status.is_none_or(|status| (400..=505).contains(&status)),
                "{shown:?}: {}",
                reply.text
            );
        }
        let alive = self.client(Listener::Public).get("/livez").await.expect("an answer");
        alive.assert_status(StatusCode::OK);
    }

    /// Checks that the log at level trace contains no secret.
    fn no_secret_was_logged(&self) {
        let logs = self.cluster.logs();
        assert!(logs.len() > 10_000, "the service logs: {} bytes", logs.len());
        let master_key =
            std::fs::read_to_string(self.cluster.dir().path().join("master.key")).expect("the key file");
        let secrets = [
            ("made-up secret", CANARY),
            ("password of the administrator", self.cluster.admin_password()),
            ("password of the user", self.cluster.user_password()),
            ("password of the database", self.database.password()),
            ("master key", master_key.trim()),
            ("access token", &self.user.access),
            ("refresh token", &self.user.refresh),
            ("access token of the administrator", &self.admin.access),
            ("hash of a password", "$argon2"),
        ];
        for (what, secret) in secrets {
            if let Some(line) = logs.lines().find(|line| line.contains(secret)) {
                panic!("{what} in the log: {line}");
            }
        }
        assert!(!logs.contains("panicked"), "the service panicked");
    }
}

/// Checks for a 4xx problem document with a stable code and no secret.
#[track_caller]
fn clearly_refused(answer: &Answer, what: &str) {
    assert!(answer.status.is_client_error(), "{what}: {answer}");
    assert_eq!(answer.header(header::CONTENT_TYPE), "application/problem+json", "{what}: {answer}");
    assert!(!answer.header("x-request-id").is_empty(), "{what}: no x-request-id");
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status.as_u16(), "{what}: {answer}");
    let code = answer.code();
    assert!(
        !code.is_empty() && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
        "{what}: {answer}"
    );
    assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{what}: {answer}");
    assert_eq!(problem["request_id"], answer.header("x-request-id"), "{what}: {answer}");
    assert!(!answer.to_string().contains(CANARY), "{what} is repeated: {answer}");
    let null = problem.as_object().is_some_and(|members| members.values().any(Value::is_null));
    assert!(!null, "{what}: a member without a value: {answer}");
}

async fn client_answer(client: &Client, method: Method, path: &str) -> Answer {
    client.send(method, path, None, Bytes::new()).await.expect("an answer")
}

/// Values of `Authorization` that are not access tokens, with descriptions.
fn bad_bearers() -> Vec<(String, &'static str)> {
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.eyJzdWIiOiJhZG1pbiJ9.";
    vec![
        (format!("Bearer {CANARY}"), "a word"),
        (format!("Bearer {none}"), "an unsigned token"),
        (format!("Bearer a.{CANARY}.c"), "three words"),
        (format!("Bearer {}", "a".repeat(10_000)), "a long token"),
        (format!("Basic {CANARY}"), "another scheme"),
        ("Bearer".to_owned(), "no token"),
        ("Bearer  ".to_owned(), "spaces"),
    ]
}
