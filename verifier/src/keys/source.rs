//! Where key sets come from.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::core::error::FetchError;
use crate::core::time::Seconds;

/// What a source answers, some time later.
pub type FetchFuture<'a> = Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + 'a>>;

/// Fetches the key set of one issuer, once per call.
///
/// The cache decides when to call, never calls twice at the same time, and gives up on a call after 5 s. So a
/// source needs no retries, no cache and no deadline of its own; it must not follow redirects, and should
/// stop reading after 256 KiB.
///
/// ```
/// use verifier::{FetchFuture, Fetched, JwksRequest, JwksSource};
///
/// /// Keys in a file that someone else replaces.
/// #[derive(Debug)]
/// struct FileSource(std::path::PathBuf);
///
/// impl JwksSource for FileSource {
///     fn fetch<'a>(&'a self, _: &'a JwksRequest) -> FetchFuture<'a> {
///         Box::pin(async move {
///             let document = std::fs::read(&self.0).map_err(verifier::FetchError::transport)?;
///             Ok(Fetched::new(document))
///         })
///     }
/// }
/// ```
pub trait JwksSource: Send + Sync + fmt::Debug {
    /// One attempt.
    fn fetch<'a>(&'a self, request: &'a JwksRequest) -> FetchFuture<'a>;
}

impl<S: JwksSource + ?Sized> JwksSource for Arc<S> {
    fn fetch<'a>(&'a self, request: &'a JwksRequest) -> FetchFuture<'a> {
        (**self).fetch(request)
    }
}

/// How the key set is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JwksRequest {
    /// The `ETag` of the set in hand, for `If-None-Match`.
    pub etag: Option<String>,
    /// Whether caches on the way must ask the issuer (`Cache-Control: no-cache`): a token or a revocation
    /// document named a key that the set in hand does not have, or the feed says that the set has changed.
    pub no_cache: bool,
}

/// An answer of the issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetched {
    /// The JWKS document; `None` if the set in hand is still the current one (304).
    pub document: Option<Vec<u8>>,
    /// `max-age` of `Cache-Control`.
    pub max_age: Option<Seconds>,
    /// `Age`: how long the answer has been in caches.
    pub age: Option<Seconds>,
    /// `ETag` of the document.
    pub etag: Option<String>,
}

impl Fetched {
    /// A document without caching headers.
    pub fn new(document: impl Into<Vec<u8>>) -> Self {
        Self { document: Some(document.into()), ..Self::default() }
    }

    /// The document named by [`JwksRequest::etag`] is still the current one.
    pub fn unchanged() -> Self {
        Self::default()
    }
}
