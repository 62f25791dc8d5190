//! Fetches the key set over HTTP: one GET, no redirects, every size bounded.

use http::StatusCode;
use http::header::{self, HeaderMap};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::core::error::{BuildError, FetchError, JwksError};
use crate::core::key_set::MAX_BYTES;
use crate::core::time::Seconds;
use crate::http_client::{HttpClient, text};
use crate::keys::source::{FetchFuture, Fetched, JwksRequest, JwksSource};

/// Fetches a key set from one URL, with certificates verified against the bundled Mozilla roots.
///
/// To trust a private certificate authority or to use a proxy, implement [`JwksSource`] with your own client.
#[derive(Debug)]
pub struct HttpSource(HttpClient);

impl HttpSource {
    /// A source for `url`, which must be `https`, or `http` on a loopback address. Does not connect.
    pub fn new(url: &str) -> Result<Self, BuildError> {
        HttpClient::new(url).map(Self)
    }

    async fn get(&self, ask: &JwksRequest) -> Result<Fetched, FetchError> {
        let mut request =
            self.0.request().header(header::ACCEPT, "application/jwk-set+json, application/json");
        if let Some(etag) = &ask.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if ask.no_cache {
            request = request.header(header::CACHE_CONTROL, "no-cache");
        }
        let answer = self.0.send(request).await.map_err(FetchError::Transport)?;
        let (head, body) = answer.into_parts();
        let fetched = Fetched {
            document: None,
            max_age: max_age(&head.headers),
            age: text(&head.headers, &header::AGE).and_then(delta_seconds),
            etag: text(&head.headers, &header::ETAG).map(str::to_owned),
        };
        match head.status {
            StatusCode::NOT_MODIFIED if ask.etag.is_some() => Ok(fetched),
            // The request does not accept compression. Nothing is decompressed, so the limit counts decoded
            // bytes.
            StatusCode::OK if head.headers.contains_key(header::CONTENT_ENCODING) => {
                Err(FetchError::Unexpected)
            }
            StatusCode::OK => {
                let body = Limited::new(body, MAX_BYTES).collect().await.map_err(|error| {
                    if error.is::<LengthLimitError>() {
                        JwksError::TooLarge.into()
                    } else {
                        FetchError::transport(error)
                    }
                })?;
                Ok(Fetched { document: Some(body.to_bytes().into()), ..fetched })
            }
            status => Err(FetchError::Status(status.as_u16())),
        }
    }
}

impl JwksSource for HttpSource {
    fn fetch<'a>(&'a self, request: &'a JwksRequest) -> FetchFuture<'a> {
        Box::pin(self.get(request))
    }
}

/// The smallest `max-age` (RFC 9111 §4.2.1 leaves the choice if there are several). One that is not a number
/// means stale, as that section recommends.
fn max_age(headers: &HeaderMap) -> Option<Seconds> {
    headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|directive| {
            let (name, value) = directive.split_once('=')?;
            let seconds = || delta_seconds(value.trim().trim_matches('"')).unwrap_or_default();
            name.trim().eq_ignore_ascii_case("max-age").then(seconds)
        })
        .min()
}

/// Parses digits; a number that overflows becomes the maximum (RFC 9111 §1.2.2).
fn delta_seconds(digits: &str) -> Option<Seconds> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Seconds(digits.parse().unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_is_read_as_caches_do() {
        let read = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, value.parse().unwrap())]);
            max_age(&headers).map(|seconds| seconds.0)
        };
        assert_eq!(read("public, max-age=300, must-revalidate"), Some(300));
        assert_eq!(read("Max-Age=\"60\""), Some(60));
        assert_eq!(read("max-age=99999999999999999999"), Some(i64::MAX));
        assert_eq!(read("max-age=60, max-age=0"), Some(0));
        assert_eq!(read("max-age=-1"), Some(0));
        assert_eq!(read("max-age=+5"), Some(0));
        assert_eq!(read("s-maxage=5, no-cache"), None);
    }
}
