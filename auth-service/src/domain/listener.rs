//! The two listeners of a replica.

/// Which listener serves an endpoint, and thereby which tokens the endpoint accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listener {
    /// For clients and resource servers: accepts tokens for any configured audience.
    Public,
    /// For operators and scrapers: accepts tokens for `auth-admin` only.
    Admin,
}
