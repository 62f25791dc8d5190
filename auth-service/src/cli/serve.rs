//! `auth-service serve`: starts a replica, and drains it on SIGTERM or SIGINT.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use auth_service::boot::{self, ADMIN_USERNAME, FirstPassword};
use auth_service::config::{Config, Database, Loaded};
use auth_service::entropy::SystemEntropy;
use auth_service::runtime::telemetry::{self, Metrics};
use auth_service::{http, jobs};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};
use verifier::SystemClock;

use super::Failure;

const PASSWORD_FILE: &str = "initial-admin-password";
/// Time limit for closing database connections at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves until SIGTERM or SIGINT, then drains.
pub(super) async fn run(mut loaded: Loaded) -> Result<(), Failure> {
    telemetry::init_logs(&loaded.config)?;
    let metrics = Metrics::install()?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    // Bind first: if a port is in use, nothing must have been created.
    let public = bind(loaded.config.public_addr, "public_addr").await?;
    let admin = bind(loaded.config.admin_addr, "admin_addr").await?;
    let addresses = (public.local_addr()?, admin.local_addr()?);
    // For port 0, the other replicas must see the port that was picked.
    (loaded.config.public_addr, loaded.config.admin_addr) = addresses;
    let mut signals = Signals::new()?;

    let app = boot::start(loaded, Arc::new(SystemClock::new()), Arc::new(SystemEntropy::new())).await?;
    let first_password = boot::bootstrap(&app).await?;
    let (stop_jobs, jobs_stopped) = watch::channel(());
    let mut jobs = tokio::spawn(jobs::run(app.clone(), jobs_stopped));
    let (stop, stopped) = watch::channel(());
    let servers = [(public, http::public(app.clone())), (admin, http::admin(app.clone(), metrics))].map(
        |(listener, router)| tokio::spawn(http::server::serve(listener, router, closed(stopped.clone()))),
    );
    drop(stopped);
    announce(&app.config, addresses, first_password)?;

    let drain_delay = signals.received(app.config.drain_delay).await;
    app.drain.stop();
    tokio::select! {
        () = tokio::time::sleep(drain_delay) => {}
        // A second signal cuts the delay short.
        _ = signals.received(Duration::ZERO) => {}
    }
    drop(stop);
    for server in servers {
        server.await?;
    }
    drop(stop_jobs);
    // Without the database, the row of this replica is removed later, like that of any silent replica.
    if tokio::time::timeout(CLOSE_TIMEOUT, &mut jobs).await.is_err() {
        jobs.abort();
    }
    if tokio::time::timeout(CLOSE_TIMEOUT, app.store.close()).await.is_err() {
        warn!("the database connections did not close in time");
    }
    info!("drained");
    Ok(())
}

async fn bind(address: SocketAddr, key: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|cause| {
        format!("{key}: cannot listen on {address}: {cause}; choose another with AUTH_{}", key.to_uppercase())
            .into()
    })
}

async fn closed(mut stopped: watch::Receiver<()>) {
    // Nothing is ever sent; this returns when the sender is dropped.
    let _ = stopped.changed().await;
}

/// The signals that stop a replica.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for a signal. Returns how long to keep serving: zero after Ctrl-C.
    async fn received(&mut self, drain_delay: Duration) -> Duration {
        tokio::select! {
            _ = self.terminate.recv() => drain_delay,
            _ = self.interrupt.recv() => Duration::ZERO,
        }
    }
}

/// Prints the addresses of the listeners and, on the first start, how to log in.
fn announce(
    config: &Config,
    (public, admin): (SocketAddr, SocketAddr),
    first_password: Option<FirstPassword>,
) -> Result<(), Failure> {
    let mut lines =
        vec![format!("listening: public http://{public}"), format!("listening: admin http://{admin}")];
    if let Some(password) = first_password {
        let password = match password {
            FirstPassword::Generated(password) => Some(deliver_password(config, &password, &mut lines)?),
            FirstPassword::Configured => None,
        };
        lines.extend(first_steps(public, admin, password.as_deref()));
    }
    lines.push(String::new());
    match io::stdout().write_all(lines.join("\n").as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Shows the generated password on a terminal, or writes it to a file if the output goes to a log. Returns a
/// shell word for it.
fn deliver_password(
    config: &Config,
    password: &SecretString,
    lines: &mut Vec<String>,
) -> Result<String, Failure> {
    if io::stdout().is_terminal() {
        lines.push(String::new());
        lines.push(format!("user {ADMIN_USERNAME}, password: {}", password.expose_secret()));
        lines.push("It is not shown again. If you lose it: auth-service user passwd admin".to_owned());
        return Ok(password.expose_secret().to_owned());
    }
    let path = password_file(config);
    // A file of an earlier installation, with another password.
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(format!("{}: {error}", path.display()).into());
    }
    boot::files::write_secret(&path, password.expose_secret().as_bytes())
        .map_err(|error| format!("{}: {error}", path.display()))?;
    lines.push(format!(
        "user {ADMIN_USERNAME}, password in the file {} ; delete it when you have read it",
        path.display()
    ));
    Ok(format!("$(cat {})", path.display()))
}

/// Where the first password is written if the output goes to a log.
pub(super) fn password_file(config: &Config) -> PathBuf {
    match config.database() {
        Database::Sqlite { path } => path.with_file_name(PASSWORD_FILE),
        Database::Postgres => PathBuf::from(PASSWORD_FILE),
    }
}

/// Three commands to paste: log in, show the own account, rotate a key. `password` is a shell word; without
/// one, the commands take the configured password from the environment.
fn first_steps(public: SocketAddr, admin: SocketAddr, password: Option<&str>) -> [String; 5] {
    let password = password.unwrap_or("$AUTH_BOOTSTRAP_ADMIN_PASSWORD");
    let body = format!(
        r#"{{\"username\":\"{ADMIN_USERNAME}\",\"password\":\"{password}\",\"audience\":\"auth-admin\"}}"#
    );
    let token = r#"sed 's/.*"access_token":"\([^"]*\)".*/\1/'"#;
    [
        String::new(),
        "Log in, show your account, rotate a signing key:".to_owned(),
        format!(
            r#"TOKEN=$(curl -s http://{public}/v1/login -H 'content-type: application/json' -d "{body}" | {token})"#
        ),
        format!(r#"curl -s http://{public}/v1/me -H "authorization: Bearer $TOKEN""#),
        format!(r#"curl -s -X POST http://{admin}/admin/v1/keys/rotate -H "authorization: Bearer $TOKEN""#),
    ]
}
