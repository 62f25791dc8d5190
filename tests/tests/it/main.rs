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

/// Small machines are what these tests must pass on. libtest runs as many tests at a time as there are cores; of those that
/// measure a service under load, only the one that holds this lock runs.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
