//! The `auth-service` program.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    cli::respond_to_completion();
    match run() {
        Ok(code) => code,
        Err(failure) => {
            cli::output::error(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run() -> Result<ExitCode, cli::Failure> {
    cli::run(cli::Arguments::parse()).await
}
