//! What the issuer tells about revocations: signed documents, and the stream that brings them.
//!
//! ```text
//!  connecting ──first document──▶ live ──ends, falls silent, makes no sense──▶ disconnected ──document──▶ live
//!      │ 404, and nothing was ever heard, not even by another process
//!      └──────────────▶ off: looked at again after 5 min
//! ```
//!
//! Whatever the stream does, the set of revocations only gains what a signed document says, and what it has
//! gained does not depend on the order of documents.

mod follow;
#[cfg(feature = "http")]
pub(crate) mod http;
mod listener;
pub(crate) mod revoked;
pub(crate) mod saved;
pub(crate) mod source;

use std::sync::Arc;

use listener::Listener;
use revoked::Revoked;
use source::FeedSource;

use crate::background::Background;
use crate::core::error::FeedError;
use crate::core::feed::document::Rules;
use crate::core::time::Clock;
use crate::keys::cache::JwksCache;
use crate::status::FeedStatus;

/// The feed of one issuer, followed in the background until this is dropped.
#[derive(Debug)]
pub(crate) struct Feed {
    listener: Arc<Listener>,
    source: Option<Arc<dyn FeedSource>>,
    follower: Background,
}

impl Feed {
    /// The feed from `source`. Does not connect yet.
    pub(crate) fn new(
        rules: Rules,
        source: Option<Arc<dyn FeedSource>>,
        cache: Arc<JwksCache>,
        revoked: Arc<Revoked>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let listener = Arc::new(Listener::new(rules, source.is_some(), cache, revoked, clock));
        Self { listener, source, follower: Background::default() }
    }

    /// Follows the stream in the background from now on, if called inside a runtime.
    pub(crate) fn tend(&self) {
        if let Some(source) = &self.source {
            self.follower.start(|| follow::follow(Arc::clone(&self.listener), Arc::clone(source)));
        }
    }

    /// Takes in a document that came some other way. Which replica a delta is of cannot be told, and the times of
    /// two of them cannot be compared: it continues nothing.
    pub(crate) fn hear(&self, document: &str) -> Result<(), FeedError> {
        self.listener.hear(document, None).map(drop)
    }

    /// How the feed is doing.
    pub(crate) fn status(&self) -> FeedStatus {
        self.listener.status()
    }
}
