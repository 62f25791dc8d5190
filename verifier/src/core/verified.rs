//! What a token says that passed every check.

use std::sync::Arc;

use crate::core::claims::{AccessClaims, NoExtra};
use crate::core::error::{Missing, VerifyError};
use crate::core::jwk::Kid;
use crate::core::time::UnixTime;

/// An access token that passed every check. Holding one is the proof.
///
/// `C` is for claims of your own; it is read from the same JSON object.
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

    /// Who issued the token.
    pub fn issuer(&self) -> &str {
        &self.registered.iss
    }

    /// The user or client the token speaks for. Unique within the issuer.
    pub fn subject(&self) -> &str {
        &self.registered.sub
    }

    /// The session the token belongs to.
    pub fn session_id(&self) -> Option<&str> {
        self.registered.sid.as_deref()
    }

    /// The application that acts.
    pub fn client_id(&self) -> &str {
        &self.registered.client_id
    }

    /// The resource servers the token is for; we are one of them.
    pub fn audience(&self) -> &[String] {
        &self.registered.aud
    }

    /// The permissions granted.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.registered.scope.split(' ').filter(|scope| !scope.is_empty())
    }

    /// Whether the token grants `permission`, compared exactly.
    pub fn has_permission(&self, permission: &str) -> bool {
        self.scopes().any(|scope| scope == permission)
    }

    /// `Ok` if the token grants `permission`, otherwise [`VerifyError::Forbidden`].
    pub fn require_permission(&self, permission: &str) -> Result<(), VerifyError> {
        if self.has_permission(permission) {
            return Ok(());
        }
        Err(VerifyError::Forbidden(Missing::new(Arc::new([permission.to_owned()]), false)))
    }

    /// The user's roles.
    pub fn roles(&self) -> &[String] {
        &self.registered.roles
    }

    /// Whether the user has this role, compared exactly.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles().iter().any(|one| one == role)
    }

    /// When the token ends; at this second it is no longer valid, leeway aside.
    pub fn expires_at(&self) -> UnixTime {
        self.registered.exp
    }

    /// When the token was issued.
    pub fn issued_at(&self) -> UnixTime {
        self.registered.iat
    }

    /// The token's own id, `jti`.
    pub fn token_id(&self) -> &str {
        &self.registered.jti
    }

    /// The key that signed.
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// Your own claims.
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
