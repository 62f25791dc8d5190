//! What all endpoints share: connections, errors, extractors, the pieces of an answer.

use std::sync::Arc;

use crate::runtime::app::App;

mod client_address;
pub(super) mod error;
pub(super) mod extract;
pub(super) mod observe;
mod refusals;
pub(super) mod routes;
pub mod server;
pub(super) mod wire;

pub use client_address::Peer;

/// What handlers receive: cloned for every request, so behind one pointer.
pub(super) type Shared = Arc<App>;
