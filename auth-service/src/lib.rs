//! The service that signs access tokens.
//!
//! One direction: `http -> flows -> domain`, and from `flows` out to `store` and `keys`. Nothing calls back.
//!
//! - [`domain`]: the rules, as plain functions of values and a time;
//! - [`keys`]: private keys, sealed at rest, and the ring that says which one signs;
//! - [`store`]: all SQL, written once for SQLite and PostgreSQL;
//! - [`flows`]: one file per thing a caller can do;
//! - [`settings`]: what operators may change while the service runs, as it applies now;
//! - [`feed`]: what was revoked, signed and streamed to resource servers;
//! - [`drain`], [`replicas`]: whether this replica leaves the rotation; what it tells the others;
//! - [`http`]: parses, calls one flow, renders;
//! - [`jobs`]: what a replica does by itself.

pub mod app;
pub mod config;
pub mod domain;
pub mod drain;
pub mod entropy;
pub mod feed;
pub mod flows;
pub mod hashing;
pub mod http;
pub mod jobs;
pub mod keys;
pub mod replicas;
pub mod settings;
pub mod store;
pub mod telemetry;
