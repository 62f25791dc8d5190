//! `examples/live-service` as processes, and its clients.

mod device;
mod fleet;
mod socket;

pub use device::{Device, Record};
pub use fleet::Fleet;
pub use socket::{Event, Refused, Socket};

use crate::example::Example;
use crate::relay::Relay;

/// Replicas that share one database, behind a balancer that sends a new connection to the one with the fewest.
#[derive(Debug)]
pub struct LiveService {
    relay: Relay,
    replicas: Vec<Example>,
}

impl LiveService {
    /// Starts so many replicas that trust `issuer`, with more variables, and waits until they are ready. They call
    /// themselves by their numbers.
    pub async fn start(
        replicas: usize,
        issuer: &str,
        database_url: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let mut running = Vec::new();
        for number in 0..replicas {
            let name = number.to_string();
            let own = [("ISSUER", issuer), ("DATABASE_URL", database_url), ("REPLICA", &name)];
            running.push(Example::start("live-service", &[&own, environment].concat()).await);
        }
        for replica in &running {
            replica.await_ready().await;
        }
        let addresses: Vec<_> = running.iter().map(Example::address).collect();
        Self { relay: Relay::start(&addresses).await, replicas: running }
    }

    /// The balancer.
    pub const fn relay(&self) -> &Relay {
        &self.relay
    }

    /// The replicas, by number.
    pub fn replicas(&self) -> &[Example] {
        &self.replicas
    }
}
