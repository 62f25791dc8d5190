//! Speed as a ratio against a floor that is measured in the same run, so that a figure means the same on any machine.
//!
//! `cargo build --profile dist -p auth-service && cargo run --profile dist -p benches -- [tokens|cores|http|login|footprint]`
//!
//! The service and the database run on one CPU, the clients on the other, as `taskset` (util-linux) pins them; `cores` says
//! itself what runs where.

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
            // First: the next one pins the clients.
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
        // Started by the benchmark itself, as a process of its own.
        ["floor", database_url] => floor::serve(database_url).await,
        _ => {
            eprintln!("usage: benches [tokens|cores|http|login|footprint]");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// One line of a table: what was measured, how it compares, and the aim.
fn row(what: &str, measured: &str, floor: &str, ratio: f64, aim: &str) {
    println!("| {what} | {measured} | {floor} | {ratio:.3} | {aim} |");
}

fn head(title: &str) {
    println!("\n{title}\n\n| what | measured | floor | ratio | aim |\n|---|---|---|---|---|");
}

/// The middle of some measurements.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
