//! A panic fails one request, one connection or one round of a job, never the process. The panics are real: a
//! clock and a source of randomness raise them on demand.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use auth_service::boot;
use auth_service::config::{Config, Loaded, LogFormat};
use auth_service::entropy::{Entropy, EntropyError, SystemEntropy};
use auth_service::runtime::app::App;
use auth_service::runtime::telemetry::{self, Metrics};
use auth_service::{http as service, jobs};
use e2e::client::Client;
use e2e::wait;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use verifier::{Clock, SystemClock, UnixTime};

const PASSWORD: &str = "plum-tractor-cobalt-49";
/// The message of the panics, which must not appear in a log.
const SECRET: &str = "canary-0f3b";
const TIMEOUT: Duration = Duration::from_secs(10);

/// Panics once after it was set.
#[derive(Debug, Default)]
struct Trap(AtomicBool);

impl Trap {
    fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn step(&self) {
        assert!(!self.0.swap(false, Ordering::AcqRel), "on purpose: {SECRET}");
    }
}

#[derive(Debug)]
struct Clockwork {
    system: SystemClock,
    unix_millis: Trap,
    monotonic: Trap,
}

impl Clock for Clockwork {
    fn now(&self) -> UnixTime {
        self.system.now()
    }

    fn unix_millis(&self) -> i64 {
        self.unix_millis.step();
        self.system.unix_millis()
    }

    fn monotonic(&self) -> Duration {
        self.monotonic.step();
        self.system.monotonic()
    }
}

#[derive(Debug)]
struct Randomness {
    system: SystemEntropy,
    trap: Trap,
}

impl Entropy for Randomness {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        self.trap.step();
        self.system.fill(out)
    }
}

/// A replica with real sockets, and without jobs.
struct Replica {
    app: App,
    clock: Arc<Clockwork>,
    entropy: Arc<Randomness>,
    public: Client,
    admin: Client,
    _folder: TempDir,
}

impl Replica {
    async fn start() -> Self {
        static LOGS: Once = Once::new();
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            database_url: format!("sqlite://{}", folder.path().join("auth.db").display()).into(),
            bootstrap_admin_password: Some(PASSWORD.into()),
            log_format: LogFormat::Json,
            hash_memory_kib: 64,
            hash_iterations: 1,
            ..Config::default()
        };
        LOGS.call_once(|| telemetry::init_logs(&config).unwrap());
        let clock = Arc::new(Clockwork {
            system: SystemClock::new(),
            unix_millis: Trap::default(),
            monotonic: Trap::default(),
        });
        let entropy = Arc::new(Randomness { system: SystemEntropy::new(), trap: Trap::default() });
        let loaded = Loaded { config, ..Loaded::default() };
        let app = boot::start(loaded, clock.clone(), entropy.clone()).await.unwrap();
        boot::bootstrap(&app).await.unwrap();
        let public = listen(service::public(app.clone())).await;
        let admin = listen(service::admin(app.clone(), Metrics::detached())).await;
        Self { app, clock, entropy, public, admin, _folder: folder }
    }

    /// Logs in; the audience is the admin listener's.
    async fn token(&self) -> String {
        let body = serde_json::json!({"username": "admin", "password": PASSWORD, "audience": "auth-admin"});
        self.public.post("/v1/login", &body).await.unwrap().tokens().access
    }
}

async fn listen(router: axum::Router) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}", listener.local_addr().unwrap()));
    tokio::spawn(service::server::serve(listener, router, std::future::pending()));
    client
}

#[tokio::test]
async fn panicking_handler_returns_500_and_the_next_request_is_served() {
    let replica = Replica::start().await;
    replica.entropy.trap.set();
    let answer = replica.public.login("admin", PASSWORD).await.unwrap();
    assert!(!replica.entropy.trap.is_set(), "the login needed randomness");
    assert_eq!((answer.status.as_u16(), answer.code()), (500, "internal_error".to_owned()));
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json()["request_id"], answer.header("x-request-id"));
    assert!(!answer.json().to_string().contains(SECRET));
    replica.token().await;
}

#[tokio::test]
async fn panic_on_a_blocking_thread_returns_500() {
    let replica = Replica::start().await;
    let admin = replica.admin.with_bearer(&replica.token().await);
    replica.entropy.trap.set();
    let refused = admin.post("/admin/v1/keys/rotate", &serde_json::json!({})).await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.code()), (500, "internal_error".to_owned()));
    let rotated = admin.post("/admin/v1/keys/rotate", &serde_json::json!({})).await.unwrap();
    rotated.assert_status(http::StatusCode::CREATED);
}

#[tokio::test]
async fn panicking_connection_is_closed_and_others_are_served() {
    let replica = Replica::start().await;
    // This call is outside the layer that catches panics of handlers.
    replica.clock.monotonic.set();
    replica.public.get("/livez").await.expect_err("the connection broke");
    assert!(!replica.clock.monotonic.is_set());
    replica.public.get("/livez").await.unwrap().assert_status(http::StatusCode::OK);
    replica.token().await;
}

#[tokio::test]
async fn panic_under_the_lock_of_the_feed_leaves_it_usable() {
    let replica = Replica::start().await;
    let app = replica.app.clone();
    replica.clock.monotonic.set();
    let crash = tokio::spawn(async move { app.feed.poll().await }).await.unwrap_err();
    assert!(crash.is_panic());
    replica.app.feed.poll().await.unwrap();
    replica.public.get("/v1/revocations").await.unwrap().assert_status(http::StatusCode::OK);
}

#[tokio::test]
async fn crashed_job_is_restarted_and_the_process_continues() {
    let replica = Replica::start().await;
    let (_running, stopped) = tokio::sync::watch::channel(());
    let jobs = tokio::spawn(jobs::run(replica.app.clone(), stopped));
    let feed = &replica.app.feed;
    let first = wait::until("the feed reads", TIMEOUT, async || feed.as_of()).await;
    // Only the feed reads the clock in milliseconds.
    replica.clock.unix_millis.set();
    wait::until("the feed crashes", TIMEOUT, async || (!replica.clock.unix_millis.is_set()).then_some(()))
        .await;
    let crashed = feed.as_of().max(Some(first));
    wait::until("the feed reads again", TIMEOUT, async || feed.as_of().filter(|_| feed.as_of() > crashed))
        .await;
    assert!(!jobs.is_finished());
    replica.token().await;
}

/// Runs the test above in its own process and reads its log.
#[test]
fn handler_panic_is_logged_with_location_and_request_but_without_message() {
    let test = "panicking_handler_returns_500_and_the_next_request_is_served";
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let log = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success(), "{log}");
    assert!(!log.contains(SECRET), "{log}");
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let errors: Vec<Value> = lines.filter(|line| line["level"] == "ERROR").collect();
    let panics: Vec<&Value> = errors.iter().filter(|line| line["message"] == "a task panicked").collect();
    assert_eq!(panics.len(), 1, "{log}");
    assert!(panics[0]["place"].as_str().unwrap().starts_with("auth-service/tests/panics.rs:"), "{log}");
    assert!(errors.iter().all(|line| line["request_id"] == panics[0]["request_id"]), "{log}");
    assert!(panics[0]["request_id"].is_string(), "{log}");
}

#[test]
fn no_profile_aborts_on_panic() {
    let workspace: toml::Table = include_str!("../../Cargo.toml").parse().unwrap();
    for (name, profile) in workspace["profile"].as_table().unwrap() {
        assert!(profile.get("panic").is_none(), "profile.{name}: everything above relies on unwinding");
    }
}
