//! Exchanges a password for a session.

use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use verifier::Seconds;

use super::issue::{IssueError, TokenPair, device_value, issue, may_issue};
use super::throttle::{Admission, Guess, Origin};
use crate::config::{ADMIN_AUDIENCE, Settings};
use crate::domain::access::FIRST_PARTY;
use crate::domain::audit::{AuditEvent, EventKind};
use crate::domain::authority::AdminPermission;
use crate::domain::device::{DeviceId, Owner};
use crate::domain::password::Password;
use crate::domain::proof::Proof;
use crate::domain::session::SessionId;
use crate::domain::user::{PermissionSet, Username};
use crate::domain::{not_null, random_16, user::UserId};
use crate::entropy::EntropyError;
use crate::keys::keyring::LeaseError;
use crate::runtime::app::App;
use crate::runtime::hashing::{HashError, Lane};
use crate::store::{LoginAttempt, LoginSubject, NewSession, StoreError};

/// A login request; all fields but `origin` are members of the request body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// As typed.
    pub username: String,
    /// As typed.
    pub password: Password,
    /// The audience of the tokens.
    #[serde(default, deserialize_with = "not_null")]
    pub audience: Option<String>,
    /// The requested permissions, separated by spaces.
    #[serde(default, deserialize_with = "not_null")]
    pub scope: Option<String>,
    /// The device value of an earlier login. One that is not good is as none.
    #[serde(default, deserialize_with = "not_null")]
    pub device: Option<SecretString>,
    /// The source of the request.
    #[serde(skip)]
    pub origin: Origin,
}

/// Why a login was refused.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Unknown or disabled user, no password set, or wrong password. The caller does not learn which.
    #[error("the user name or the password is wrong")]
    InvalidCredentials,
    /// Too many failed logins with this name or from this address.
    #[error("too many attempts; retry in {} s", .0.0)]
    Throttled(Seconds),
    /// The audience does not exist, or this user may not use it.
    #[error("the audience is not allowed for this user")]
    InvalidTarget,
    /// The scope is malformed, or contains a permission that the user does not have.
    #[error("the scope contains a permission that the user does not have")]
    InvalidScope,
    /// Hashing is saturated.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No token can be signed.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// The tokens of a new session, and the value by which the device is known from now on.
#[derive(Debug)]
pub struct Login {
    /// The tokens.
    pub tokens: TokenPair,
    /// The device value: the one of the request if it is good, or a new one.
    pub device: SecretString,
}

/// Checks the password and starts a session.
///
/// Unknown, disabled and password-less users cost the same hash and return the same error. The try is reserved under every
/// limit before hashing, whether or not the user exists.
pub async fn login(app: &App, request: LoginRequest) -> Result<Login, LoginError> {
    may_issue(app)?;
    // An invalid name is looked up as the empty name: it finds no user and costs the same.
    let name = Username::parse(&request.username).ok().map(|name| name.to_string());
    let device = request.device.as_ref().map(ExposeSecret::expose_secret);
    let guess = Guess::new(name.as_deref().unwrap_or(&request.username), &request.origin, device);
    let network = guess.own_network();
    let is_admin = request.audience.as_deref() == Some(ADMIN_AUDIENCE);
    let claim = guess.claim(if is_admin { Lane::Admin } else { Lane::Public });
    // Before the database, which has more to do than to refuse logins.
    app.hashing.check_room(claim)?;
    let decoy_from = decoy_from(app, name.as_deref().unwrap_or(&request.username));
    let name = name.unwrap_or_default();
    let attempt = app.store.login_attempt(name, network.clone().unwrap_or_default(), decoy_from).await?;
    let standing = guess.standing(app, &attempt).await.map_err(IssueError::from)?;
    let reservation =
        match guess.reserve(app, standing, attempt.subject.as_ref().map(|subject| subject.id)).await? {
            Admission::Reserved(reservation) => reservation,
            Admission::Refused(refused) => return Err(LoginError::Throttled(refused.wait)),
        };
    let LoginAttempt { now, subject, decoy, .. } = attempt;
    // A disabled user's own hash is checked, too, so that the time does not tell them from others.
    let stored = subject.as_ref().and_then(|subject| subject.password_hash.clone());
    let (has_password, stored) = (stored.is_some(), stored.or(decoy));
    let verification = app.hashing.verify(request.password.clone(), stored, claim).await?;
    let usable = subject.filter(|subject| has_password && subject.disabled_at.is_none());
    let proof = usable.and_then(|LoginSubject { id, credential_version, .. }| {
        Proof::by_password(id, credential_version, verification, now)
    });
    let Some(proof) = proof else {
        let event =
            AuditEvent::new(EventKind::LoginRefused).detail(format!("name {}", guess.name_in_audit()));
        reservation.fail(request.origin.in_event(event)).await?;
        return Err(LoginError::InvalidCredentials);
    };
    let rehashed = if verification.needs_rehash() {
        // A login with the right password must not fail because hashing is saturated.
        app.hashing.hash(request.password.clone(), claim).await.ok().map(|hash| hash.as_str().to_owned())
    } else {
        None
    };
    let device = match &request.device {
        Some(device) if reservation.is_by_device() => device.clone(),
        _ => {
            let owner = Owner { user: proof.user(), credential_version: proof.credential_version() };
            device_value(app, DeviceId::from_random(random_16(&*app.entropy)?), &owner)?
        }
    };
    let tokens = start_session(app, request, proof, rehashed, network).await?;
    guess.become_known(app);
    // The session has started. If this fails, the reservation expires.
    if let Err(error) = reservation.succeed().await {
        tracing::debug!(%error, "a reserved login was not settled");
    }
    Ok(Login { tokens, device })
}

/// Where the search for a decoy begins, for a name that has no user: always the same for a name, and not to be foreseen.
fn decoy_from(app: &App, name: &str) -> UserId {
    let key = app.keyring.current_mac_key(app.clock.now()).and_then(|id| app.keyring.mac_key(id));
    let mut bytes = [0; 16];
    if let Some(key) = key {
        bytes.copy_from_slice(&hmac::sign(&key, &[b"decoy", name.as_bytes()].concat()).as_ref()[..16]);
    }
    UserId::from_random(bytes)
}

/// Starts a session for the user of `proof`.
async fn start_session(
    app: &App,
    request: LoginRequest,
    proof: Proof,
    rehashed: Option<String>,
    network: Option<String>,
) -> Result<TokenPair, LoginError> {
    let settings = app.settings();
    let (audience, scope) = target(app, &settings, &request, proof.user()).await?;
    let id = SessionId::from_random(random_16(&*app.entropy)?);
    let mac_key_id =
        app.keyring.current_mac_key(app.clock.now()).ok_or(LeaseError::NoMacKey).map_err(IssueError::from)?;
    let user = proof.user();
    let new = NewSession {
        id,
        proof,
        rehashed,
        client_id: FIRST_PARTY.to_owned(),
        audience: audience.clone(),
        scope,
        mac_key_id,
        idle_ttl: settings.refresh_idle_ttl,
        absolute_ttl: settings.refresh_absolute_ttl,
        max_sessions: settings.max_sessions_per_user,
        user_agent: request.origin.user_agent.clone(),
        address: request.origin.address.map(|address| address.to_string()),
        network,
    };
    let event =
        AuditEvent::new(EventKind::Login).by(user).in_session(id).detail(format!("audience {audience}"));
    let event = request.origin.in_event(event);
    match app.store.create_session(new, event).await? {
        Some(live) => Ok(issue(app, &settings, &live).await?),
        None => Err(LoginError::InvalidCredentials),
    }
}

/// The audience and the scope, if both are allowed for this user.
async fn target(
    app: &App,
    settings: &Settings,
    request: &LoginRequest,
    user: UserId,
) -> Result<(String, Option<String>), LoginError> {
    let audience = request.audience.clone().unwrap_or_else(|| settings.audiences[0].clone());
    let is_admin = audience == ADMIN_AUDIENCE;
    if !settings.knows_audience(&audience) {
        return Err(LoginError::InvalidTarget);
    }
    if !is_admin && request.scope.is_none() {
        return Ok((audience, None));
    }
    let held = app.store.find_user(user).await?.ok_or(LoginError::InvalidCredentials)?.permissions;
    if is_admin && !AdminPermission::ALL.iter().any(|permission| held.contains(permission.as_str())) {
        return Err(LoginError::InvalidTarget);
    }
    let Some(scope) = &request.scope else { return Ok((audience, None)) };
    let asked_for = PermissionSet::parse(scope).map_err(|_| LoginError::InvalidScope)?;
    if asked_for.is_empty() || !held.is_superset(&asked_for) {
        return Err(LoginError::InvalidScope);
    }
    Ok((audience, Some(asked_for.to_string())))
}
