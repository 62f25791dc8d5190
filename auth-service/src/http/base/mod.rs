//! What all endpoints share: connections, errors, extractors, pieces of responses.

use std::sync::Arc;

use crate::runtime::app::App;

pub(super) mod access;
pub(super) mod body;
pub(super) mod caller;
mod client_address;
pub(super) mod code;
pub(super) mod deadline;
pub(super) mod error;
pub(super) mod error_body;
pub(super) mod extract;
pub(super) mod form;
mod forwarded;
pub(super) mod headers;
pub(super) mod observe;
pub(super) mod page;
mod refusals;
pub(super) mod routes;
pub mod server;
pub(super) mod sessions;
pub(super) mod wire;

pub use client_address::Peer;

/// The state of every handler. Cloned for each request, so it is one pointer.
pub(super) type SharedApp = Arc<App>;
