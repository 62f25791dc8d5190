//! Routing of requests: by path, with forged headers, and during an outage of the database.

use std::time::Duration;

use e2e::checking::ready_verifier;
use e2e::client::Client;
use e2e::clock;
use e2e::front_end::{EXAMPLE_KEY, NODES, Plain, Program, Site};
use e2e::postgres::{Postgres, Stop};
use e2e::wait;
use http::{HeaderName, StatusCode, header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use verifier::{FeedState, NoExtra};

/// Headers that a client may forge to impersonate another one.
const FORGED: [(&str, &str); 20] = [
    ("x-auth-subject", "root"),
    ("x-auth-roles", "root"),
    ("x-auth-permissions", "root"),
    ("x-auth-session", "root"),
    ("x_auth_subject", "root"),
    ("x_auth_permissions", "root"),
    // CGI and WSGI treat all of them as the same name.
    ("x_auth-subject", "root"),
    ("x-auth_subject", "root"),
    ("x_auth-session", "root"),
    ("x-auth_permissions", "root"),
    ("x-forwarded-for", "192.0.2.1, 192.0.2.2"),
    ("x-forwarded-proto", "gopher"),
    ("x-forwarded-host", "forged.example"),
    ("x-forwarded-port", "70707"),
    ("x-forwarded-prefix", "/forged"),
    ("x-forwarded-server", "forged.example"),
    ("x_forwarded_for", "192.0.2.1"),
    ("x_forwarded-host", "forged.example"),
    ("x-forwarded_proto", "gopher"),
    ("forwarded", "for=192.0.2.1"),
];

/// The replica whose clock fails: it is alive but not ready, and cannot check tokens.
const WRONG_CLOCK: usize = 1;
/// A front end with health checks has detected a change within this time.
const NOTICED: Duration = Duration::from_secs(3);

/// All requirements of every front end, in one site, because building a site takes time.
pub(crate) async fn check(program: Program) {
    let postgres = Postgres::start();
    let database = postgres.create_database();
    // Replicas leave readiness when their keys were not confirmed for a quarter of key_publish_ahead, here 2
    // s.
    let site = Site::start(program, &database.url(), NODES, |plan| {
        plan.set("key_publish_ahead", "8s")
            .set("key_poll_interval", "500ms")
            .set("jwks_max_age", "2s")
            .set("clock_bound", "1s")
            .set("leeway", "2s")
            .clock_to_set(WRONG_CLOCK)
    })
    .await;
    nobody_is_who_they_say(&site).await;
    admin_is_not_reachable(&site).await;
    paths_that_begin_alike_are_others(&site).await;
    sockets_go_where_fewest_are(&site).await;
    logout_is_heard_of_within_a_second(&site).await;
    who_cannot_tell_is_not_asked(program, &site).await;
    keys_and_feed_outlive_the_database(program, &site, &postgres).await;
}

/// A client that sends everything in [`FORGED`].
pub(crate) fn forging(client: &Client) -> Client {
    FORGED.iter().fold(client.clone(), |client, (name, value)| {
        client.with_header(HeaderName::from_static(name), value)
    })
}

/// Panics if one of the forged values reached the service that returned `seen`.
#[track_caller]
pub(crate) fn assert_nothing_forged(seen: &Value) {
    let headers = seen["headers"].as_object().expect("what the service saw");
    for (name, value) in FORGED {
        let arrived = headers.get(name).map(Value::to_string).unwrap_or_default();
        assert!(!arrived.contains(value), "{name} arrived: {seen}");
    }
    assert_eq!(headers["x-forwarded-for"], json!(["127.0.0.1"]), "{seen}");
    assert_eq!(headers["x-forwarded-proto"], json!(["http"]), "{seen}");
}

async fn nobody_is_who_they_say(site: &Site) {
    // Some front ends drop the headers that Connection names, which must not be those that they set.
    let client = site.client().with_header(header::CONNECTION, "close, x-forwarded-for, X-Forwarded-Proto");
    let answer = forging(&client).get("/live").await.expect("an answer");
    answer.assert_status(StatusCode::OK);
    let seen = answer.json();
    assert_nothing_forged(&seen);
    let identity = |name: &&String| name.replace('_', "-").starts_with("x-auth-");
    let headers = seen["headers"].as_object().expect("what the service saw");
    let told: Vec<&Value> = headers.keys().filter(identity).map(|name| &headers[name]).collect();
    assert!(told.iter().all(|value| **value == json!([""])), "nobody is anybody here: {seen}");
}

async fn admin_is_not_reachable(site: &Site) {
    for path in ["/admin/v1/keys", "/metrics", "/v1/../admin/v1/keys", "/v1/%2e%2e/metrics"] {
        let answer = site.client().get(path).await.expect("an answer");
        let refused = [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED];
        assert!(refused.contains(&answer.status), "{path}: {answer}");
        assert!(
            !String::from_utf8_lossy(&answer.body).contains("auth_http_requests_total"),
            "{path}: {answer}"
        );
    }
}

async fn paths_that_begin_alike_are_others(site: &Site) {
    // The service with the WebSockets returns the received request for any path.
    for path in ["/livez", "/lively"] {
        let answer = site.client().get(path).await.expect("an answer");
        assert!(!String::from_utf8_lossy(&answer.body).contains("\"headers\""), "{path}: {answer}");
    }
    // httpd's own way to replicas that are not ready.
    let answer = site.client().get("/-living/.well-known/jwks.json").await.expect("an answer");
    assert!(answer.status.is_client_error(), "{answer}");
}

async fn sockets_go_where_fewest_are(site: &Site) {
    let counts = || site.live().iter().map(Plain::sockets).collect::<Vec<_>>();
    let mut open = Vec::new();
    for _ in 0..2 * NODES {
        open.push(Socket::open(site).await);
    }
    assert_eq!(counts(), [2, 2, 2]);
    // The connections of one replica close. Then the next two must go there, unlike with round-robin. The
    // front end may count the closed ones for a moment longer than the service does.
    let lonely = open[0].replica;
    open.retain(|socket| socket.replica != lonely);
    let come = wait::until("two sockets in a row go where fewest are", Duration::from_secs(5), async || {
        let two = [Socket::open(site).await, Socket::open(site).await];
        two.iter().all(|socket| socket.replica == lonely).then_some(two)
    });
    open.extend(come.await);
    for socket in &mut open {
        socket.echo("over there?").await;
    }
}

async fn logout_is_heard_of_within_a_second(site: &Site) {
    let users = site.cluster().create_users("leaver", 1, &["ping"]).await;
    let client = site.client();
    let tokens = client.login(&users[0], site.cluster().user_password()).await.expect("an answer").tokens();
    let verifier = ready_verifier(&site.cluster().issuer()).await;
    wait::until("the verifier follows the feed", Duration::from_secs(10), async || {
        (verifier.status().feed.state == FeedState::Live).then_some(())
    })
    .await;
    verifier.verify::<NoExtra>(&tokens.access).await.expect("a good token");
    client.logout(&tokens.refresh).await.expect("an answer").assert_status(StatusCode::NO_CONTENT);
    wait::until("the ended session is refused", Duration::from_secs(1), async || {
        verifier.verify_now::<NoExtra>(&tokens.access).is_err().then_some(())
    })
    .await;
}

async fn who_cannot_tell_is_not_asked(program: Program, site: &Site) {
    let users = site.cluster().create_users("checked", 1, &["ping"]).await;
    let login = site.client().login(&users[0], site.cluster().user_password()).await.expect("an answer");
    let token = login.tokens().access;
    let replica = &site.cluster().replicas()[WRONG_CLOCK];
    let alone = Client::new(&replica.public_url()).with_bearer(&token);
    let answers = async |path: &str, wanted: StatusCode| {
        wait::until(&format!("{path} says {wanted}"), Duration::from_secs(20), async || {
            (alone.get(path).await.ok()?.status == wanted).then_some(())
        })
        .await;
    };
    replica.set_clock("-3600s");
    answers("/v1/verify", StatusCode::SERVICE_UNAVAILABLE).await;
    wait::let_pass(NOTICED).await;
    for _ in 0..4 * NODES {
        assert_checked(program, site, &token).await;
    }
    replica.set_clock("+0s");
    answers("/readyz", StatusCode::OK).await;
    wait::let_pass(NOTICED).await;
}

/// Checks through the front end that `token` has only the permission `ping`.
async fn assert_checked(program: Program, site: &Site, token: &str) {
    let client = site.client().with_bearer(token);
    for (query, wanted) in [
        ("", StatusCode::OK),
        ("?permission=ping", StatusCode::OK),
        ("?permission=%70ing%20ping&audience=api", StatusCode::OK),
        ("?permission=pong", StatusCode::FORBIDDEN),
        ("?permission=ping%20%70ong", StatusCode::FORBIDDEN),
        ("?audience=nobody", StatusCode::BAD_REQUEST),
    ] {
        let answer = client.get(&format!("/v1/verify{query}")).await.expect("an answer");
        assert_eq!(answer.status, wanted, "{query:?}: {answer}");
    }
    // The others check tokens themselves.
    if matches!(program, Program::Nginx | Program::Caddy) {
        let passed = site.guarded().with_bearer(token).get("/anything").await.expect("an answer");
        passed.assert_status(StatusCode::OK);
    }
}

async fn keys_and_feed_outlive_the_database(program: Program, site: &Site, postgres: &Postgres) {
    let client = site.client();
    let password = site.cluster().user_password();
    let users = site.cluster().create_users("patient", 1, &["ping"]).await;
    let token = client.login(&users[0], password).await.expect("an answer").tokens().access;
    postgres.stop(Stop::Immediate);
    let stopped_at = clock::instant();
    // Until no replica is ready, and then until the front end has detected it.
    let mut all_unready_at = None;
    while all_unready_at.is_none_or(|at: std::time::Instant| at.elapsed() < NOTICED) {
        for path in ["/.well-known/jwks.json", "/.well-known/openid-configuration", "/v1/revocations"] {
            let answer = client.get(path).await.expect("an answer");
            assert_eq!(answer.status, StatusCode::OK, "{path} after {:?}: {answer}", stopped_at.elapsed());
        }
        assert_checked(program, site, &token).await;
        if all_unready_at.is_none() && no_replica_is_ready(site).await {
            all_unready_at = Some(clock::instant());
        }
        assert!(stopped_at.elapsed() < Duration::from_secs(20), "replicas leave readiness");
        wait::let_pass(Duration::from_millis(50)).await;
    }
    let login = client.login(&users[0], password).await.expect("an answer");
    login.assert_status(StatusCode::SERVICE_UNAVAILABLE);

    postgres.start_again();
    wait::until("logins work again", Duration::from_secs(10), async || {
        client.login(&users[0], password).await.ok()?.find_tokens()
    })
    .await;
}

async fn no_replica_is_ready(site: &Site) -> bool {
    for replica in site.cluster().replicas() {
        let ready = Client::new(&replica.public_url()).get("/readyz").await.expect("an answer");
        if ready.status == StatusCode::OK {
            return false;
        }
    }
    true
}

/// An upgraded connection, for example a web socket; the front end forwards its data unchanged.
struct Socket {
    stream: TcpStream,
    replica: usize,
}

impl Socket {
    async fn open(site: &Site) -> Self {
        let at = site.addresses().public();
        let mut stream = TcpStream::connect(at).await.expect("the front end listens");
        let request = format!(
            "GET /live HTTP/1.1\r\nhost: {at}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: {EXAMPLE_KEY}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("it is open");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        let (_, number) = head.split_once("x-replica: ").expect("the service says who it is");
        let replica = number[..1].parse().expect("a number");
        let mut socket = Self { stream, replica };
        // Once it echoes, it is counted.
        socket.echo("hello").await;
        socket
    }

    async fn echo(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("it is open");
        let mut back = vec![0; text.len()];
        self.stream.read_exact(&mut back).await.expect("an echo");
        assert_eq!(back, text.as_bytes());
    }
}
