//! Authorization middleware for tower.

use std::task::{Context, Poll};

use http::{Extensions, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::adapters::credential::AuthError;
use crate::adapters::identity::{Known, identity, suffices};
use crate::adapters::tower::{Answer, BoxFuture, Problem};
use crate::core::error::{Missing, VerifyError};

/// Middleware that requires permissions. Place it inside a [`VerifyLayer`](crate::VerifyLayer).
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
pub struct RequirePermission<A = Problem> {
    missing: Missing,
    answer: A,
}

impl RequirePermission {
    /// Requires all of `permissions`. An empty list accepts every valid token.
    pub fn all(permissions: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(permissions.into_iter().map(Into::into).collect(), false)
    }

    /// Requires at least one of `permissions`. An empty list refuses every token.
    pub fn any(permissions: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(permissions.into_iter().map(Into::into).collect(), true)
    }

    fn new(permissions: std::sync::Arc<[String]>, any: bool) -> Self {
        Self { missing: Missing::new(permissions, any), answer: Problem }
    }
}

impl<A> RequirePermission<A> {
    /// As [`VerifyLayer::answering`](crate::VerifyLayer::answering).
    #[must_use]
    pub fn answering<B>(self, answer: B) -> RequirePermission<B> {
        RequirePermission { missing: self.missing, answer }
    }

    fn check(&self, extensions: &Extensions) -> Result<(), AuthError> {
        let Known { token, .. } = identity(extensions)?.ok_or(AuthError::MissingToken)?;
        if suffices(&*token, self.missing.permissions(), self.missing.any()) {
            return Ok(());
        }
        Err(VerifyError::Forbidden(self.missing.clone()).into())
    }
}

impl<S, A: Clone> Layer<S> for RequirePermission<A> {
    type Service = RequirePermissionService<S, A>;

    fn layer(&self, inner: S) -> Self::Service {
        RequirePermissionService { required: self.clone(), inner }
    }
}

/// The service of [`RequirePermission`].
#[derive(Clone, Debug)]
pub struct RequirePermissionService<S, A = Problem> {
    required: RequirePermission<A>,
    inner: S,
}

impl<S, A, B, R> Service<Request<B>> for RequirePermissionService<S, A>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    A: Answer<R>,
    R: Send + 'static,
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
            Err(error) => Box::pin(std::future::ready(Ok(self.required.answer.answer(error)))),
        }
    }
}
