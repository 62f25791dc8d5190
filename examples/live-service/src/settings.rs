//! Settings of a replica, from arguments or the environment. Arguments win.

use std::error::Error;
use std::time::Duration;

use clap::Parser;
use clap::builder::{StringValueParser, TypedValueParser};
use secrecy::SecretString;

/// Delivers messages to all devices of a user, from any replica.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Settings {
    /// Issuer of accepted tokens: their exact `iss`
    #[arg(long, env = "ISSUER", default_value = "http://127.0.0.1:8080")]
    pub(crate) issuer: String,
    /// Audience of this service: a token must have it in its `aud`
    #[arg(long, env = "AUDIENCE", default_value = "api")]
    pub(crate) audience: String,
    /// Tolerated difference in seconds between the clocks of issuer and service, as configured at the issuer
    #[arg(long, env = "LEEWAY", default_value_t = 30)]
    pub(crate) leeway: i64,
    /// `postgres://user:password@host/database`, connected directly, because a pooler in transaction mode
    /// does not support LISTEN. Set it in the environment: other users can see arguments
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_parser = secret())]
    pub(crate) database_url: SecretString,
    /// Address to listen on; port 0 picks a free port and prints it
    #[arg(long, env = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) address: String,
    /// Name of this replica in the frame `welcome` [default: its address]
    #[arg(long, env = "REPLICA")]
    pub(crate) replica: Option<String>,
    /// Web origins that may open sockets, such as `https://app.example.com`; programs that send no origin are
    /// always allowed
    #[arg(long, env = "ALLOWED_ORIGINS", value_delimiter = ',')]
    pub(crate) allowed_origins: Vec<String>,
    /// Maximum number of open sockets; more get 503
    #[arg(long, env = "MAX_SOCKETS", default_value_t = 8192, value_parser = socket_count)]
    pub(crate) max_sockets: usize,
    /// Seconds for which messages are kept; a client that was away for longer is told that some are missing
    #[arg(long, env = "KEEP_FOR", default_value = "604800", value_parser = seconds)]
    pub(crate) keep_for: Duration,
    /// Seconds between pings; a client that is silent for twice as long is disconnected
    #[arg(long, env = "PING_INTERVAL", default_value = "20", value_parser = interval)]
    pub(crate) ping_interval: Duration,
    /// Seconds after SIGTERM during which sockets may still be opened; longer than a balancer takes to notice
    #[arg(long, env = "DRAIN_DELAY", default_value = "5", value_parser = seconds)]
    pub(crate) drain_delay: Duration,
    /// Seconds over which sockets are then closed one after another, so that clients do not all reconnect
    /// together
    #[arg(long, env = "DRAIN_SPREAD", default_value = "5", value_parser = seconds)]
    pub(crate) drain_spread: Duration,
}

/// Accepts any text, because an error message of clap would show the value.
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
    // A semaphore of tokio hands out at most 2^32 - 1 permits in one call.
    if (1..=1_000_000).contains(&count) { Ok(count) } else { Err("must be 1 to 1000000".into()) }
}
