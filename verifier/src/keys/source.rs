//! Where key sets come from.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::core::error::FetchError;
use crate::core::time::Seconds;

/// The future of [`JwksSource::fetch`].
pub type FetchFuture<'a> = Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + 'a>>;

/// Fetches the key set of one issuer, once per call.
///
/// The cache decides when to call, never makes two calls at the same time, and drops a call after 5 s. So a
/// source needs no retries, cache or timeout of its own. It must not follow redirects, and should stop
/// reading after 256 KiB.
///
/// ```
/// use verifier::{FetchFuture, Fetched, JwksRequest, JwksSource};
///
/// /// Keys in a file that another process replaces.
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
    /// Fetches the key set once.
    fn fetch<'a>(&'a self, request: &'a JwksRequest) -> FetchFuture<'a>;
}

impl<S: JwksSource + ?Sized> JwksSource for Arc<S> {
    fn fetch<'a>(&'a self, request: &'a JwksRequest) -> FetchFuture<'a> {
        (**self).fetch(request)
    }
}

/// A request for the key set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JwksRequest {
    /// The `ETag` of the set in use, for `If-None-Match`.
    pub etag: Option<String>,
    /// Whether caches on the way must revalidate (`Cache-Control: no-cache`): a token or a revocation
    /// document names a key that is not in the set, or the feed says that the set has changed.
    pub no_cache: bool,
}

/// A response of the issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetched {
    /// The JWKS document; `None` if the set named by [`JwksRequest::etag`] is still current (304).
    pub document: Option<Vec<u8>>,
    /// `max-age` of `Cache-Control`.
    pub max_age: Option<Seconds>,
    /// `Age`: how long the response has been in caches.
    pub age: Option<Seconds>,
    /// `ETag` of the document.
    pub etag: Option<String>,
}

impl Fetched {
    /// A document without caching headers.
    pub fn new(document: impl Into<Vec<u8>>) -> Self {
        Self { document: Some(document.into()), ..Self::default() }
    }

    /// The response 304: the document named by [`JwksRequest::etag`] is still current.
    pub fn unchanged() -> Self {
        Self::default()
    }
}
