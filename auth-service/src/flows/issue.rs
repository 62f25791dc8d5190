//! Issues the tokens of a session. The only place that signs access tokens.

use std::fmt;

use verifier::{Seconds, UnixTime};

use crate::config::Settings;
use crate::domain::access::{AccessClaims, expiry, granted};
use crate::domain::device::{self, DeviceId, Owner};
use crate::domain::refresh::RefreshClaims;
use crate::domain::user::PermissionSet;
use crate::keys::keyring::{LeaseError, RingError};
use crate::keys::signer::{Kind, SignatureError};
use crate::runtime::app::App;
use crate::store::LiveSession;
use secrecy::SecretString;

/// The tokens that a client receives for a password or a refresh token.
pub struct TokenPair {
    /// Signed, compact JWS.
    pub access_token: SecretString,
    /// Seconds until the access token expires.
    pub expires_in: Seconds,
    /// Opaque to clients.
    pub refresh_token: SecretString,
    /// Seconds until the session expires unless it is refreshed.
    pub refresh_expires_in: Seconds,
    /// The permissions granted, separated by spaces.
    pub scope: String,
    /// The session.
    pub session_id: String,
}

impl fmt::Debug for TokenPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenPair").field("session_id", &self.session_id).finish_non_exhaustive()
    }
}

/// Why this replica cannot issue a token now. Another replica may be able to, so the caller should retry.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The signing lease has expired, or a key is missing.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// This replica's clock differs too much from the database clock.
    #[error("this replica's clock is {} s away from the database's", .0.0)]
    Clock(Seconds),
    /// The signature failed.
    #[error(transparent)]
    Sign(#[from] SignatureError),
}

impl From<RingError> for IssueError {
    fn from(error: RingError) -> Self {
        Self::Lease(error.into())
    }
}

/// Checks whether this replica can probably issue now, before a session is created.
pub(super) fn may_issue(app: &App) -> Result<(), IssueError> {
    if let Some(off_by) = app.clock_guard.off_by(app.config.clock_bound) {
        return Err(IssueError::Clock(off_by));
    }
    if !app.keyring.snapshot().has_signer(app.clock.now()) {
        return Err(LeaseError::NoActiveKey.into());
    }
    Ok(())
}

/// The value by which a device of `owner` is known.
pub(super) fn device_value(app: &App, id: DeviceId, owner: &Owner) -> Result<SecretString, IssueError> {
    let mac_key_id = app.keyring.current_mac_key(app.clock.now()).ok_or(LeaseError::NoMacKey)?;
    let key = app.keyring.mac_key(mac_key_id).ok_or(LeaseError::NoMacKey)?;
    Ok(device::seal(id, owner, mac_key_id, &key))
}

/// Signs the token pair of the session's newest generation, issued at `refreshed_at`: the same session state
/// gives the same tokens.
pub(super) async fn issue(
    app: &App,
    settings: &Settings,
    live: &LiveSession,
) -> Result<TokenPair, IssueError> {
    let LiveSession { session, user, seen } = live;
    app.clock_guard.observe(seen, &*app.clock);
    may_issue(app)?;
    app.keyring.catch_up(&app.store, seen).await?;
    let preferred = [settings.algorithm_for(&session.audience), settings.signing_algorithm];
    let key = app.keyring.active(&preferred, seen)?;
    let mac_key = app
        .keyring
        .find_mac_key(&app.store, session.refresh.mac_key_id)
        .await?
        .ok_or(LeaseError::NoMacKey)?;

    let refresh = RefreshClaims {
        mac_key_id: session.refresh.mac_key_id,
        session_id: session.id,
        generation: session.refresh.generation,
    };
    let asked_for = session.scope.as_deref().map(PermissionSet::parse);
    // The service never writes a malformed scope. If one is found, it grants nothing.
    let asked_for = asked_for.map(Result::unwrap_or_default);
    let scope = granted(&user.permissions, asked_for.as_ref()).to_string();
    let iat = session.refresh.refreshed_at;
    let margin = app.config.leeway + app.config.clock_bound * 2;
    let exp = expiry(iat, settings.access_token_ttl, &key.schedule, margin);
    let claims = AccessClaims {
        iss: &app.config.issuer,
        sub: session.user_id.to_string(),
        aud: &session.audience,
        exp,
        iat,
        nbf: iat,
        jti: refresh.token_id(&mac_key),
        sid: session.id.to_string(),
        client_id: &session.client_id,
        scope: &scope,
        roles: &user.roles,
        auth_time: session.auth_time,
        amr: session.amr.split(' ').collect(),
        extra: &user.claims,
    };
    let access_token = key.signer.sign(Kind::AccessToken, &claims)?;
    Ok(TokenPair {
        access_token: access_token.into(),
        expires_in: left(exp, seen.now),
        refresh_token: refresh.seal(&mac_key),
        refresh_expires_in: left(session.idle_expires_at.min(session.expires_at), seen.now),
        scope,
        session_id: session.id.to_string(),
    })
}

fn left(until: UnixTime, now: UnixTime) -> Seconds {
    (until - now).max(Seconds(0))
}
