//! The HTTP client for the key set and the feed: one GET, no redirects.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http::{Request, Response, Uri, request};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::core::error::BuildError;

/// A client for one URL, with certificates verified against the bundled Mozilla roots.
#[derive(Debug)]
pub(crate) struct HttpClient {
    url: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl HttpClient {
    /// A client for `url`, which must be `https`, or `http` on a loopback address. Does not connect.
    pub(crate) fn new(url: &str) -> Result<Self, BuildError> {
        // The part before an `@` may contain a password, and errors are logged.
        let shown = url.rsplit_once('@').map_or(url, |(_, host)| host);
        let refuse = |cause| BuildError::BadUrl { url: shown.to_owned(), cause };
        let uri = url.parse().map_err(|_| refuse("not a URL"))?;
        check_url(&uri).map_err(refuse)?;
        // An explicit provider, so that the client does not depend on the one that the process has installed.
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .map_err(|_| refuse("TLS cannot be set up"))?
            .https_or_http()
            .enable_http1()
            .build();
        // A new connection for each request lets a balancer choose another replica.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { url: uri, client })
    }

    /// A GET request, to which headers can be added.
    pub(crate) fn request(&self) -> request::Builder {
        Request::get(&self.url)
    }

    /// Sends the request. The error describes why there is no response.
    pub(crate) async fn send(&self, request: request::Builder) -> Result<Response<Incoming>, Arc<str>> {
        let request = request.body(Empty::new()).map_err(|error| describe(&error))?;
        self.client.request(request).await.map_err(|error| describe(&error))
    }
}

/// Requires TLS, because anyone on the way can change a plain connection, except on loopback.
fn check_url(url: &Uri) -> Result<(), &'static str> {
    let authority = url.authority().ok_or("not an absolute URL")?;
    if authority.as_str().contains('@') {
        return Err("contains a user name");
    }
    match url.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_loopback(authority.host()) => Ok(()),
        _ => Err("neither https nor http on a loopback address"),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The message with its whole chain of causes: hyper alone says only "client error (Connect)".
pub(crate) fn describe(error: &dyn std::error::Error) -> Arc<str> {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback() {
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
}
