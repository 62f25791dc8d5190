//! A token that passed every check.

use std::sync::Arc;

use crate::core::claims::{AccessClaims, NoExtra};
use crate::core::error::{Missing, VerifyError};
use crate::core::jwk::Kid;
use crate::core::time::UnixTime;

/// An access token that passed every check; only this crate can construct one.
///
/// `C` holds custom claims, read from the same JSON object.
#[derive(Clone, Debug)]
pub struct Verified<C = NoExtra> {
    registered: Arc<AccessClaims>,
    kid: Kid,
    claims: C,
}

impl<C> Verified<C> {
    pub(crate) fn new(registered: Arc<AccessClaims>, kid: Kid, claims: C) -> Self {
        Self { registered, kid, claims }
    }

    /// The issuer, `iss`.
    pub fn issuer(&self) -> &str {
        &self.registered.iss
    }

    /// The subject, `sub`: the id of a user or client, unique within the issuer.
    pub fn subject(&self) -> &str {
        &self.registered.sub
    }

    /// The session of the token, `sid`.
    pub fn session_id(&self) -> Option<&str> {
        self.registered.sid.as_deref()
    }

    /// The application that acts for the subject, `client_id`.
    pub fn client_id(&self) -> &str {
        &self.registered.client_id
    }

    /// The audiences of the token, `aud`; this service is one of them.
    pub fn audience(&self) -> &[String] {
        &self.registered.aud
    }

    /// The granted permissions, from `scope`.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.registered.scope.split(' ').filter(|scope| !scope.is_empty())
    }

    /// Returns whether the token grants `permission`, compared exactly.
    pub fn has_permission(&self, permission: &str) -> bool {
        self.scopes().any(|scope| scope == permission)
    }

    /// Requires `permission`.
    ///
    /// # Errors
    /// [`VerifyError::Forbidden`] if the token does not grant it.
    pub fn require_permission(&self, permission: &str) -> Result<(), VerifyError> {
        if self.has_permission(permission) {
            return Ok(());
        }
        Err(VerifyError::Forbidden(Missing::new(Arc::new([permission.to_owned()]), false)))
    }

    /// The roles of the user.
    pub fn roles(&self) -> &[String] {
        &self.registered.roles
    }

    /// Returns whether the user has this role, compared exactly.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles().iter().any(|one| one == role)
    }

    /// When the token expires, `exp`; it is invalid from this second on, apart from the leeway.
    pub fn expires_at(&self) -> UnixTime {
        self.registered.exp
    }

    /// When the token was issued, `iat`.
    pub fn issued_at(&self) -> UnixTime {
        self.registered.iat
    }

    /// The id of the token, `jti`.
    pub fn token_id(&self) -> &str {
        &self.registered.jti
    }

    /// The id of the key that signed the token.
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// The custom claims.
    pub fn claims(&self) -> &C {
        &self.claims
    }

    pub(crate) fn shared(&self) -> &Arc<AccessClaims> {
        &self.registered
    }

    /// All registered claims.
    pub fn registered(&self) -> &AccessClaims {
        &self.registered
    }
}
