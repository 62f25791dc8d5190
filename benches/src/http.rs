//! Requests per second over HTTP with keep-alive, against the floor on the same database.

use std::net::SocketAddr;
use std::time::Duration;

use e2e::cluster::Cluster;
use e2e::postgres::Postgres;

use crate::floor::ROWS;
use crate::load::{self, Caller};
use crate::service::{self, Floor};
use crate::{head, median, row};

/// The number of clients.
pub(crate) const CALLERS: usize = 16;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(4);

/// Prints the table.
pub(crate) async fn run() {
    service::pin_clients();
    head("HTTP, keep-alive, 16 clients; server and database on one CPU; requests per second");
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
    measure("refresh, SQLite", &sqlite("service.db"), &sqlite("floor.db")).await;

    let postgres = tokio::task::spawn_blocking(Postgres::start).await.expect("PostgreSQL starts");
    // Its backends are its child processes, and inherit the CPU.
    service::pin_server(postgres.process_id());
    let (ours, floors) = (postgres.create_database(), postgres.create_database());
    measure("refresh, PostgreSQL", &ours.url(), &floors.url()).await;
}

async fn measure(what: &str, service_url: &str, floor_url: &str) {
    let (cluster, floor) = (service::start(service_url).await, Floor::start(floor_url));
    let address = cluster.replicas()[0].address("public");
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let ours = load::run(address, sessions(&cluster).await, ROUND).await;
        assert_eq!(ours.failures, 0, "every refresh succeeds");
        let floors =
            load::run(floor.address, (0..ROWS).take(CALLERS).map(Plain::update).collect(), ROUND).await;
        rates.push((ours.per_second, floors.per_second));
    }
    print(what, &rates, "≥ 0.75");

    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let get = |path: &'static str| (0..CALLERS).map(|_| Plain::get(path)).collect();
        let ours = load::run(address, get("/.well-known/jwks.json"), ROUND).await;
        let floors = load::run(floor.address, get("/static"), ROUND).await;
        assert_eq!(ours.failures, 0);
        rates.push((ours.per_second, floors.per_second));
    }
    print("JWKS", &rates, "≥ 0.85");
}

fn print(what: &str, rates: &[(f64, f64)], aim: &str) {
    let ratio = median(rates.iter().map(|(ours, floor)| ours / floor).collect());
    let ours = median(rates.iter().map(|(ours, _)| *ours).collect());
    let floor = median(rates.iter().map(|(_, floor)| *floor).collect());
    row(what, &format!("{ours:.0}/s"), &format!("{floor:.0}/s"), ratio, aim);
}

/// A session for each caller.
pub(crate) async fn sessions(cluster: &Cluster) -> Vec<Session> {
    let admin = cluster.admin_password().to_owned();
    let mut sessions = Vec::new();
    for _ in 0..CALLERS {
        let answer = cluster.client().login(e2e::cluster::ADMIN, &admin).await.expect("a response");
        sessions.push(Session { refresh_token: answer.tokens().refresh });
    }
    sessions
}

/// Refreshes one session repeatedly.
pub(crate) struct Session {
    refresh_token: String,
}

impl Caller for Session {
    fn request(&mut self, out: &mut Vec<u8>) {
        let body = format!(r#"{{"refresh_token":"{}"}}"#, self.refresh_token);
        post(out, "/v1/refresh", &body);
    }

    fn receive(&mut self, status: u16, body: &[u8]) {
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
        let answer: serde_json::Value = serde_json::from_slice(body).expect("JSON");
        answer["refresh_token"].as_str().expect("a token").clone_into(&mut self.refresh_token);
    }
}

/// Sends the same request repeatedly.
pub(crate) struct Plain(Vec<u8>);

impl Plain {
    fn get(path: &str) -> Self {
        Self::get_with(path, "")
    }

    /// Adds header lines, each with its line break.
    pub(crate) fn get_with(path: &str, headers: &str) -> Self {
        Self(format!("GET {path} HTTP/1.1\r\nhost: floor\r\n{headers}\r\n").into_bytes())
    }

    fn update(id: i64) -> Self {
        let mut out = Vec::new();
        post(&mut out, "/refresh", &format!(r#"{{"id":{id}}}"#));
        Self(out)
    }
}

impl Caller for Plain {
    fn request(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn receive(&mut self, _: u16, _: &[u8]) {}
}

fn post(out: &mut Vec<u8>, path: &str, body: &str) {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: floor\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body.as_bytes());
}

/// The address of the service's public listener.
pub(crate) fn public(cluster: &Cluster) -> SocketAddr {
    cluster.replicas()[0].address("public")
}
