//! The key set over HTTP: one GET, no redirects, a bound on every quantity.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::builder::BuildError;
use crate::error::FetchError;
use crate::key_set::{JwksError, MAX_BYTES};
use crate::source::{FetchFuture, Fetched, JwksRequest, JwksSource};
use crate::time::Seconds;

/// Fetches a key set from one URL, with certificates checked against the bundled Mozilla roots.
///
/// To trust a private authority or go through a proxy, implement [`JwksSource`] with your own client.
#[derive(Debug)]
pub struct HttpSource {
    url: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl HttpSource {
    /// A source for `url`, which must be `https`, or `http` to the machine itself. Does not connect.
    pub fn new(url: &str) -> Result<Self, BuildError> {
        // What stands before an `@` may be a password, and errors end up in logs.
        let shown = url.rsplit_once('@').map_or(url, |(_, host)| host);
        let refuse = |cause| BuildError::BadUrl { url: shown.to_owned(), cause };
        let uri = url.parse().map_err(|_| refuse("not a URL"))?;
        check_url(&uri).map_err(refuse)?;
        // The provider is named, so that nothing depends on what the rest of the process has installed.
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .map_err(|_| refuse("TLS cannot be set up"))?
            .https_or_http()
            .enable_http1()
            .build();
        // A connection of its own for each fetch lets a balancer choose another replica.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { url: uri, client })
    }

    async fn get(&self, ask: &JwksRequest) -> Result<Fetched, FetchError> {
        let mut request =
            Request::get(&self.url).header(header::ACCEPT, "application/jwk-set+json, application/json");
        if let Some(etag) = &ask.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if ask.no_cache {
            request = request.header(header::CACHE_CONTROL, "no-cache");
        }
        let request = request.body(Empty::new()).map_err(FetchError::transport)?;
        let answer = self.client.request(request).await.map_err(|error| describe(&error))?;
        let (head, body) = answer.into_parts();
        let fetched = Fetched {
            document: None,
            max_age: max_age(&head.headers),
            age: text(&head.headers, &header::AGE).and_then(delta_seconds),
            etag: text(&head.headers, &header::ETAG).map(str::to_owned),
        };
        match head.status {
            StatusCode::NOT_MODIFIED if ask.etag.is_some() => Ok(fetched),
            // Nothing compressed was asked for, and nothing is unpacked: the limit is one of decoded bytes.
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

/// Keys over a plain connection could be anyone's; from the machine itself they are as good as the machine.
fn check_url(url: &Uri) -> Result<(), &'static str> {
    let authority = url.authority().ok_or("not an absolute URL")?;
    if authority.as_str().contains('@') {
        return Err("contains a user name");
    }
    match url.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_loopback(authority.host()) => Ok(()),
        _ => Err("neither https nor http to the machine itself"),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The smallest `max-age` of all (RFC 9111 §4.2.1 leaves the choice when there are several). One that is no
/// number means stale, as the same section advises.
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

/// Digits only; a number too large to hold is very large (RFC 9111 §1.2.2).
fn delta_seconds(digits: &str) -> Option<Seconds> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Seconds(digits.parse().unwrap_or(i64::MAX)))
}

/// The whole chain: hyper's own words for a refused connection are only "client error (Connect)".
fn describe(error: &dyn std::error::Error) -> FetchError {
    let chain = std::iter::successors(Some(error), |error| error.source());
    FetchError::transport(chain.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_the_machine_itself() {
        let check = |url: &str| url.parse::<Uri>().map_err(|_| "not a URL").and_then(|url| check_url(&url));
        for good in [
            "https://auth.example.com/jwks",
            "http://127.0.0.1:8080/",
            "http://[::1]/",
            "http://localhost:1/",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "http://auth.example.com/",
            "http://127.0.0.1.example.com/",
            "http://localhost.example.com/",
            "http://0.0.0.0/",
            "http://127.0.0.1@example.com/",
            "https://user:secret@example.com/",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
            "/jwks",
            "localhost",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

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
