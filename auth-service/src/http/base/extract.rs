//! What handlers take from the head of a request: the query, the variable part of the path, the client's origin.

use axum::extract::{FromRequestParts, Path, Query};
use http::header;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::flows::Origin;
use crate::http::base::SharedApp;
use crate::http::base::client_address::{Peer, origin};
use crate::http::base::code::Code;
use crate::http::base::error::Problem;

/// Characters of `User-Agent` that are kept.
const LONGEST_USER_AGENT: usize = 256;

/// The query, all of whose parameters must be known.
#[derive(Debug)]
pub(in crate::http) struct Parameters<T>(pub(in crate::http) T);

impl<T: DeserializeOwned> FromRequestParts<SharedApp> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &SharedApp) -> Result<Self, Problem> {
        // axum's own error quotes the query.
        let refusal =
            || Problem::new(Code::MalformedRequest).detail("a query parameter is unknown or malformed");
        Query::try_from_uri(&parts.uri).map(|Query(query)| Self(query)).map_err(|_| refusal())
    }
}

/// The variable part of the path. A part that cannot be parsed is 404.
#[derive(Debug)]
pub(in crate::http) struct Part(pub(in crate::http) String);

impl Part {
    /// What the part names, or 404.
    pub(in crate::http) fn read<T>(&self, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Problem> {
        read(&self.0).ok_or_else(|| Problem::new(Code::NotFound))
    }
}

impl FromRequestParts<SharedApp> for Part {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &SharedApp) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        path.map(|Path(part)| Self(part)).map_err(|_| Problem::new(Code::NotFound))
    }
}

/// The client's address and `User-Agent`.
pub(in crate::http) struct ClientOrigin(pub(in crate::http) Origin);

impl FromRequestParts<SharedApp> for ClientOrigin {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &SharedApp) -> Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<Peer>().map(|Peer(address)| address.ip());
        let user_agent = parts.headers.get(header::USER_AGENT).map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            text.chars().filter(|c| !c.is_control()).take(LONGEST_USER_AGENT).collect()
        });
        let origin = origin(peer, &parts.headers, &app.config.trusted_proxies);
        Ok(Self(Origin { user_agent, ..origin }))
    }
}
