//! Connections, transactions and migrations: how a statement reaches either database.

mod connection;
pub(super) mod database;
mod health;
pub(super) mod migrations;
pub(super) mod row;
