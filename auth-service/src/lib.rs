//! The service that signs access tokens.
//!
//! One direction: `http -> flows -> domain`, and from `flows` out to `store` and `keys`. Nothing calls back.
//!
//! - [`domain`]: the rules, as plain functions of values and a time;
//! - [`keys`]: private keys, sealed at rest, and the ring that says which one signs;
//! - [`store`]: all SQL, written once for SQLite and PostgreSQL;
//! - [`config`]: settings from file, environment and database, checked;
//! - [`runtime`]: what lives as long as a replica does;
//! - [`flows`]: one file per thing a caller can do;
//! - [`jobs`]: the loops of a replica; [`boot`]: how it starts;
//! - [`http`]: parses, calls one flow, renders.

pub mod boot;
pub mod config;
pub mod domain;
pub mod entropy;
pub mod flows;
pub mod http;
pub mod jobs;
pub mod keys;
pub mod runtime;
pub mod store;
