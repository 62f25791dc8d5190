//! Connections, transactions and migrations: how a statement reaches either database.

pub(super) mod database;
pub(super) mod migrations;
mod trust;
