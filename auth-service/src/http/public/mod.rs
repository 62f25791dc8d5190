//! The public listener: clients, proxies and verifiers.

pub(super) mod auth;
pub(super) mod forward_auth;
pub(super) mod health;
pub(super) mod jwks;
pub(super) mod me;
pub(super) mod revocations;
