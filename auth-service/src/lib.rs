//! The service that signs access tokens.
//!
//! Imports go in one direction: `http -> flows -> domain`, and from `flows` to `store` and `keys`.
//!
//! - [`domain`]: the rules, as plain functions of values and a time;
//! - [`keys`]: private keys, sealed at rest, and the key ring, which selects the one that signs;
//! - [`store`]: all SQL, written once for SQLite and PostgreSQL;
//! - [`config`]: settings from file, environment and database, checked;
//! - [`runtime`]: the parts that live as long as a replica;
//! - [`flows`]: one file for each thing that a caller can do;
//! - [`view`]: JSON forms that the admin API and the command line share;
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
pub mod view;
