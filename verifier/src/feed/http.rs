//! The stream over HTTP: one GET, no redirects, no decompression.

use http::StatusCode;
use http::header::{self, HeaderMap};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::source::{ChunkFuture, ConnectFuture, FeedBody, FeedSource};
use crate::core::error::BuildError;
use crate::core::error::FeedError;
use crate::http_client::{HttpClient, describe, text};

/// Follows the stream at one URL, with certificates verified against the bundled Mozilla roots.
///
/// To trust a private certificate authority or to use a proxy, implement [`FeedSource`] with your own client.
#[derive(Debug)]
pub struct HttpFeed(HttpClient);

impl HttpFeed {
    /// A feed at `url`, which must be `https`, or `http` on a loopback address. Does not connect.
    pub fn new(url: &str) -> Result<Self, BuildError> {
        HttpClient::new(url).map(Self)
    }

    async fn open(&self) -> Result<Box<dyn FeedBody>, FeedError> {
        let request = self
            .0
            .request()
            .header(header::ACCEPT, "text/event-stream")
            .header(header::CACHE_CONTROL, "no-cache");
        let (head, body) = self.0.send(request).await.map_err(FeedError::Transport)?.into_parts();
        match head.status {
            StatusCode::OK if is_event_stream(&head.headers) => Ok(Box::new(HttpBody(body))),
            StatusCode::OK => Err(FeedError::NotEvents),
            StatusCode::NOT_FOUND => Err(FeedError::NoFeed),
            status => Err(FeedError::Status(status.as_u16())),
        }
    }
}

impl FeedSource for HttpFeed {
    fn connect(&self) -> ConnectFuture<'_> {
        Box::pin(self.open())
    }
}

/// The request does not accept compression, and nothing is decompressed.
fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("text/event-stream") && !headers.contains_key(header::CONTENT_ENCODING)
}

struct HttpBody(Incoming);

impl FeedBody for HttpBody {
    fn next_chunk(&mut self) -> ChunkFuture<'_> {
        Box::pin(async {
            let Some(frame) = self.0.frame().await else { return Ok(None) };
            let frame = frame.map_err(|error| FeedError::Transport(describe(&error)))?;
            // Trailers are not part of the stream.
            Ok(Some(frame.into_data().map(Vec::from).unwrap_or_default()))
        })
    }
}
