//! One token of each algorithm, checked by several libraries in turn; the floor is ring's bare check of the signature.
//!
//! ```sh
//! cargo run --release --manifest-path benches/peers/Cargo.toml
//! ```
//!
//! Every library is asked for what a resource server needs: signature, issuer, audience, expiry, claims in a type.
//! `jsonwebtoken` has one back end to a process, so the program runs itself once for each.

mod libraries;
mod tokens;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use ring::signature::UnparsedPublicKey;

use crate::libraries::{BACK_ENDS, Check};
use crate::tokens::Key;

/// Rounds of each side, alternating, so that a change of the machine's speed meets all.
const ROUNDS: usize = 31;
const ROUND: Duration = Duration::from_millis(40);

fn main() -> ExitCode {
    let back_end = std::env::args().nth(1);
    match back_end.as_deref() {
        None => each_back_end(),
        Some(name) if BACK_ENDS.contains(&name) => {
            compare(name);
            ExitCode::SUCCESS
        }
        Some(_) => {
            eprintln!("usage: peers [{}]", BACK_ENDS.join("|"));
            ExitCode::FAILURE
        }
    }
}

fn each_back_end() -> ExitCode {
    println!("| algorithm | library | a check | of ring's bare check |\n|---|---|---|---|");
    for back_end in BACK_ENDS {
        let program = std::env::current_exe().expect("this program has a path");
        let status = Command::new(program).arg(back_end).status().expect("it starts again");
        if !status.success() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn compare(back_end: &str) {
    libraries::install(back_end);
    for key in tokens::keys() {
        let token = key.token();
        let mut checks: Vec<(String, Check)> = vec![("ring, bare".to_owned(), bare(&key, &token))];
        checks.extend(libraries::all(&key, back_end));
        for (name, check) in &checks {
            assert!(check(&token), "{name} accepts a good token");
            // A library that skips the signature would win.
            assert!(!check(&tokens::spoilt(&token)), "{name} refuses a bad signature");
        }
        let mut times = vec![Vec::new(); checks.len()];
        for _ in 0..ROUNDS {
            for ((_, check), times) in checks.iter().zip(&mut times) {
                times.push(round(check, &token));
            }
        }
        let medians: Vec<f64> = times.into_iter().map(median).collect();
        for ((name, _), time) in checks.iter().zip(&medians) {
            println!("| {} | {name} | {time:.2} µs | {:.2} |", key.algorithm, time / medians[0]);
        }
    }
}

fn bare(key: &Key, token: &str) -> Check {
    let public = UnparsedPublicKey::new(key.bare, key.public.clone());
    // Decoded before: the floor is the signature and nothing else.
    let good = token.to_owned();
    let decoded = [token.to_owned(), tokens::spoilt(token)].map(|token| {
        let (signed, signature) = tokens::split(&token);
        (signed.to_owned(), signature)
    });
    Box::new(move |shown| {
        let (signed, signature) = &decoded[usize::from(shown != good)];
        public.verify(signed.as_bytes(), signature).is_ok()
    })
}

/// Microseconds a call.
fn round(check: &Check, token: &str) -> f64 {
    let start = Instant::now();
    let mut calls = 0_u32;
    loop {
        for _ in 0..16 {
            std::hint::black_box(check(std::hint::black_box(token)));
        }
        calls += 16;
        let taken = start.elapsed();
        if taken >= ROUND {
            return taken.as_secs_f64() * 1e6 / f64::from(calls);
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
