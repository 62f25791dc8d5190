//! The client for which a hash is computed, so that the hashes of one do not keep others waiting.

use ring::digest;

/// A part of the queue. Lanes take turns, however many hashes wait in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Logins for the admin API, and the work of operators.
    Admin,
    /// All other logins.
    Public,
}

impl Lane {
    pub(super) const COUNT: usize = 2;
}

/// Stands for a name or a network: 16 bytes of its SHA-256, because users sometimes type their password into
/// the name field.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of `text`.
    pub fn of(text: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.as_ref()[..16]);
        Self(key)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::domain::hex(&self.0[..4]))
    }
}

/// The lane, network and name for which a hash is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub(super) lane: Lane,
    /// `None`: unknown. All such claims together get the turns of one network, but not its limit.
    pub(super) network: Option<Key>,
    /// `None`: work without a name, and without the limit of one.
    pub(super) name: Option<Key>,
}

impl Claim {
    /// Work for a client that comes from `network`, if that is known, and presents the user name `name`. Any
    /// texts will do that are equal for equal networks and names.
    pub fn client(lane: Lane, network: Option<&str>, name: &str) -> Self {
        Self { lane, network: network.map(Key::of), name: Some(Key::of(name)) }
    }

    /// Work for an operator: new passwords of users, commands, the first administrator.
    pub const fn operator() -> Self {
        Self { lane: Lane::Admin, network: None, name: None }
    }
}
