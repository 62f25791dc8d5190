//! The source of the revocation feed.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::core::error::FeedError;

/// The future of [`FeedSource::connect`].
pub type ConnectFuture<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn FeedBody>, FeedError>> + Send + 'a>>;

/// The future of [`FeedBody::next_chunk`]; `None` at the end of the stream.
pub type ChunkFuture<'a> = Pin<Box<dyn Future<Output = Result<Option<Vec<u8>>, FeedError>> + Send + 'a>>;

/// Opens the stream of revocations of one issuer: a GET with `Accept: text/event-stream`.
///
/// The verifier decides when to connect, drops an attempt after 5 s, and detects a stream that stops sending.
/// So a source needs no retries or timeouts of its own. It must not follow redirects or decompress, should
/// use a new connection each time so that a balancer can choose another replica, and returns
/// [`FeedError::NoFeed`] for status 404.
///
/// ```
/// use verifier::{ChunkFuture, ConnectFuture, FeedBody, FeedError, FeedSource};
///
/// /// A relay in the same process.
/// #[derive(Debug)]
/// struct Relay(tokio::sync::broadcast::Sender<Vec<u8>>);
/// struct Subscription(tokio::sync::broadcast::Receiver<Vec<u8>>);
///
/// impl FeedSource for Relay {
///     fn connect(&self) -> ConnectFuture<'_> {
///         let subscription = Subscription(self.0.subscribe());
///         Box::pin(async { Ok(Box::new(subscription) as Box<dyn FeedBody>) })
///     }
/// }
///
/// impl FeedBody for Subscription {
///     fn next_chunk(&mut self) -> ChunkFuture<'_> {
///         Box::pin(async { self.0.recv().await.map(Some).map_err(FeedError::transport) })
///     }
/// }
/// ```
pub trait FeedSource: Send + Sync + fmt::Debug {
    /// Opens the stream once.
    fn connect(&self) -> ConnectFuture<'_>;
}

/// The body of a stream. Dropping it closes the connection.
pub trait FeedBody: Send {
    /// The next bytes of the stream, in chunks of any size.
    fn next_chunk(&mut self) -> ChunkFuture<'_>;
}

impl<S: FeedSource + ?Sized> FeedSource for Arc<S> {
    fn connect(&self) -> ConnectFuture<'_> {
        (**self).connect()
    }
}
