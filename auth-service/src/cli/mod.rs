//! The command line: a noun, then a verb. A command that changes something calls the same flow as the HTTP handler.
//!
//! Only `serve`, `migrate` and `copy` create anything. Exit codes: 0 done, 1 refused or failed, 2 wrong usage.

mod audit;
mod author;
mod breached;
mod completions;
mod copy;
mod doctor;
mod export;
mod healthcheck;
mod installation;
mod jwks;
mod key;
pub(crate) mod output;
mod replica;
mod role;
mod serve;
mod session;
mod setting;
mod status;
mod token;
mod user;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use auth_service::boot;
use auth_service::config::Config;
use auth_service::entropy::SystemEntropy;
use clap::{Parser, Subcommand};
use serde_json::json;
use verifier::SystemClock;

pub(crate) use completions::respond as respond_to_completion;
use installation::Context;
use output::Output;

/// Issues short-lived access tokens and rotates the keys that sign them.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage.\nThe operator guide has each task step by step."
)]
pub(crate) struct Arguments {
    /// Configuration file in TOML; AUTH_* environment variables override it.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    config: Option<PathBuf>,
    /// Print one JSON object per line instead of text.
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    /// Print no remarks, such as which database is used.
    #[arg(long, global = true, help_heading = "Global options")]
    quiet: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve requests (default).
    #[command(after_help = "Example:\n  auth-service serve --config /etc/auth.toml")]
    Serve,
    /// Create the database schema, or bring it up to date.
    #[command(after_help = "Example:\n  auth-service migrate")]
    Migrate,
    /// Copy an installation from SQLite to PostgreSQL; stop the service first.
    #[command(
        after_help = "Example:\n  AUTH_DATABASE_URL=postgres://auth:…@db/auth auth-service copy --from sqlite://data/auth.db"
    )]
    Copy(copy::CopyArguments),
    /// Show an installation on one page: replicas, keys, what is wrong.
    #[command(after_help = "Example:\n  auth-service status")]
    Status,
    /// Look for what is wrong and say what to do.
    ///
    /// Exit code 0: nothing is wrong. 1: there is a problem. 3: there are warnings.
    #[command(after_help = "Example:\n  auth-service doctor")]
    Doctor,
    /// Manage users.
    #[command(subcommand)]
    User(user::UserCommand),
    /// Manage roles: sets of permissions.
    #[command(subcommand)]
    Role(role::RoleCommand),
    /// List sessions, or end them.
    #[command(subcommand, alias = "sessions")]
    Session(session::SessionCommand),
    /// Manage signing keys.
    #[command(subcommand, alias = "keys")]
    Key(key::KeyCommand),
    /// List settings, or change them while the service runs.
    #[command(subcommand, alias = "settings")]
    Setting(setting::SettingCommand),
    /// List running replicas, or take one out of rotation.
    #[command(subcommand, alias = "replicas")]
    Replica(replica::ReplicaCommand),
    /// Read the audit log.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Explain access tokens.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Inspect the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the HTTP contract (OpenAPI 3.1).
    #[command(after_help = "Example:\n  auth-service openapi > openapi.yaml")]
    Openapi,
    /// Exit with 0 if the replica on this machine is ready.
    #[command(after_help = "Example:\n  until auth-service healthcheck; do sleep 1; done")]
    Healthcheck,
    /// Print a completion script.
    #[command(
        after_help = "Examples:\n  auth-service completions bash > /etc/bash_completion.d/auth-service\n  auth-service completions zsh > /usr/local/share/zsh/site-functions/_auth-service\n  auth-service completions fish > ~/.config/fish/completions/auth-service.fish"
    )]
    Completions {
        /// The shell that will use the script.
        shell: completions::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the effective values, with secrets hidden, or every problem.
    #[command(after_help = "Example:\n  auth-service config check --config /etc/auth.toml")]
    Check,
    /// Create a list of breached passwords, for `breached_passwords_file`.
    ///
    /// The lists have one password per line, or its SHA-1 hash, as in the lists of Pwned Passwords.
    #[command(
        after_help = "Example:\n  auth-service config breached-passwords --source \"Pwned Passwords, 2026-11\" --output breached.bin pwned.txt"
    )]
    BreachedPasswords(breached::BreachedArguments),
}

/// The error of a command, which `main` prints.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the command. Returns the exit code of the process.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { config, json, quiet, command } = arguments;
    let context = Context { output: Output { json, quiet }, config };
    match command.unwrap_or(Command::Serve) {
        Command::Token(command) => return Ok(token::run(&context, command).await),
        Command::Doctor => return doctor::run(&context).await,
        Command::Serve => serve::run(Config::load(context.config.as_deref())?).await,
        Command::Migrate => migrate(&context).await,
        Command::Copy(arguments) => copy::run(&context, arguments).await,
        Command::Status => status::run(&context).await,
        Command::User(command) => user::run(&context, command).await,
        Command::Role(command) => role::run(&context, command).await,
        Command::Session(command) => session::run(&context, command).await,
        Command::Key(command) => key::run(&context, command).await,
        Command::Setting(command) => setting::run(&context, command).await,
        Command::Replica(command) => replica::run(&context, command).await,
        Command::Audit(command) => audit::run(&context, command).await,
        Command::Config(ConfigCommand::Check) => check_config(&context),
        Command::Config(ConfigCommand::BreachedPasswords(arguments)) => breached::run(&context, &arguments),
        Command::Openapi => output::print(auth_service::http::OPENAPI),
        Command::Healthcheck => healthcheck::run(context.output, &context.load()?.config).await,
        Command::Completions { shell } => completions::print(shell),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the effective configuration: TOML, or an object of all values.
fn check_config(context: &Context) -> Result<(), Failure> {
    let loaded = context.load()?;
    boot::breached_passwords::read(&loaded.config)?;
    let values = [loaded.config.shown(), loaded.settings.shown()].concat();
    let object: serde_json::Map<_, _> = values
        .into_iter()
        .map(|(name, value)| (name.to_owned(), auth_service::view::json_of(value.as_deref())))
        .collect();
    context.output.result(&object, &loaded.to_toml())
}

async fn migrate(context: &Context) -> Result<(), Failure> {
    let config = context.load()?.config;
    context.name_database(&config);
    let entropy = SystemEntropy::new();
    let (_, applied) = boot::database::create(&config, Arc::new(SystemClock::new()), &entropy).await?;
    let sentence = match &applied[..] {
        [] => "the schema is up to date".to_owned(),
        names => format!("applied {}", names.join(", ")),
    };
    context.output.result(&json!({ "applied": applied }), &sentence)
}

/// Prompts for a password on a terminal, without echo; otherwise reads a line from standard input.
fn read_password() -> Result<String, Failure> {
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
