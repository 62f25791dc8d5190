//! One replica of a WebSocket service: `GET /live` opens a socket on which users get their messages, on all
//! their devices.
//!
//! ```text
//! client ──▶ any replica ──▶ live_messages (numbered by inbox) ──NOTIFY──▶ every replica ──▶ the sockets of that user
//! ```
//!
//! - [`settings`]: the settings of a replica.
//! - [`protocol`]: the frames that client and service exchange.
//! - [`inboxes`]: the messages in PostgreSQL, the only thing that replicas share.
//! - [`hub`]: forwards messages from the one listening connection to the sockets of this replica.
//! - [`upgrade`]: checks before a socket opens; [`socket`]: an open socket.
//! - [`drain`]: a stop that sends clients to other replicas.
//!
//! A message is acknowledged once it is committed, and an inbox numbers its messages without gaps. A client
//! that sends the last number it saw gets everything after it, from any replica. Nothing is sticky, and
//! messages that a broken socket, replica or database connection dropped are read from the table.

mod drain;
mod hub;
mod inboxes;
mod protocol;
mod settings;
mod socket;
mod upgrade;

use std::error::Error;
use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use clap::Parser as _;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use verifier::{Seconds, Verifier};

use crate::drain::Drain;
use crate::hub::Hub;
use crate::inboxes::Inboxes;
use crate::settings::Settings;

/// Time limit at the end for requests that are not sockets.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// The parts that sockets use.
#[derive(Clone)]
struct App {
    settings: Arc<Settings>,
    verifier: Verifier,
    inboxes: Inboxes,
    hub: Arc<Hub>,
    drain: Arc<Drain>,
    /// One permit per socket.
    room: Arc<Semaphore>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let settings = Settings::parse();
    tracing_subscriber::fmt().with_ansi(io::stderr().is_terminal()).with_writer(io::stderr).init();
    match run(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("live-service: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(mut settings: Settings) -> Result<(), Box<dyn Error>> {
    allow_open_files();
    let listener = TcpListener::bind(&settings.address).await.map_err(|cause| {
        format!("cannot listen on {}: {cause}; choose another --address", settings.address)
    })?;
    let address = listener.local_addr()?;
    settings.replica.get_or_insert_with(|| address.to_string());
    let inboxes = Inboxes::open(&settings.database_url).await?;
    let verifier = Verifier::builder(&settings.issuer).audience(&settings.audience);
    let app = App {
        verifier: verifier.leeway(Seconds(settings.leeway)).build()?,
        inboxes,
        hub: Arc::default(),
        drain: Arc::default(),
        room: Arc::new(Semaphore::new(settings.max_sockets)),
        settings: Arc::new(settings),
    };
    // Fetches keys before the first socket needs them. `/readyz` reports whether that worked.
    let verifier = app.verifier.clone();
    tokio::spawn(async move { verifier.ready(Duration::ZERO).await });

    let routes = upgrade::routes(&app)
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(app.clone());
    let stop = drain::Stop::expect()?;
    println!("listening on http://{address}");
    // All in this task: if one of them panics, the process ends and is started again, instead of running
    // without it.
    tokio::select! {
        served = serve(&app, listener, routes, stop) => served?,
        () = app.hub.follow(&app.inboxes) => {}
        () = app.inboxes.tidy(app.settings.keep_for) => {}
    }
    Ok(())
}

/// Serves until a signal. The sockets end first, then the listener.
async fn serve(app: &App, listener: TcpListener, routes: Router, stop: drain::Stop) -> io::Result<()> {
    let App { settings, drain, room, .. } = app;
    let (close, closed) = oneshot::channel::<()>();
    let server = axum::serve(listener, routes).with_graceful_shutdown(async { drop(closed.await) });
    let mut server = pin!(server.into_future());
    let drained = async {
        let delay = stop.asked(settings.drain_delay).await;
        drain.run(delay, settings.drain_spread, room, settings.max_sockets).await;
    };
    tokio::select! {
        ended = &mut server => return ended,
        () = drained => drop(close),
    }
    // Requests that are not finished by then are cut off.
    timeout(FINISH_TIMEOUT, server).await.unwrap_or(Ok(()))
}

/// Whether a balancer should send new sockets here. Open sockets are not affected.
async fn readyz(State(app): State<App>) -> Result<&'static str, (StatusCode, &'static str)> {
    let no = |why| Err((StatusCode::SERVICE_UNAVAILABLE, why));
    match () {
        () if app.drain.has_begun() => no("draining\n"),
        () if !app.verifier.status().keys.state.is_usable() => no("no keys from the issuer yet\n"),
        () if !app.hub.is_listening() => no("the database is away\n"),
        () => Ok("ready\n"),
    }
}

/// Each socket is an open file. The usual soft limit of 1024 exists only for programs that use `select`.
fn allow_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files was not raised");
    }
}
