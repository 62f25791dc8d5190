//! Who is calling, from the layer that found out to whoever asks.

use std::any::Any;
use std::sync::Arc;

use http::Extensions;

use crate::adapters::credential::AuthError;
use crate::core::verified::Verified;
use crate::guard::Guard;
use crate::verifier::Verifier;

/// The caller, as the [`VerifyLayer`](crate::VerifyLayer) or interceptor around us found out. For handlers of
/// frameworks without an extractor here, such as tonic.
///
/// # Errors
/// As [`Auth`](crate::Auth): [`AuthError::MissingToken`] where the layer permits that, and [`AuthError::NoLayer`]
/// without a layer, or with one that reads other custom claims.
pub fn caller<C: Send + Sync + 'static>(extensions: &Extensions) -> Result<Arc<Verified<C>>, AuthError> {
    find_caller(extensions)?.ok_or(AuthError::MissingToken)
}

/// Watches over what this request opens, a stream of answers for instance; see [`Guard`].
///
/// # Errors
/// As [`caller`].
pub fn guard(extensions: &Extensions) -> Result<Guard, AuthError> {
    let Known { token, verifier } = identity(extensions)?.ok_or(AuthError::MissingToken)?;
    Ok(token.guard(&verifier))
}

/// As [`caller`]; `None` if no token was sent and the layer permits that.
pub(crate) fn find_caller<C: Send + Sync + 'static>(
    extensions: &Extensions,
) -> Result<Option<Arc<Verified<C>>>, AuthError> {
    let Some(Known { token, .. }) = identity(extensions)? else { return Ok(None) };
    let token: Arc<dyn Any + Send + Sync> = token;
    let token = token.downcast().map_err(|_| {
        tracing::error!("a route wants other custom claims than the layer around it reads");
        AuthError::NoLayer
    })?;
    Ok(Some(token))
}

/// Who sent the request, as one layer found out.
pub(crate) enum Caller<C> {
    Known(Arc<Verified<C>>, Verifier),
    Nobody,
}

impl<C: Send + Sync + 'static> Caller<C> {
    /// What an outer layer may have found out, possibly about another issuer's token, is forgotten.
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
