//! Follows the issuer's revocation feed: a stream of signed documents.
//!
//! ```text
//!  connecting ──first document──▶ live ──end, timeout or invalid document──▶ disconnected ──document──▶ live
//!      │ 404, and no document ever arrived, not even in a process before
//!      └──────────────▶ off: retried after 5 min
//! ```
//!
//! The stream can only add revocations from signed documents, and their order does not matter.

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

    /// Starts to follow the stream unless that is running, if called inside a runtime.
    pub(crate) fn keep_current(&self) {
        if let Some(source) = &self.source {
            self.follower.start(|| follow::follow(Arc::clone(&self.listener), Arc::clone(source)));
        }
    }

    /// Merges a document that did not come from the stream. A delta never continues another one here: its
    /// replica is unknown, and the times of two replicas cannot be compared.
    pub(crate) fn merge(&self, document: &str) -> Result<(), FeedError> {
        self.listener.merge(document, None).map(drop)
    }

    /// The state of the feed.
    pub(crate) fn status(&self) -> FeedStatus {
        self.listener.status()
    }
}
