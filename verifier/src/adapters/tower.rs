//! Authentication middleware for tower.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response};
use serde::de::DeserializeOwned;
use tower_layer::Layer;
use tower_service::Service;

use crate::adapters::credential::{AuthError, bearer_token, take_websocket_token};
use crate::adapters::identity::Caller;
use crate::core::claims::NoExtra;
use crate::core::error::VerifyError;
use crate::multi::MultiVerifier;
use crate::verifier::Verifier;

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Verifier {
    /// Middleware that accepts requests with a valid token, and stores it as `Arc<Verified>` in their
    /// extensions.
    ///
    /// Other requests get the response of [`AuthError`]. To require permissions, add
    /// [`RequirePermission`](crate::RequirePermission) inside this layer.
    pub fn layer(&self) -> VerifyLayer {
        self.layer_with_claims()
    }

    /// As [`layer`](Self::layer), reading custom claims: `Arc<Verified<C>>`.
    pub fn layer_with_claims<C>(&self) -> VerifyLayer<C> {
        VerifyLayer::new(self.clone())
    }
}

impl MultiVerifier {
    /// As [`Verifier::layer`], for tokens of any of the issuers.
    pub fn layer(&self) -> VerifyLayer {
        self.layer_with_claims()
    }

    /// As [`Verifier::layer_with_claims`], for tokens of any of the issuers.
    pub fn layer_with_claims<C>(&self) -> VerifyLayer<C> {
        VerifyLayer::new(self.clone())
    }
}

/// See [`Verifier::layer`].
pub struct VerifyLayer<C = NoExtra, A = Problem> {
    verifier: MultiVerifier,
    is_optional: bool,
    takes_websocket_token: bool,
    answer: A,
    claims: PhantomData<fn() -> C>,
}

impl<C> VerifyLayer<C> {
    /// What [`Verifier::layer`] and [`MultiVerifier::layer`] return.
    pub fn new(verifier: impl Into<MultiVerifier>) -> Self {
        Self {
            verifier: verifier.into(),
            is_optional: false,
            takes_websocket_token: false,
            answer: Problem,
            claims: PhantomData,
        }
    }
}

impl<C, A> VerifyLayer<C, A> {
    /// Responds to refused requests with `answer` instead of [`Problem`]: for another protocol, or an error
    /// format of your own.
    #[must_use]
    pub fn answering<B>(self, answer: B) -> VerifyLayer<C, B> {
        let Self { verifier, is_optional, takes_websocket_token, claims, .. } = self;
        VerifyLayer { verifier, is_optional, takes_websocket_token, answer, claims }
    }

    /// Accepts requests without a token as well, as anonymous. An invalid token is still refused.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { is_optional: true, ..self }
    }

    /// Accepts a token in `Sec-WebSocket-Protocol` of the opening handshake of a WebSocket as well, and
    /// removes it from there; see [`take_websocket_token`]. Use it only for routes that open a WebSocket.
    #[must_use]
    pub fn with_websocket_token(self) -> Self {
        Self { takes_websocket_token: true, ..self }
    }
}

impl<C, A: Clone> Clone for VerifyLayer<C, A> {
    fn clone(&self) -> Self {
        Self { verifier: self.verifier.clone(), answer: self.answer.clone(), ..*self }
    }
}

impl<C, A> fmt::Debug for VerifyLayer<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyLayer")
            .field("verifier", &self.verifier)
            .field("is_optional", &self.is_optional)
            .field("takes_websocket_token", &self.takes_websocket_token)
            .finish_non_exhaustive()
    }
}

impl<S, C, A: Clone> Layer<S> for VerifyLayer<C, A> {
    type Service = VerifyService<S, C, A>;

    fn layer(&self, inner: S) -> Self::Service {
        VerifyService { layer: self.clone(), inner }
    }
}

/// The response to refused requests.
pub trait Answer<R>: Clone + Send + Sync + 'static {
    /// The response to a refused request. It goes to the sender, so it must not contain the reason why a
    /// token is invalid.
    fn answer(&self, error: AuthError) -> Response<R>;
}

/// Refused requests get the response of [`AuthError::into_response`] (RFC 6750, RFC 9457).
#[derive(Clone, Copy, Debug, Default)]
pub struct Problem;

impl<R: From<String>> Answer<R> for Problem {
    fn answer(&self, error: AuthError) -> Response<R> {
        error.into_response()
    }
}

/// The service of [`VerifyLayer`].
#[derive(Debug)]
pub struct VerifyService<S, C = NoExtra, A = Problem> {
    layer: VerifyLayer<C, A>,
    inner: S,
}

impl<S: Clone, C, A: Clone> Clone for VerifyService<S, C, A> {
    fn clone(&self) -> Self {
        Self { layer: self.layer.clone(), inner: self.inner.clone() }
    }
}

impl<S, C, A, B, R> Service<Request<B>> for VerifyService<S, C, A>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    C: DeserializeOwned + Send + Sync + 'static,
    A: Answer<R>,
    B: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<Result<Response<R>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let layer = self.layer.clone();
        // `poll_ready` was called on `self.inner`, so that one must take the request; the clone replaces it.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            match layer.identify(&mut parts.headers).await {
                Ok(caller) => {
                    caller.record(&mut parts.extensions);
                    inner.call(Request::from_parts(parts, body)).await
                }
                Err(error) => Ok(layer.answer.answer(error)),
            }
        })
    }
}

impl<C: DeserializeOwned, A> VerifyLayer<C, A> {
    async fn identify(&self, headers: &mut HeaderMap) -> Result<Caller<C>, AuthError> {
        let found = match self.find_token(headers) {
            Ok(token) => self.check(&token).await.map_err(AuthError::from),
            Err(AuthError::MissingToken) if self.is_optional => Ok(Caller::Nobody),
            Err(error) => Err(error),
        };
        // The log does not contain the token, the response does not contain the reason.
        found.inspect_err(|error| tracing::debug!(%error, "request refused"))
    }

    fn find_token<'h>(&self, headers: &'h mut HeaderMap) -> Result<Cow<'h, str>, AuthError> {
        if self.takes_websocket_token {
            match take_websocket_token(headers) {
                Err(AuthError::MissingToken) => {}
                taken => return taken.map(Cow::Owned),
            }
        }
        bearer_token(headers).map(Cow::Borrowed)
    }

    async fn check(&self, token: &str) -> Result<Caller<C>, VerifyError> {
        let verifier = self.verifier.choose(token)?;
        Ok(Caller::Known(Arc::new(verifier.verify(token).await?), verifier.clone()))
    }
}
