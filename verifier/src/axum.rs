//! Extractors for axum: the caller as an argument of a handler.

use std::any::Any;
use std::sync::Arc;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;

use crate::claims::NoExtra;
use crate::credential::AuthError;
use crate::tower::{Token, identity};
use crate::verify::Verified;

/// The caller, as the [`VerifyLayer`](crate::VerifyLayer) around the route found out.
///
/// `Auth<C>` needs `verifier.layer_with_claims::<C>()`. Take `Option<Auth>` behind a layer that is
/// [`optional`](crate::VerifyLayer::optional).
///
/// ```
/// use axum::{Router, routing::get};
/// use verifier::{Auth, Verifier};
///
/// async fn greet(Auth(user): Auth) -> String {
///     format!("hello, {}", user.subject())
/// }
///
/// fn routes(verifier: &Verifier) -> Router {
///     Router::new().route("/greet", get(greet)).layer(verifier.layer())
/// }
/// ```
///
/// # Errors
/// 401 when the caller sent no token and the layer permits that. 500 when no layer lies around the route, or
/// one with other custom claims: nobody is let through by mistake.
#[derive(Debug)]
pub struct Auth<C = NoExtra>(pub Arc<Verified<C>>);

impl<C> Clone for Auth<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: Send + Sync + 'static, S: Sync> FromRequestParts<S> for Auth<C> {
    type Rejection = AuthError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthError> {
        find(parts)?.ok_or(AuthError::MissingToken)
    }
}

impl<C: Send + Sync + 'static, S: Sync> OptionalFromRequestParts<S> for Auth<C> {
    type Rejection = AuthError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, AuthError> {
        find(parts)
    }
}

impl IntoResponse for AuthError {
    fn into_response(self) -> Response {
        Self::into_response(self)
    }
}

fn find<C: Send + Sync + 'static>(parts: &Parts) -> Result<Option<Auth<C>>, AuthError> {
    let Some(token) = identity(&parts.extensions)? else { return Ok(None) };
    let token: Arc<dyn Token> = token;
    let token: Arc<dyn Any + Send + Sync> = token;
    let token = token.downcast().map_err(|_| {
        tracing::error!("a route wants other custom claims than the VerifyLayer around it reads");
        AuthError::NoLayer
    })?;
    Ok(Some(Auth(token)))
}
