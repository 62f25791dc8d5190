//! The integration tests of the service in one binary, a module a topic: linking is most of what such tests cost.
//!
//! Tests that need PostgreSQL say so and are ignored by a plain `cargo test`, which lists them; `./test` runs them, too.
//!
//! `../panics.rs` is a binary of its own: it installs the log of its process, and runs itself to read it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod architecture;
mod cli;
mod copy;
mod dice;
mod feed_histories;
mod http;
mod key_histories;
mod proof;
mod refresh_histories;
mod store_contract;
