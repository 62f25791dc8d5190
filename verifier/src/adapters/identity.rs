//! Passes the verified token from the layer to handlers.

use std::any::Any;
use std::sync::Arc;

use http::Extensions;

use crate::adapters::credential::AuthError;
use crate::core::verified::Verified;
use crate::guard::Guard;
use crate::verifier::Verifier;

/// The token of the request, as verified by the [`VerifyLayer`](crate::VerifyLayer) or interceptor around the
/// handler. For frameworks without an extractor here, such as tonic.
///
/// # Errors
/// [`AuthError::MissingToken`] if the request has no token, which the layer permits. [`AuthError::NoLayer`]
/// if there is no layer, or one that reads other custom claims.
pub fn caller<C: Send + Sync + 'static>(extensions: &Extensions) -> Result<Arc<Verified<C>>, AuthError> {
    find_caller(extensions)?.ok_or(AuthError::MissingToken)
}

/// Watches the connection that this request opens, for example a stream of messages; see [`Guard`].
///
/// # Errors
/// As [`caller`].
pub fn guard(extensions: &Extensions) -> Result<Guard, AuthError> {
    let Known { token, verifier } = identity(extensions)?.ok_or(AuthError::MissingToken)?;
    Ok(token.guard(&verifier))
}

/// As [`caller`]; `None` if the request has no token and the layer permits that.
pub(crate) fn find_caller<C: Send + Sync + 'static>(
    extensions: &Extensions,
) -> Result<Option<Arc<Verified<C>>>, AuthError> {
    let Some(Known { token, .. }) = identity(extensions)? else { return Ok(None) };
    let token: Arc<dyn Any + Send + Sync> = token;
    let token = token.downcast().map_err(|_| {
        tracing::error!("a route expects other custom claims than the layer around it reads");
        AuthError::NoLayer
    })?;
    Ok(Some(token))
}

/// The sender of the request, as identified by a layer.
pub(crate) enum Caller<C> {
    Known(Arc<Verified<C>>, Verifier),
    Nobody,
}

impl<C: Send + Sync + 'static> Caller<C> {
    /// Stores the caller, and replaces what an outer layer may have stored.
    pub(crate) fn record(self, extensions: &mut Extensions) {
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

/// The result of the innermost layer, with any custom claims. `None`: the request has no token, which that
/// layer permits.
#[derive(Clone)]
struct Identity(Option<Known>);

/// A verified token, and the verifier that checked it.
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

/// Returns whether `token` grants all of `permissions`, or one of them if `any`.
pub(crate) fn suffices(token: &dyn Token, permissions: &[impl AsRef<str>], any: bool) -> bool {
    let mut each = permissions.iter().map(|permission| token.grants(permission.as_ref()));
    if any { each.any(|granted| granted) } else { each.all(|granted| granted) }
}

/// The result of the layer around the handler.
pub(crate) fn identity(extensions: &Extensions) -> Result<Option<Known>, AuthError> {
    let Some(Identity(caller)) = extensions.get() else {
        tracing::error!(
            "a route needs a token, but there is no VerifyLayer around it; all requests are refused"
        );
        return Err(AuthError::NoLayer);
    };
    Ok(caller.clone())
}
