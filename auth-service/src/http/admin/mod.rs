//! What operators do. Each route's permission stands in the route table.

pub(super) mod audit;
pub(super) mod keys;
pub(super) mod replicas;
pub(super) mod roles;
pub(super) mod scrape;
pub(super) mod sessions;
pub(super) mod settings;
pub(super) mod users;
