//! What the revocation feed sends: events, and the signed documents in them.

pub(crate) mod document;
pub(crate) mod sse;
