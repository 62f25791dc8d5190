//! The end-to-end tests in one binary with a module per topic, because linking dominates the build time.
//!
//! `../reliability.rs` is a separate binary, because it measures the allocations of its whole process.

mod bad_input;
mod cluster;
mod deploy;
mod documents;
mod failover;
mod fair_logins;
mod first_run;
mod front_ends;
mod growth;
mod guessed_name;
mod harness;
mod issuer_away;
mod keys_export;
mod live_service;
mod ping_service;
mod pooler;
mod refresh_race;
mod revocation_reach;
mod rolling_restart;
mod settings;

/// Tests that keep every core busy hold this lock, so that only one of them runs at a time: front ends under
/// load, races for a refresh token, messages that `live_service` must not lose, a queue of passwords. libtest
/// starts as many tests at a time as there are cores, so a few others run beside it; they mostly wait.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
