//! What a replica is told: arguments, and the environment for what is not given there.

use std::error::Error;
use std::time::Duration;

use clap::Parser;
use clap::builder::{StringValueParser, TypedValueParser};
use secrecy::SecretString;

/// Brings users their messages on all their devices, from any replica.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Settings {
    /// Whose tokens are accepted: their exact `iss`
    #[arg(long, env = "ISSUER", default_value = "http://127.0.0.1:8080")]
    pub(crate) issuer: String,
    /// What the issuer calls this service: a token must have it in its `aud`
    #[arg(long, env = "AUDIENCE", default_value = "api")]
    pub(crate) audience: String,
    /// How many seconds the clocks of issuer and service may differ, as the issuer is configured
    #[arg(long, env = "LEEWAY", default_value_t = 30)]
    pub(crate) leeway: i64,
    /// `postgres://user:password@host/database`, directly and not through a pooler in transaction mode, which
    /// has no LISTEN. Give it in the environment: arguments can be seen by others
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_parser = secret())]
    pub(crate) database_url: SecretString,
    /// Where to listen; port 0 takes a free one and prints it
    #[arg(long, env = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) address: String,
    /// What this replica calls itself when it greets a client [default: its address]
    #[arg(long, env = "REPLICA")]
    pub(crate) replica: Option<String>,
    /// Web pages that may open sockets, such as `https://app.example.com`; other programs send no origin and always may
    #[arg(long, env = "ALLOWED_ORIGINS", value_delimiter = ',')]
    pub(crate) allowed_origins: Vec<String>,
    /// Sockets at once; more are sent elsewhere with 503
    #[arg(long, env = "MAX_SOCKETS", default_value_t = 8192, value_parser = socket_count)]
    pub(crate) max_sockets: usize,
    /// Messages are kept for so many seconds; whoever was away for longer is told that some are missing
    #[arg(long, env = "KEEP_FOR", default_value = "604800", value_parser = seconds)]
    pub(crate) keep_for: Duration,
    /// Every so many seconds a ping; a client that is silent for twice as long is gone
    #[arg(long, env = "PING_INTERVAL", default_value = "20", value_parser = interval)]
    pub(crate) ping_interval: Duration,
    /// For so many seconds after SIGTERM sockets may still be opened: longer than a balancer takes to notice
    #[arg(long, env = "DRAIN_DELAY", default_value = "5", value_parser = seconds)]
    pub(crate) drain_delay: Duration,
    /// Sockets are then closed one after another over so many seconds, so that the clients do not come back all at once
    #[arg(long, env = "DRAIN_SPREAD", default_value = "5", value_parser = seconds)]
    pub(crate) drain_spread: Duration,
}

/// Takes any text: an error of clap would show it.
fn secret() -> impl TypedValueParser<Value = SecretString> {
    StringValueParser::new().map(SecretString::from)
}

type Refused = Box<dyn Error + Send + Sync>;

fn seconds(text: &str) -> Result<Duration, Refused> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

fn interval(text: &str) -> Result<Duration, Refused> {
    let interval = seconds(text)?;
    if interval.is_zero() { Err("must be more than 0".into()) } else { Ok(interval) }
}

fn socket_count(text: &str) -> Result<usize, Refused> {
    let count = text.parse()?;
    // A semaphore of tokio gives out 2^32 - 1 permits at a time.
    if (1..=1_000_000).contains(&count) { Ok(count) } else { Err("must be 1 to 1000000".into()) }
}
