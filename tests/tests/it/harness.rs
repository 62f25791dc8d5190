//! Tests of the harness itself.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::balancer::{Balancer, Fault, Share};
use e2e::client::Client;
use e2e::clock;
use e2e::postgres::{Postgres, Stop};
use e2e::process;
use e2e::wait;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[test]
fn database_survives_stop_freeze_and_stalled_standby() {
    let postgres = Postgres::start();
    let database = postgres.create_database();
    database.query("CREATE TABLE t (n BIGINT)");
    database.query("INSERT INTO t VALUES (1)");

    postgres.stop(Stop::Fast);
    postgres.start_again();
    assert_eq!(database.query("SELECT n FROM t").trim(), "1");

    let frozen = clock::instant();
    std::thread::scope(|scope| {
        postgres.freeze();
        scope.spawn(|| database.query("INSERT INTO t VALUES (2)"));
        std::thread::sleep(Duration::from_millis(700));
        postgres.thaw();
    });
    assert!(frozen.elapsed() >= Duration::from_millis(700), "a frozen server answered");

    let standby = postgres.start_synchronous_standby();
    let stalled = clock::instant();
    std::thread::scope(|scope| {
        standby.stall();
        scope.spawn(|| database.query("INSERT INTO t VALUES (3)"));
        std::thread::sleep(Duration::from_millis(700));
        standby.resume();
    });
    assert!(stalled.elapsed() >= Duration::from_millis(700), "a commit did not wait for the standby");
    assert_eq!(database.dump(&[]).lines().count(), 3);
    assert_eq!(database.dump(&["t"]), "");
}

#[test]
fn databases_of_one_server_are_separate() {
    let (one, two) = (Postgres::shared().create_database(), Postgres::shared().create_database());
    one.query("CREATE TABLE only_here (n BIGINT)");
    assert_ne!(one.url(), two.url());
    assert_eq!(two.query("SELECT count(*) FROM pg_tables WHERE tablename = 'only_here'").trim(), "0");
}

#[test]
fn watchman_ends_processes_of_the_folder() {
    let dir = e2e::workdir::Workdir::new();
    let inside = dir.folder("inside");
    let mut child =
        std::process::Command::new("sleep").arg("1000").current_dir(&inside).spawn().expect("sleep starts");
    process::signal(child.id(), process::Signal::STOP);
    drop(dir);
    let status = child.wait().expect("our own child");
    assert!(!status.success());
    assert!(!inside.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn balancer_rotates_and_skips_stopped_replicas() {
    let (balancer, stubs) = balanced(3).await;
    let client = Client::new(&balancer.url());
    for _ in 0..9 {
        client.get("/x").await.expect("an answer").assert_status(StatusCode::OK);
    }
    assert_eq!(balancer.answers(), [3, 3, 3]);
    let picked = client.at_replica(2).get("/x").await.expect("an answer");
    assert_eq!(picked.served_by(), Some(2));

    balancer.set_in_rotation(0, false);
    for _ in 0..4 {
        let answer = client.get("/x").await.expect("an answer");
        assert_ne!(answer.served_by(), Some(0));
    }
    // A dead replica's turn goes to another one, even for a POST, because the request was not delivered.
    balancer.set_backend(1, "127.0.0.1:1".parse().expect("an address"));
    for _ in 0..4 {
        let answer = client.post("/x", &serde_json::json!({})).await.expect("an answer");
        assert_eq!(answer.served_by(), Some(2));
    }
    stubs[2].is_ready.store(0, Ordering::Relaxed);
    wait::until("nobody is ready", Duration::from_secs(5), async || {
        // Not ready is not dead: keys are served, and the remaining replica refuses by itself.
        let keys = client.get("/.well-known/jwks.json").await.expect("an answer");
        (keys.served_by() == Some(2)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn balancer_injects_the_configured_faults() {
    let (balancer, stubs) = balanced(2).await;
    let client = Client::new(&balancer.url());
    let work = || stubs.iter().map(|stub| stub.requests.load(Ordering::Relaxed)).sum::<usize>();
    let body = serde_json::json!({});

    balancer.misbehave("/x", Fault::DropAnswer, Share::Next(1));
    assert!(client.post("/x", &body).await.is_err());
    assert_eq!(work(), 1, "the work was done");

    balancer.misbehave("/x", Fault::Repeat, Share::Next(1));
    client.post("/x", &body).await.expect("an answer");
    assert_eq!(work(), 3);

    balancer.misbehave("/x", Fault::DelayAnswer(Duration::from_millis(300)), Share::Next(1));
    assert!(client.post("/x", &body).await.expect("an answer").took >= Duration::from_millis(300));
    assert!(client.post("/x", &body).await.expect("an answer").took < Duration::from_millis(300));

    balancer.behave();
    balancer.misbehave("/x", Fault::DropAnswer, Share::OneIn(3));
    let mut lost = 0;
    for _ in 0..9 {
        lost += usize::from(client.post("/x", &body).await.is_err());
        client.post("/other", &body).await.expect("another path is not affected");
    }
    assert_eq!(lost, 3);
}

#[derive(Debug)]
struct Stub {
    requests: AtomicUsize,
    is_ready: AtomicUsize,
}

/// A balancer in front of some servers that respond to everything.
async fn balanced(count: usize) -> (Balancer, Vec<Arc<Stub>>) {
    let balancer = Balancer::start().await;
    let mut stubs = Vec::new();
    for number in 0..count {
        let stub = Arc::new(Stub { requests: AtomicUsize::new(0), is_ready: AtomicUsize::new(1) });
        balancer.set_backend(number, serve(Arc::clone(&stub)).await);
        stubs.push(stub);
    }
    (balancer, stubs)
}

async fn serve(stub: Arc<Stub>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stub = Arc::clone(&stub);
            let service = service_fn(move |request| {
                let answer = stub.answer(&request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

impl Stub {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let mut answer = Response::new(Full::default());
        match request.uri().path() {
            "/readyz" if self.is_ready.load(Ordering::Relaxed) == 0 => {
                *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            "/livez" | "/readyz" => {}
            _ => {
                self.requests.fetch_add(1, Ordering::Relaxed);
            }
        }
        answer
    }
}
