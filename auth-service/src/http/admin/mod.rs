//! The admin API. The route table names the permission of each route.

pub(super) mod audit;
pub(super) mod keys;
pub(super) mod replicas;
pub(super) mod roles;
pub(super) mod scrape;
pub(super) mod sessions;
pub(super) mod settings;
pub(super) mod users;
