//! The format of the revocation feed: server-sent events that carry signed documents.

pub(crate) mod document;
pub(crate) mod sse;
