//! One replica of an HTTP service: `GET /ping` and `GET /pong` require a token with the permission of that
//! name.
//!
//! Replicas share nothing. Each checks tokens in memory and knows of ended sessions, so any of them can serve
//! any request, without calling the issuer.

mod drain;

use std::error::Error;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware;
use axum::response::Response;
use axum::routing::get;
use clap::Parser;
use drain::Drain;
use tokio::net::TcpListener;
use verifier::{Auth, RequirePermission, Verifier};

const REPLICA: HeaderName = HeaderName::from_static("x-replica");

/// Serves `GET /ping` and `GET /pong` to callers with the permission of that name.
#[derive(Parser)]
#[command(version)]
struct Settings {
    /// Issuer of accepted tokens: their exact `iss`
    #[arg(long, env = "ISSUER", default_value = "http://127.0.0.1:8080")]
    issuer: String,
    /// Audience of this service: a token must have it in its `aud`
    #[arg(long, env = "AUDIENCE", default_value = "api")]
    audience: String,
    /// Address to listen on; port 0 picks a free port and prints it
    #[arg(long, env = "ADDRESS", default_value = "127.0.0.1:0")]
    address: String,
    /// Name of this replica in the header `x-replica` [default: its address]
    #[arg(long, env = "REPLICA")]
    replica: Option<HeaderValue>,
    /// Seconds after SIGTERM during which requests are still accepted; longer than a balancer takes to notice
    #[arg(long, env = "DRAIN_DELAY", default_value = "5", value_parser = seconds)]
    drain_delay: Duration,
}

fn seconds(text: &str) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

#[tokio::main]
async fn main() -> ExitCode {
    let settings = Settings::parse();
    tracing_subscriber::fmt().with_ansi(io::stderr().is_terminal()).with_writer(io::stderr).init();
    match run(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ping-service: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> Result<(), Box<dyn Error>> {
    let verifier = Verifier::builder(settings.issuer).audience(settings.audience).build()?;
    let listener = TcpListener::bind(&settings.address).await.map_err(|cause| {
        format!("cannot listen on {}: {cause}; choose another --address", settings.address)
    })?;
    let address = listener.local_addr()?;
    let replica = settings.replica.map_or_else(|| HeaderValue::try_from(address.to_string()), Ok)?;

    let drain = Drain::new(settings.drain_delay);
    let app = routes(&verifier, &drain).layer(middleware::map_response_with_state(replica, name_replica));
    // Fetches keys before the first request needs them. `/readyz` reports whether that worked.
    tokio::spawn(async move { verifier.ready(Duration::ZERO).await });

    let serving = drain.serve(listener, app)?;
    println!("listening on http://{address}");
    Ok(serving.await?)
}

fn routes(verifier: &Verifier, drain: &Arc<Drain>) -> Router {
    Router::new()
        .route("/ping", get(answer).layer(RequirePermission::all(["ping"])))
        .route("/pong", get(answer).layer(RequirePermission::all(["pong"])))
        // Routes above need a valid token, routes below need none.
        .layer(verifier.layer())
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz).with_state((verifier.clone(), Arc::clone(drain))))
}

async fn answer(Auth(user): Auth) -> String {
    format!("hello, {}\n", user.subject())
}

/// Names the replica that responded.
async fn name_replica(State(replica): State<HeaderValue>, mut answer: Response) -> Response {
    answer.headers_mut().insert(REPLICA, replica);
    answer
}

/// Whether a balancer should send requests here.
async fn readyz(
    State((verifier, drain)): State<(Verifier, Arc<Drain>)>,
) -> Result<&'static str, (StatusCode, &'static str)> {
    if drain.has_begun() {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "draining\n"));
    }
    if !verifier.status().keys.state.is_usable() {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "no keys from the issuer yet\n"));
    }
    Ok("ready\n")
}
