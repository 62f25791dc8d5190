//! Everything that needs no process of its own, a module a topic: one binary, because linking is most of what
//! a test binary costs.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod adapters;
mod corpus;
mod examples;
mod feed;
mod feed_documents;
mod feed_properties;
mod grpc;
mod hostile_server;
mod http_source;
mod jwks_cache;
mod key_set;
mod metrics;
mod mock_issuer;
mod rejections;
mod rfc_vectors;
mod several_issuers;
mod snapshot_file;
mod status;
mod token_cache;
mod wycheproof;
