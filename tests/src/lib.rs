//! The parts of the end-to-end tests: real processes, real sockets, real faults.
//!
//! ```text
//! tests/it/  ──▶ Cluster ──▶ auth-service processes ──▶ Postgres (private, may be stopped, frozen, slowed)
//!     │             └─▶ Balancer (in this process; drops, delays, repeats)
//!     ├─▶ Client, rude ──▶ Balancer, or one replica
//!     ├─▶ ResourceServer, LiveService: the services of `examples/`
//!     └─▶ Ledger: observations, and the checkers that judge them at the end
//! ```
//!
//! - [`cluster`]: replicas of the service on one database; kill, pause, restart, wrong clocks.
//! - [`postgres`]: a private database server and a synchronous standby.
//! - [`passage`]: a network to a server that can drop every packet.
//! - [`balancer`]: a round-robin proxy with injected faults.
//! - [`client`], [`session`], [`rude`]: one request, a session kept alive according to the contract, raw
//!   bytes.
//! - [`front_end`]: the real balancers with the configurations of `deploy/`, and a site behind them.
//! - [`checking`], [`load`]: verifiers in this process, and background work.
//! - [`arrivals`], [`histogram`]: calls that arrive by a schedule, and their latencies from the due times.
//! - [`ledger`], [`checkers`]: actions and observations line by line, and their invariants; [`keys`],
//!   [`jwt`].
//! - [`workdir`], [`process`]: nothing that a test starts outlives it.
//! - [`example`], [`resource_server`], [`live`]: the services of `examples/`, and clients of the second.
//! - [`replay`]: the commands of a document, pasted into a shell.
//! - [`wait`], [`clock`], [`random`]: deadlines, real time, printed seeds.
//!
//! cargo builds no other package's binaries for a test, so build them first:
//! `cargo build -p auth-service --bin auth-service` and `cargo build -p ping-service -p live-service`.

pub mod arrivals;
pub mod balancer;
pub mod checkers;
pub mod checking;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod example;
pub mod front_end;
pub mod histogram;
pub mod jwt;
pub mod keys;
pub mod ledger;
pub mod live;
pub mod load;
pub mod passage;
pub mod postgres;
pub mod process;
pub mod random;
pub mod replay;
pub mod resource_server;
pub mod rude;
pub mod session;
pub mod soak;
mod user;
pub mod wait;
pub mod workdir;
