//! The client's address, also behind proxies.

use std::net::{IpAddr, SocketAddr};
use std::sync::Once;

use http::HeaderMap;
use ipnet::IpNet;

use crate::flows::Origin;
use crate::http::base::forwarded::{address, forwarded, x_forwarded_for};

/// The address of the other end of the connection; an extension of each request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Characters of a claimed address that are kept.
const LONGEST_CLAIM: usize = 100;

/// The addresses of a request, without its `User-Agent`.
///
/// Forwarded addresses count only if the peer is in `trusted`; those of another peer are a claim. If both headers name
/// a client, `X-Forwarded-For` counts. Warns once if the two disagree, and once if a peer outside `trusted` forwards an
/// address: that is probably a load balancer, and the limits for its clients would be those of one client.
pub(in crate::http) fn origin(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[IpNet]) -> Origin {
    static CONTRADICTION: Once = Once::new();
    static UNTRUSTED: Once = Once::new();
    let Some(peer) = peer.map(|peer| peer.to_canonical()) else { return Origin::default() };
    let judged = judge(peer, &x_forwarded_for(headers), &forwarded(headers), trusted);
    if judged.is_contradictory {
        CONTRADICTION.call_once(|| {
            tracing::warn!(
                %peer,
                "X-Forwarded-For and Forwarded name different clients, and X-Forwarded-For counts; \
                 configure the proxy to replace both, or to remove the one that it does not set"
            );
        });
    }
    if judged.origin.claimed.is_some() {
        metrics::counter!("auth_forwarding_ignored_total").increment(1);
        UNTRUSTED.call_once(|| {
            tracing::warn!(
                %peer,
                "ignored X-Forwarded-For or Forwarded from a peer that is not in trusted_proxies; \
                 if it is your load balancer, add it: until then its clients share the limits of one address"
            );
        });
    }
    judged.origin
}

/// What the addresses of a request mean.
#[derive(Debug)]
struct Judged {
    origin: Origin,
    /// Whether a trusted proxy named different clients in the two headers.
    is_contradictory: bool,
}

fn judge(peer: IpAddr, x_forwarded_for: &[String], forwarded: &[String], trusted: &[IpNet]) -> Judged {
    let chain = if x_forwarded_for.is_empty() { forwarded } else { x_forwarded_for };
    if !is_trusted(peer, trusted) {
        let claimed = (!chain.is_empty()).then(|| claim(chain));
        let origin = Origin { address: Some(peer), is_own: claimed.is_none(), claimed, ..Origin::default() };
        return Judged { origin, is_contradictory: false };
    }
    let client = find_client(chain, trusted);
    let is_contradictory =
        !x_forwarded_for.is_empty() && !forwarded.is_empty() && client != find_client(forwarded, trusted);
    let origin = Origin { address: client.or(Some(peer)), is_own: client.is_some(), ..Origin::default() };
    Judged { origin, is_contradictory }
}

/// The right-most address that is not a trusted proxy: the client may have forged everything to its left. If all are
/// trusted, the left-most. `None` if a member that would have to be read is not an address.
fn find_client(chain: &[String], trusted: &[IpNet]) -> Option<IpAddr> {
    let mut left_most = None;
    for member in chain.iter().rev() {
        let hop = address(member)?;
        left_most = Some(hop);
        if !is_trusted(hop, trusted) {
            break;
        }
    }
    left_most
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// The beginning of what a peer claims, in one line. Only characters of addresses are kept, so that it cannot look like
/// the rest of an entry of the audit log.
fn claim(chain: &[String]) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".:[]_-, ".contains(c) { c } else { '?' };
    chain.join(", ").chars().take(LONGEST_CLAIM).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(members: &[&str]) -> Vec<String> {
        members.iter().map(|member| (*member).to_owned()).collect()
    }

    fn judged(peer: &str, x_forwarded_for: &[&str], forwarded: &[&str]) -> Judged {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()).to_vec();
        judge(peer.parse().unwrap(), &owned(x_forwarded_for), &owned(forwarded), &trusted)
    }

    /// The address that counts, and whether it is the client's own.
    fn counted(peer: &str, x_forwarded_for: &[&str]) -> (String, bool) {
        let Origin { address, is_own, claimed, .. } = judged(peer, x_forwarded_for, &[]).origin;
        assert_eq!(claimed, None);
        (address.unwrap().to_string(), is_own)
    }

    fn own(address: &str) -> (String, bool) {
        (address.to_owned(), true)
    }

    #[test]
    fn without_a_proxy_the_client_is_the_peer() {
        assert_eq!(counted("192.0.2.1", &[]), own("192.0.2.1"));
        let headers = HeaderMap::new();
        let mapped = origin(Some("::ffff:192.0.2.1".parse().unwrap()), &headers, &[]);
        assert_eq!(mapped.address, Some("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn address_that_an_untrusted_peer_forwards_is_a_claim_and_the_peer_counts() {
        for (x_forwarded_for, forwarded, claimed) in [
            (&["198.51.100.7"][..], &[][..], "198.51.100.7"),
            (&["a"], &[], "a"),
            (&["10.0.0.1", "x"], &["192.0.2.9"], "10.0.0.1, x"),
            (&[], &["[2001:db8::7]:443"], "[2001:db8::7]:443"),
        ] {
            let judged = judged("192.0.2.1", x_forwarded_for, forwarded);
            assert_eq!(judged.origin.address, Some("192.0.2.1".parse().unwrap()));
            assert!(!judged.origin.is_own && !judged.is_contradictory);
            assert_eq!(judged.origin.claimed.as_deref(), Some(claimed));
        }
    }

    #[test]
    fn claim_is_short_and_in_characters_of_addresses() {
        let long = "1".repeat(500);
        let claimed =
            judged("192.0.2.1", &["a\n\u{1b}[31m; reason: \u{e9}", &long], &[]).origin.claimed.unwrap();
        assert!(claimed.starts_with("a??[31m? reason: ?, 111"), "{claimed}");
        assert_eq!(claimed.len(), LONGEST_CLAIM);
    }

    #[test]
    fn right_most_untrusted_address_counts() {
        assert_eq!(counted("10.0.0.1", &["203.0.113.9", "198.51.100.7", "10.0.0.2"]), own("198.51.100.7"));
        assert_eq!(counted("10.0.0.1", &["2001:db8::1"]), own("2001:db8::1"));
        assert_eq!(counted("fd00::1", &["[2001:db8::1]:443"]), own("2001:db8::1"));
        assert_eq!(counted("10.0.0.1", &["unknown", "198.51.100.7"]), own("198.51.100.7"));
    }

    #[test]
    fn in_a_chain_of_trusted_addresses_the_left_most_counts() {
        assert_eq!(counted("10.0.0.1", &["10.0.0.3", "10.0.0.2"]), own("10.0.0.3"));
    }

    #[test]
    fn unreadable_header_of_a_trusted_proxy_counts_for_the_proxy() {
        for members in [&["198.51.100.7", "unknown"][..], &["198.51.100.7", "?", "10.0.0.2"], &["_x"]] {
            assert_eq!(counted("10.0.0.1", members), ("10.0.0.1".to_owned(), false), "{members:?}");
        }
    }

    /// A proxy that forwards nothing hides its clients: its address is not theirs.
    #[test]
    fn trusted_proxy_without_a_header_is_not_the_client() {
        assert_eq!(counted("10.0.0.1", &[]), ("10.0.0.1".to_owned(), false));
    }

    #[test]
    fn x_forwarded_for_counts_before_forwarded() {
        let client = |x_forwarded_for: &[&str], forwarded: &[&str]| {
            let judged = judged("10.0.0.1", x_forwarded_for, forwarded);
            (judged.origin.address.unwrap().to_string(), judged.is_contradictory)
        };
        assert_eq!(client(&[], &["198.51.100.8"]), ("198.51.100.8".to_owned(), false));
        assert_eq!(client(&["198.51.100.7"], &["198.51.100.7"]), ("198.51.100.7".to_owned(), false));
        assert_eq!(client(&["198.51.100.7"], &["198.51.100.8"]), ("198.51.100.7".to_owned(), true));
        assert_eq!(client(&["198.51.100.7"], &["unknown"]), ("198.51.100.7".to_owned(), true));
    }
}
