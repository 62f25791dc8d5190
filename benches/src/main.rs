//! Measures speed as a ratio to a floor that is measured in the same run, so that figures of different
//! machines are comparable.
//!
//! `cargo build --profile dist -p auth-service && cargo run --profile dist -p benches --
//! [tokens|cores|http|login|footprint]`
//!
//! `taskset` (util-linux) pins the service and the database to one CPU, and the clients to another. For
//! `cores`, see there.

mod cores;
mod floor;
mod footprint;
mod http;
mod load;
mod login;
mod service;
mod tokens;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            tokens::run();
            // Before `http`, which pins the clients.
            cores::run().await;
            http::run().await;
            login::run().await;
            footprint::run().await;
        }
        ["tokens"] => tokens::run(),
        ["cores"] => cores::run().await,
        ["http"] => http::run().await,
        ["login"] => login::run().await,
        ["footprint"] => footprint::run().await,
        // The benchmark itself starts this as a separate process.
        ["floor", database_url] => floor::serve(database_url).await,
        _ => {
            eprintln!("usage: benches [tokens|cores|http|login|footprint]");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Prints one line of a table: the measurement, its ratio to the floor, and the target.
fn row(what: &str, measured: &str, floor: &str, ratio: f64, aim: &str) {
    println!("| {what} | {measured} | {floor} | {ratio:.3} | {aim} |");
}

fn head(title: &str) {
    println!("\n{title}\n\n| what | measured | floor | ratio | aim |\n|---|---|---|---|---|");
}

/// The median.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
