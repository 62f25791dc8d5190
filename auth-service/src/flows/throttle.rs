//! Limits on failed logins: the counters, and the wait before the next attempt.

use std::net::IpAddr;

use ring::digest;
use verifier::Seconds;

use crate::domain::audit::AuditEvent;
use crate::domain::hex;
use crate::domain::login::{FREE_BY_ADDRESS, FREE_BY_NAME};
use crate::store::LoginAttempt;

/// The source of a request.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The address that counts: the peer's, or the one that a trusted proxy forwarded. `None` without a connection.
    pub address: Option<IpAddr>,
    /// Whether `address` is the client's own: it is not if it is that of a proxy, which stands for many clients.
    pub is_own: bool,
    /// What a peer that is not trusted forwarded as the client's address: short, and only characters of addresses.
    pub claimed: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
}

impl Origin {
    /// Adds the addresses to an entry of the audit log: the one that counts, and apart from it the claimed one.
    pub(super) fn in_event(&self, event: AuditEvent) -> AuditEvent {
        event.from_address(self.address.map(|address| address.to_string())).claiming(self.claimed.clone())
    }
}

/// The wait before the next attempt with this name from this address. `None`: no wait.
pub(super) fn wait(attempt: &LoginAttempt) -> Option<Seconds> {
    let by_name = attempt.name_failures.and_then(|failures| failures.wait(FREE_BY_NAME, attempt.now));
    let by_address =
        attempt.address_failures.and_then(|failures| failures.wait(FREE_BY_ADDRESS, attempt.now));
    by_name.max(by_address)
}

/// Names of the counters. They are hashed, because users sometimes type their password into the name field.
pub(super) struct FailureKeys {
    pub(super) name: String,
    /// Empty if the address is unknown.
    pub(super) address: String,
}

impl FailureKeys {
    pub(super) fn new(name: &str, address: Option<IpAddr>) -> Self {
        Self {
            name: hashed("name", name.as_bytes()),
            address: address.map(|address| hashed("address", &network_of(address))).unwrap_or_default(),
        }
    }

    pub(super) fn all(&self) -> Vec<String> {
        [&self.name, &self.address].into_iter().filter(|key| !key.is_empty()).cloned().collect()
    }
}

/// An IPv6 client can use any address of its /64, so the network is counted.
fn network_of(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
    }
}

fn hashed(kind: &str, value: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, &[kind.as_bytes(), b"\0", value].concat());
    hex(hash.as_ref())
}
