//! Where the stream of revocations comes from.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::core::error::FeedError;

/// An open stream, some time later.
pub type ConnectFuture<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn FeedBody>, FeedError>> + Send + 'a>>;

/// More of the stream, some time later; `None` at its end.
pub type ChunkFuture<'a> = Pin<Box<dyn Future<Output = Result<Option<Vec<u8>>, FeedError>> + Send + 'a>>;

/// Opens the stream of revocations of one issuer: a GET with `Accept: text/event-stream`.
///
/// The verifier decides when to connect, gives up on an attempt after 5 s, and notices by itself when a stream
/// falls silent. So a source needs no retries and no deadline of its own. It must not follow redirects nor
/// unpack anything, should use a new connection each time so that a balancer may choose another replica, and
/// answers [`FeedError::NoFeed`] for the status 404.
///
/// ```
/// use verifier::{ChunkFuture, ConnectFuture, FeedBody, FeedError, FeedSource};
///
/// /// A relay inside the same process.
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
    /// One attempt.
    fn connect(&self) -> ConnectFuture<'_>;
}

/// The body of a stream. Dropping it closes the connection.
pub trait FeedBody: Send {
    /// The next bytes, as many as happen to be there: how they are cut means nothing.
    fn next_chunk(&mut self) -> ChunkFuture<'_>;
}

impl<S: FeedSource + ?Sized> FeedSource for Arc<S> {
    fn connect(&self) -> ConnectFuture<'_> {
        (**self).connect()
    }
}
