//! Extractors for axum.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;

use crate::adapters::credential::AuthError;
use crate::adapters::identity::{Token, caller, find_caller, guard, suffices};
use crate::core::claims::NoExtra;
use crate::core::error::{Missing, VerifyError};
use crate::core::verified::Verified;
use crate::guard::Guard;

/// The token of the request, as verified by the [`VerifyLayer`](crate::VerifyLayer) around the route.
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
/// 401 if the request has no token, which the layer permits. 500 if there is no layer around the route, or
/// one with other custom claims: a wrong setup refuses requests.
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
        caller(&parts.extensions).map(Self)
    }
}

impl<C: Send + Sync + 'static, S: Sync> OptionalFromRequestParts<S> for Auth<C> {
    type Rejection = AuthError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, AuthError> {
        Ok(find_caller(&parts.extensions)?.map(Self))
    }
}

/// A token that grants the permissions of `P`: [`Auth`] and [`RequirePermission`](crate::RequirePermission)
/// combined in the signature of the handler, with the same responses.
///
/// Dereferences to `Arc<Verified<C>>`.
///
/// ```
/// use axum::{Router, routing::get};
/// use verifier::{Needed, Permissions, Scoped, Verifier};
///
/// struct ReadOrders;
///
/// impl Permissions for ReadOrders {
///     const NEEDED: Needed = Needed::All(&["orders:read"]);
/// }
///
/// async fn list(user: Scoped<ReadOrders>) -> String {
///     format!("orders of {}", user.subject())
/// }
///
/// fn routes(verifier: &Verifier) -> Router {
///     Router::new().route("/orders", get(list)).layer(verifier.layer())
/// }
/// ```
///
/// # Errors
/// As [`Auth`], and 403 `insufficient_scope` if the token does not grant the permissions.
pub struct Scoped<P, C = NoExtra> {
    token: Arc<Verified<C>>,
    permissions: PhantomData<fn() -> P>,
}

/// The permissions that a handler requires, for [`Scoped`]. Implement it for an empty type.
pub trait Permissions: 'static {
    /// The required permissions.
    const NEEDED: Needed;
}

/// The required permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// All of these. An empty list accepts every valid token.
    All(&'static [&'static str]),
    /// At least one of these. An empty list refuses every token.
    Any(&'static [&'static str]),
}

impl Needed {
    fn check(self, token: &dyn Token) -> Result<(), VerifyError> {
        let (permissions, any) = match self {
            Self::All(permissions) => (permissions, false),
            Self::Any(permissions) => (permissions, true),
        };
        if suffices(token, permissions, any) {
            return Ok(());
        }
        let permissions = permissions.iter().map(|&permission| permission.to_owned()).collect();
        Err(VerifyError::Forbidden(Missing::new(permissions, any)))
    }
}

impl<P, C> Deref for Scoped<P, C> {
    type Target = Arc<Verified<C>>;

    fn deref(&self) -> &Arc<Verified<C>> {
        &self.token
    }
}

impl<P, C> Clone for Scoped<P, C> {
    fn clone(&self) -> Self {
        Self { token: Arc::clone(&self.token), permissions: PhantomData }
    }
}

impl<P, C: fmt::Debug> fmt::Debug for Scoped<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scoped").field(&self.token).finish()
    }
}

impl<P: Permissions, C: Send + Sync + 'static, S: Sync> FromRequestParts<S> for Scoped<P, C> {
    type Rejection = AuthError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthError> {
        let token = caller(&parts.extensions)?;
        P::NEEDED.check(&*token)?;
        Ok(Self { token, permissions: PhantomData })
    }
}

/// Watches the connection that this request opens; see [`Guard`]. The errors are those of [`Auth`].
impl<S: Sync> FromRequestParts<S> for Guard {
    type Rejection = AuthError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthError> {
        guard(&parts.extensions)
    }
}

impl IntoResponse for AuthError {
    fn into_response(self) -> Response {
        Self::into_response(self)
    }
}
