//! The end-to-end tests in one binary, a module a topic: linking is most of what such a binary costs to build.
//!
//! `../reliability.rs` is a binary of its own: it counts what is allocated in its whole process.

mod bad_input;
mod cluster;
mod deploy;
mod failover;
mod first_run;
mod front_ends;
mod growth;
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

/// The tests that keep every core busy hold this lock, so that one of them runs at a time: the front ends under load, the
/// races for a refresh token, and what `live_service` must not lose. libtest starts as many tests at a time as there are
/// cores, so a few others run beside it, which mostly wait.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
