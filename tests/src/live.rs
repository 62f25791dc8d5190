//! `examples/live-service` as processes, and its clients.

mod device;
mod fleet;
mod socket;

pub use device::{Device, Record};
pub use fleet::Fleet;
pub use socket::{Event, Refused, Socket};

use std::net::SocketAddr;

use crate::example::Example;
use crate::front_end::{Addresses, FrontEnd, Program};

/// Replicas that share one database, behind `HAProxy`, which sends a new connection to the one with the
/// fewest.
#[derive(Debug)]
pub struct LiveService {
    addresses: Addresses,
    _front: FrontEnd,
    replicas: Vec<Example>,
}

impl LiveService {
    /// Starts this many replicas that trust `issuer`, with further variables, and waits until they are ready.
    /// Their names are their numbers.
    pub async fn start(
        replicas: usize,
        issuer: &str,
        database_url: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let (addresses, mut running) = (Addresses::fresh(), Vec::new());
        for number in 0..replicas {
            let (name, address) = (number.to_string(), addresses.live(number).to_string());
            let own = [
                ("ISSUER", issuer),
                ("DATABASE_URL", database_url),
                ("REPLICA", &name),
                ("ADDRESS", &address),
            ];
            running.push(Example::start("live-service", &[&own, environment].concat()).await);
        }
        for replica in &running {
            replica.await_ready().await;
        }
        let front = FrontEnd::start(Program::Haproxy, addresses).await;
        Self { addresses, _front: front, replicas: running }
    }

    /// The balancer.
    pub const fn address(&self) -> SocketAddr {
        self.addresses.public()
    }

    /// The replicas, by number.
    pub fn replicas(&self) -> &[Example] {
        &self.replicas
    }
}
