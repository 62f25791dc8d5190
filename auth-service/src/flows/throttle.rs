//! Limits on failed logins: the counters, and the wait before the next attempt.

use std::net::IpAddr;

use ring::digest;
use verifier::Seconds;

use crate::domain::hex;
use crate::domain::login::{FREE_BY_ADDRESS, FREE_BY_NAME};
use crate::runtime::hashing::{Claim, Lane};
use crate::store::LoginAttempt;

/// The source of a request.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The client's address; `None` if an untrusted load balancer hides it.
    pub address: Option<IpAddr>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
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

    /// The place of this name and network in the queue for a hashing thread.
    pub(super) fn claim(&self, lane: Lane) -> Claim {
        let network = Some(self.address.as_str()).filter(|address| !address.is_empty());
        Claim::client(lane, network, &self.name)
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
