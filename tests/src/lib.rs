//! The parts that end-to-end tests are made of: real processes, real sockets, real faults.
//!
//! ```text
//! tests/*.rs ──▶ Cluster ──▶ auth-service processes ──▶ Postgres (private, may be stopped, frozen, slowed)
//!     │             └─▶ Balancer (in this process; drops, delays, repeats)
//!     ├─▶ Client, rude ──▶ Balancer, or one replica
//!     ├─▶ ResourceServer: the example of the `verifier` crate
//!     └─▶ Ledger: what was seen, and the checkers that judge it at the end
//! ```
//!
//! - [`cluster`]: replicas of the service on one database; kill, pause, restart, wrong clocks.
//! - [`postgres`]: a private database server and a synchronous standby.
//! - [`balancer`]: a round-robin proxy that can misbehave.
//! - [`client`], [`rude`]: well-formed requests and raw bytes.
//! - [`ledger`], [`keys`], [`jwt`]: what must be true of everything that was issued.
//! - [`workdir`], [`process`]: nothing that a test starts outlives it.
//! - [`wait`], [`clock`], [`random`]: deadlines, real time, printed seeds.
//!
//! cargo builds no other package's binaries for a test, so build them first:
//! `cargo build -p auth-service --bin auth-service` and `cargo build -p verifier --example resource_server`.

pub mod balancer;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod jwt;
pub mod keys;
pub mod ledger;
pub mod postgres;
pub mod process;
pub mod random;
pub mod resource_server;
pub mod rude;
pub mod wait;
pub mod workdir;
