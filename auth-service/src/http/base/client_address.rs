//! The client's address, also behind balancers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Once;

use http::HeaderMap;
use ipnet::IpNet;

/// The address of the other end of the connection; an extension of each request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// What is known about a client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Known(IpAddr),
    /// A trusted balancer did not forward it.
    Unknown,
    /// A peer that is not trusted forwarded one.
    Hidden,
}

/// The client's address. `None` if it is unknown; then the request must not be counted by address.
///
/// Warns once if `X-Forwarded-For` comes from a peer outside `trusted_proxies`: that is probably a balancer, and counting by
/// its address would throttle all clients behind it.
pub(in crate::http) fn client_address(
    peer: Option<IpAddr>,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> Option<IpAddr> {
    static WARNING: Once = Once::new();
    let forwarded = headers.get_all("x-forwarded-for").iter().map(|value| value.to_str().unwrap_or("?"));
    match judge(peer?, &forwarded.collect::<Vec<_>>(), trusted) {
        Client::Known(address) => Some(address),
        Client::Unknown => None,
        Client::Hidden => {
            WARNING.call_once(|| {
                tracing::warn!(
                    ?peer,
                    "X-Forwarded-For from a peer that is not in trusted_proxies; if it is your balancer, add it. \
                     Until then its requests are not limited by address"
                );
            });
            None
        }
    }
}

/// The right-most address that is not a trusted proxy; the client may have forged everything to its left.
fn judge(peer: IpAddr, forwarded: &[&str], trusted: &[IpNet]) -> Client {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let peer = peer.to_canonical();
    match (is_trusted(peer), forwarded.is_empty()) {
        (false, true) => return Client::Known(peer),
        (false, false) => return Client::Hidden,
        (true, _) => {}
    }
    let hops = forwarded.iter().flat_map(|line| line.split(',')).map(str::trim);
    let mut left_most = Client::Unknown;
    for hop in hops.rev() {
        match parse(hop) {
            Some(address) if is_trusted(address) => left_most = Client::Known(address),
            Some(address) => return Client::Known(address),
            None => return Client::Unknown,
        }
    }
    left_most
}

/// An address, with or without a port.
fn parse(hop: &str) -> Option<IpAddr> {
    let bare = hop.parse().or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip()));
    bare.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(peer: &str, forwarded: &[&str]) -> Client {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()).to_vec();
        judge(peer.parse().unwrap(), forwarded, &trusted)
    }

    fn known(address: &str) -> Client {
        Client::Known(address.parse().unwrap())
    }

    #[test]
    fn without_a_balancer_the_client_is_the_peer() {
        assert_eq!(judged("192.0.2.1", &[]), known("192.0.2.1"));
        assert_eq!(judged("::ffff:192.0.2.1", &[]), known("192.0.2.1"));
    }

    #[test]
    fn an_address_forwarded_by_an_untrusted_peer_is_ignored_and_the_peer_is_not_counted() {
        assert_eq!(judged("192.0.2.1", &["198.51.100.7"]), Client::Hidden);
        assert_eq!(judged("192.0.2.1", &[""]), Client::Hidden);
    }

    #[test]
    fn the_right_most_untrusted_address_counts() {
        assert_eq!(judged("10.0.0.1", &["203.0.113.9, 198.51.100.7, 10.0.0.2"]), known("198.51.100.7"));
        assert_eq!(judged("10.0.0.1", &["203.0.113.9", "198.51.100.7"]), known("198.51.100.7"));
        assert_eq!(judged("::ffff:10.0.0.1", &["2001:db8::1"]), known("2001:db8::1"));
        assert_eq!(judged("fd00::1", &["[2001:db8::1]:443"]), known("2001:db8::1"));
        assert_eq!(judged("10.0.0.1", &["198.51.100.7:5000"]), known("198.51.100.7"));
    }

    #[test]
    fn in_a_chain_of_trusted_addresses_the_left_most_counts() {
        assert_eq!(judged("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), known("10.0.0.3"));
    }

    #[test]
    fn a_malformed_address_makes_the_client_unknown() {
        assert_eq!(judged("10.0.0.1", &[]), Client::Unknown);
        assert_eq!(judged("10.0.0.1", &["198.51.100.7, unknown"]), Client::Unknown);
        assert_eq!(judged("10.0.0.1", &["unknown, 198.51.100.7"]), known("198.51.100.7"));
        assert_eq!(judged("10.0.0.1", &["?"]), Client::Unknown);
    }
}
