//! The networks by which clients are counted.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The network of one client: an IPv4 address, or an IPv6 /64, because an IPv6 client can use every address of its /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    /// The first address.
    first: IpAddr,
    /// The number of leading bits that its addresses share.
    length: u8,
}

/// What one client has of IPv6.
const CLIENT: u8 = 64;
/// What a provider gives a customer at most. A client with a /48 has 65,536 networks of its own.
const SITE: u8 = 48;

impl Network {
    /// The network of an address. An IPv4 address in IPv6 form counts as IPv4.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self { first: address.into(), length: 32 },
            IpAddr::V6(address) => Self::cut(address, CLIENT),
        }
    }

    /// The larger network to be counted as well, with a larger budget: the /48 of an IPv6 client. `None` for IPv4,
    /// and for a network that is the larger one.
    pub fn wider(self) -> Option<Self> {
        match self.first {
            IpAddr::V6(address) if self.length > SITE => Some(Self::cut(address, SITE)),
            _ => None,
        }
    }

    fn cut(address: Ipv6Addr, length: u8) -> Self {
        let mask = u128::MAX << (128 - u32::from(length));
        Self { first: Ipv6Addr::from_bits(address.to_bits() & mask).into(), length }
    }
}

/// `192.0.2.7`, `2001:db8:0:7::/64`.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(address) => write!(f, "{address}/{}", self.length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::of(address.parse().unwrap())
    }

    #[test]
    fn ipv4_client_is_its_address_in_either_form() {
        assert_eq!(network("192.0.2.7").to_string(), "192.0.2.7");
        assert_eq!(network("::ffff:192.0.2.7"), network("192.0.2.7"));
        assert_ne!(network("192.0.2.7"), network("192.0.2.8"));
        assert_eq!(network("192.0.2.7").wider(), None);
    }

    #[test]
    fn ipv6_client_is_its_64_and_then_its_48() {
        let client = network("2001:db8:1:7::1");
        assert_eq!(client.to_string(), "2001:db8:1:7::/64");
        assert_eq!(client, network("2001:db8:1:7:ffff:ffff:ffff:ffff"));
        assert_ne!(client, network("2001:db8:1:8::1"));

        let site = client.wider().unwrap();
        assert_eq!(site.to_string(), "2001:db8:1::/48");
        assert_eq!(Some(site), network("2001:db8:1:8::1").wider());
        assert_ne!(Some(site), network("2001:db8:2:7::1").wider());
        assert_eq!(site.wider(), None);
    }
}
