//! The routers in process, on SQLite in a temporary folder and a clock that the test moves.
//!
//! Every response here is checked against `openapi.yaml`: path, method, status, headers and schema.

mod admin;
pub(crate) mod contract;
pub(crate) mod documents;
mod forward_auth;
mod input;
mod keys;
mod login;
mod openapi;
mod replica;
mod replicas;
mod revocations;
mod sessions;
mod settings;
