//! The command line. A command that changes something calls the same flow as the HTTP handler.

mod copy;
mod export;
mod healthcheck;
mod jwks;
mod keys;
mod replicas;
mod serve;
mod sessions;
mod settings;
mod token;
mod users;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use auth_service::boot;
use auth_service::config::{Config, ConfigError, Loaded};
use auth_service::entropy::SystemEntropy;
use auth_service::runtime::app::App;
use clap::{CommandFactory as _, Parser, Subcommand};
use verifier::{SystemClock, UnixTime};

/// Issues short-lived access tokens and rotates the keys that sign them.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    /// Configuration file in TOML; AUTH_* environment variables override it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve requests (default).
    Serve,
    /// Bring the database schema up to date.
    Migrate,
    /// Copy an installation from SQLite to PostgreSQL; stop the service first.
    Copy(copy::CopyArguments),
    /// Manage users.
    #[command(subcommand)]
    User(users::UserCommand),
    /// Manage signing keys.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// List running replicas, or take one out of rotation.
    #[command(subcommand)]
    Replicas(replicas::ReplicasCommand),
    /// Manage sessions.
    #[command(subcommand)]
    Sessions(sessions::SessionsCommand),
    /// List settings, or change them while the service runs.
    #[command(subcommand)]
    Settings(settings::SettingsCommand),
    /// Check access tokens.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Inspect the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the HTTP contract (OpenAPI 3.1).
    Openapi,
    /// Exit with 0 if the replica on this machine is ready.
    Healthcheck,
    /// Print a completion script.
    Completions {
        /// The shell that will use the script.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the effective values, with secrets hidden, or every problem.
    Check,
}

/// The error of a command, which `main` prints.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the command. Returns the exit code of the process.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let file = arguments.config.as_deref();
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Token(command) => return Ok(token::run(command).await),
        Command::Serve => serve::run(Config::load(file)?).await,
        Command::Migrate => migrate(&load(Config::load(file))?.config).await,
        Command::Copy(arguments) => copy::run(Config::load(file), arguments).await,
        Command::User(command) => users::run(&open(Config::load(file)).await?, command).await,
        Command::Keys(command) => keys::run(file, command).await,
        Command::Replicas(command) => replicas::run(&open(Config::load(file)).await?, command).await,
        Command::Sessions(command) => sessions::run(&open(Config::load(file)).await?, command).await,
        Command::Settings(command) => settings::run(&open(Config::load(file)).await?, command).await,
        Command::Config(ConfigCommand::Check) => print(&load(Config::load(file))?.to_toml()),
        Command::Openapi => print(auth_service::http::OPENAPI),
        Command::Healthcheck => healthcheck::run(&load(Config::load(file))?.config).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "auth-service", &mut io::stdout());
            Ok(())
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the configuration, and prints its warnings to standard error.
fn load(loaded: Result<Loaded, ConfigError>) -> Result<Loaded, Failure> {
    let loaded = loaded?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(loaded)
}

/// Starts the parts that flows need, without serving.
async fn open(loaded: Result<Loaded, ConfigError>) -> Result<App, Failure> {
    let loaded = load(loaded)?;
    Ok(boot::start(loaded, Arc::new(SystemClock::new()), Arc::new(SystemEntropy::new())).await?)
}

async fn migrate(config: &Config) -> Result<(), Failure> {
    let entropy = SystemEntropy::new();
    let (_, applied) = boot::database::open(config, Arc::new(SystemClock::new()), &entropy).await?;
    if applied.is_empty() {
        return print("The schema is up to date.");
    }
    applied.iter().try_for_each(|name| print(&format!("applied {name}")))
}

/// Prints a line. A closed pipe is not an error.
fn print(line: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{}", line.trim_end()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prompts for a password on a terminal, without echo; otherwise reads a line from standard input.
fn read_password() -> Result<String, Failure> {
    use std::io::IsTerminal as _;
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let password = rpassword::prompt_password("Password: ")?;
    if rpassword::prompt_password("Repeat the password: ")? == password {
        Ok(password)
    } else {
        Err("the two passwords differ; nothing was changed".into())
    }
}

/// Formats a time as in RFC 3339, or as a dash if there is none.
fn time(at: Option<UnixTime>) -> String {
    at.map_or_else(|| "-".to_owned(), auth_service::domain::rfc3339::rfc3339)
}
