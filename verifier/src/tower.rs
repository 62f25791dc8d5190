//! Middleware for tower: who is calling, and may they.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Extensions, HeaderMap, Request, Response};
use serde::de::DeserializeOwned;
use tower_layer::Layer;
use tower_service::Service;

use crate::claims::NoExtra;
use crate::credential::{AuthError, bearer_token, take_websocket_token};
use crate::error::{Missing, VerifyError};
use crate::guard::Guard;
use crate::multi::MultiVerifier;
use crate::verifier::Verifier;
use crate::verify::Verified;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Verifier {
    /// Middleware that lets requests through with a good token, and leaves it as `Arc<Verified>` in their
    /// extensions.
    ///
    /// The others are answered as [`AuthError`] says. Permissions are asked for by [`RequirePermission`],
    /// inside.
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
pub struct VerifyLayer<C = NoExtra> {
    verifier: MultiVerifier,
    is_optional: bool,
    takes_websocket_token: bool,
    claims: PhantomData<fn() -> C>,
}

impl<C> VerifyLayer<C> {
    /// What [`Verifier::layer`] and [`MultiVerifier::layer`] return.
    pub fn new(verifier: impl Into<MultiVerifier>) -> Self {
        Self {
            verifier: verifier.into(),
            is_optional: false,
            takes_websocket_token: false,
            claims: PhantomData,
        }
    }

    /// Lets requests without a token through as well, as nobody's. A bad token is still refused.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { is_optional: true, ..self }
    }

    /// Accepts the token of a WebSocket's opening handshake in `Sec-WebSocket-Protocol` as well, and removes it
    /// from there; see [`take_websocket_token`]. For the routes that open WebSockets, and no others.
    #[must_use]
    pub fn with_websocket_token(self) -> Self {
        Self { takes_websocket_token: true, ..self }
    }
}

impl<C> Clone for VerifyLayer<C> {
    fn clone(&self) -> Self {
        Self { verifier: self.verifier.clone(), ..*self }
    }
}

impl<C> fmt::Debug for VerifyLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyLayer")
            .field("verifier", &self.verifier)
            .field("is_optional", &self.is_optional)
            .field("takes_websocket_token", &self.takes_websocket_token)
            .finish()
    }
}

impl<S, C> Layer<S> for VerifyLayer<C> {
    type Service = VerifyService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        VerifyService { layer: self.clone(), inner }
    }
}

/// The service that [`VerifyLayer`] makes.
#[derive(Debug)]
pub struct VerifyService<S, C = NoExtra> {
    layer: VerifyLayer<C>,
    inner: S,
}

impl<S: Clone, C> Clone for VerifyService<S, C> {
    fn clone(&self) -> Self {
        Self { layer: self.layer.clone(), inner: self.inner.clone() }
    }
}

impl<S, C, B, R> Service<Request<B>> for VerifyService<S, C>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    C: DeserializeOwned + Send + Sync + 'static,
    B: Send + 'static,
    R: From<String> + Send,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<Result<Response<R>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let layer = self.layer.clone();
        // The clone has not been polled ready; the one that was goes with the request.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            match layer.identify(&mut parts.headers).await {
                Ok(caller) => {
                    caller.record(&mut parts.extensions);
                    inner.call(Request::from_parts(parts, body)).await
                }
                Err(error) => Ok(error.into_response()),
            }
        })
    }
}

impl<C: DeserializeOwned> VerifyLayer<C> {
    async fn identify(&self, headers: &mut HeaderMap) -> Result<Caller<C>, AuthError> {
        let found = match self.find_token(headers) {
            Ok(token) => self.check(&token).await.map_err(AuthError::from),
            Err(AuthError::MissingToken) if self.is_optional => Ok(Caller::Nobody),
            Err(error) => Err(error),
        };
        // The token stays out of the log, and the reason out of the answer.
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

/// Who sent the request, as this layer found out.
enum Caller<C> {
    Known(Arc<Verified<C>>, Verifier),
    Nobody,
}

impl<C: Send + Sync + 'static> Caller<C> {
    /// What an outer layer may have found out, possibly about another issuer's token, is forgotten.
    fn record(self, extensions: &mut Extensions) {
        match self {
            Self::Known(token, verifier) => {
                extensions.insert(Identity(Some(Known { token: token.clone(), verifier })));
                extensions.insert(token);
            }
            Self::Nobody => {
                extensions.insert(Identity(None));
                extensions.remove::<Arc<Verified<C>>>();
            }
        }
    }
}

/// The innermost layer's finding, whatever its custom claims. `None`: no token was sent, which that layer
/// permits.
#[derive(Clone)]
struct Identity(Option<Known>);

/// A caller with a token, and who checked it.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) token: Arc<dyn Token>,
    pub(crate) verifier: Verifier,
}

/// A `Verified` without its type parameter.
pub(crate) trait Token: Any + Send + Sync {
    fn grants(&self, permission: &str) -> bool;
    fn guard(&self, verifier: &Verifier) -> Guard;
}

impl<C: Send + Sync + 'static> Token for Verified<C> {
    fn grants(&self, permission: &str) -> bool {
        self.has_permission(permission)
    }

    fn guard(&self, verifier: &Verifier) -> Guard {
        verifier.guard(self)
    }
}

/// Middleware that lets requests through whose token grants permissions. Goes inside a [`VerifyLayer`].
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, routing::get};
/// use verifier::{RequirePermission, Verifier};
///
/// # fn routes(verifier: &Verifier) -> Router {
/// Router::new()
///     .route("/orders", get(async || "orders").layer(RequirePermission::all(["orders:read"])))
///     .layer(verifier.layer())
/// # }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RequirePermission {
    missing: Missing,
}

impl RequirePermission {
    /// Every one of `permissions`. An empty list lets everyone with a good token through.
    pub fn all(permissions: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { missing: Missing::new(permissions.into_iter().map(Into::into).collect(), false) }
    }

    /// At least one of `permissions`. An empty list lets nobody through.
    pub fn any(permissions: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { missing: Missing::new(permissions.into_iter().map(Into::into).collect(), true) }
    }

    fn check(&self, extensions: &Extensions) -> Result<(), AuthError> {
        let Known { token, .. } = identity(extensions)?.ok_or(AuthError::MissingToken)?;
        if suffices(&*token, self.missing.permissions(), self.missing.any()) {
            return Ok(());
        }
        Err(VerifyError::Forbidden(self.missing.clone()).into())
    }
}

/// Whether `token` grants all of `permissions`, or `any` of them.
pub(crate) fn suffices(token: &dyn Token, permissions: &[impl AsRef<str>], any: bool) -> bool {
    let mut each = permissions.iter().map(|permission| token.grants(permission.as_ref()));
    if any { each.any(|granted| granted) } else { each.all(|granted| granted) }
}

/// The finding of the layer around us.
pub(crate) fn identity(extensions: &Extensions) -> Result<Option<Known>, AuthError> {
    let Some(Identity(caller)) = extensions.get() else {
        tracing::error!(
            "a route asks who is calling, but no VerifyLayer lies around it; nobody is let through"
        );
        return Err(AuthError::NoLayer);
    };
    Ok(caller.clone())
}

impl<S> Layer<S> for RequirePermission {
    type Service = RequirePermissionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequirePermissionService { required: self.clone(), inner }
    }
}

/// The service that [`RequirePermission`] makes.
#[derive(Clone, Debug)]
pub struct RequirePermissionService<S> {
    required: RequirePermission,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for RequirePermissionService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: From<String> + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<Result<Response<R>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.required.check(request.extensions()) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(error) => Box::pin(std::future::ready(Ok(error.into_response()))),
        }
    }
}
