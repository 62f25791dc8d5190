//! The addresses of one site.

use std::net::{Ipv4Addr, SocketAddr};

use crate::random::Random;

/// Addresses that no other test uses, and that stay the same when a replica restarts, because the
/// configuration of a front end names them.
///
/// The whole network 127.0.0.0/8 is this machine, so each site has 256 addresses of it, and one port for
/// everything.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    network: [u8; 2],
    port: u16,
}

impl Addresses {
    /// A random network and port, below the ports of outgoing connections.
    pub fn fresh() -> Self {
        let random = Random::fresh();
        let octet = |from: u8| from + u8::try_from(random.below(200)).expect("below 200");
        let port = 10_000 + u16::try_from(random.below(20_000)).expect("below 20 000");
        Self { network: [octet(10), octet(1)], port }
    }

    /// The front end, for clients.
    pub const fn public(self) -> SocketAddr {
        self.at(1, self.port)
    }

    /// The front end's port on which it checks tokens itself.
    pub const fn guarded(self) -> SocketAddr {
        self.at(1, self.port + 1)
    }

    /// The key set over https, which only one program needs.
    pub const fn tls(self) -> SocketAddr {
        self.at(1, self.port + 2)
    }

    /// The public listener of `auth-service` on node `number`.
    pub fn auth(self, number: usize) -> SocketAddr {
        self.of(10, number)
    }

    /// The application that embeds the verifier, on node `number`.
    pub fn app(self, number: usize) -> SocketAddr {
        self.of(20, number)
    }

    /// The service with `WebSockets` on node `number`.
    pub fn live(self, number: usize) -> SocketAddr {
        self.of(30, number)
    }

    /// The application without token support, number `number`.
    pub fn plain(self, number: usize) -> SocketAddr {
        self.of(40, number)
    }

    fn of(self, group: u8, number: usize) -> SocketAddr {
        self.at(group + u8::try_from(number).expect("few replicas"), self.port)
    }

    const fn at(self, host: u8, port: u16) -> SocketAddr {
        let [second, third] = self.network;
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, second, third, host)), port)
    }
}
