//! Manages users for operators, and for the command line with [`Actor::command_line`].

use serde::Deserialize;
use serde_json::{Map, Value};

use super::password::check_strength;
use super::throttle::subjects_of;
use crate::config::Settings;
use crate::domain::audit::{AuditEvent, EventKind};
use crate::domain::authority::Actor;
use crate::domain::password::Password;
use crate::domain::strength::WeakPassword;
use crate::domain::user::{RoleName, UserId, Username, UsernameError};
use crate::domain::{not_null, random_16};
use crate::entropy::EntropyError;
use crate::runtime::app::App;
use crate::runtime::hashing::{Claim, HashError};
use crate::store::{NewUser, SqlStore, StoreError, UserChange, UserRow, UserWrite};

/// A user to create, as typed; the body of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    /// The login name.
    pub username: String,
    /// The first password.
    pub password: Password,
    /// Names of existing roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Extra claims.
    #[serde(default)]
    pub claims: Map<String, Value>,
}

/// Changes of a user; `None` changes nothing. The body of the request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserPatch {
    /// The new list of all roles.
    #[serde(default, deserialize_with = "not_null")]
    pub roles: Option<Vec<String>>,
    /// The new set of all extra claims.
    #[serde(default, deserialize_with = "not_null")]
    pub claims: Option<Map<String, Value>>,
    /// Whether the user may log in.
    #[serde(default, deserialize_with = "not_null")]
    pub disabled: Option<bool>,
}

/// Why a user was not created or changed.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The name is not allowed.
    #[error("the user name {0}")]
    InvalidUsername(#[from] UsernameError),
    /// Another user has the name.
    #[error("the user name is taken")]
    UsernameTaken,
    /// The password does not meet the policy.
    #[error("the password {0}")]
    WeakPassword(#[from] WeakPassword),
    /// A claim is not among `extra_claims` of the configuration.
    #[error("the claim `{0}` is not among `extra_claims` of the configuration")]
    InvalidClaim(String),
    /// There is no such role.
    #[error("there is no role `{0}`")]
    UnknownRole(String),
    /// There is no such user.
    #[error("there is no such user")]
    NotFound,
    /// The actor lacks permissions that the user has or would get.
    #[error("the user has, or would get, permissions that you do not have")]
    Escalation,
    /// The user is the last one with full rights.
    #[error("nobody else has full rights; give another user the role `admin` first")]
    LastAdministrator,
    /// Hashing is saturated.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// Creates a user.
pub async fn create(app: &App, actor: Actor, request: UserRequest) -> Result<UserRow, UserError> {
    let username = Username::parse(&request.username)?;
    let settings = app.settings();
    check_claims(&settings, &request.claims)?;
    check_roles(&request.roles)?;
    check_strength(app, &request.password, username.as_str()).await??;
    let new = NewUser {
        id: UserId::from_random(random_16(&*app.entropy)?),
        username: username.to_string(),
        password_hash: app.hashing.hash(request.password, Claim::operator()).await?,
        roles: request.roles,
        claims: request.claims,
    };
    let event = AuditEvent::new(EventKind::UserCreated)
        .by_actor(&actor)
        .on(new.id)
        .detail(format!("roles {}", new.roles.join(" ")));
    done(app.store.create_user(new, actor.authority, event).await?)
}

/// Changes roles, claims or the right to log in. Disabling ends the user's sessions; new roles take effect at
/// the next refresh.
pub async fn change(
    settings: &Settings,
    store: &SqlStore,
    actor: Actor,
    id: UserId,
    patch: UserPatch,
) -> Result<UserRow, UserError> {
    if let Some(claims) = &patch.claims {
        check_claims(settings, claims)?;
    }
    if let Some(roles) = &patch.roles {
        check_roles(roles)?;
    }
    let mut words = Vec::new();
    words.extend(patch.roles.as_ref().map(|roles| format!("roles {}", roles.join(" "))));
    words.extend(patch.claims.as_ref().map(|_| "claims".to_owned()));
    words.extend(patch.disabled.map(|disabled| if disabled { "disabled" } else { "enabled" }.to_owned()));
    let event = AuditEvent::new(EventKind::UserChanged).by_actor(&actor).on(id).detail(words.join(", "));
    let UserPatch { roles, claims, disabled } = patch;
    let change = UserChange { roles, claims, disabled, ..UserChange::default() };
    done(store.change_user(id, change, actor.authority, event).await?)
}

/// Sets a password and ends the user's sessions.
pub async fn set_password(
    app: &App,
    actor: Actor,
    id: UserId,
    password: Password,
) -> Result<UserRow, UserError> {
    let user = app.store.find_user(id).await?.ok_or(UserError::NotFound)?;
    check_strength(app, &password, &user.username).await??;
    let hash = app.hashing.hash(password, Claim::operator()).await?;
    let change = UserChange { password_hash: Some(hash), ..UserChange::default() };
    let event = AuditEvent::new(EventKind::PasswordChanged).by_actor(&actor).on(id);
    done(app.store.change_user(id, change, actor.authority, event).await?)
}

/// Forgets the failed logins with a user's name, so that they need not wait for their next attempt. Failures
/// counted by client address stay. Returns whether there were any.
pub async fn unlock(store: &SqlStore, actor: &Actor, username: &str) -> Result<bool, UserError> {
    let username = Username::parse(username)?;
    let user = store.find_user_named(username.as_str()).await?.ok_or(UserError::NotFound)?;
    let (by_network, others) = subjects_of(username.as_str());
    let event = AuditEvent::new(EventKind::UserUnlocked).by_actor(actor).on(user.id);
    Ok(store.forget_counters(others, by_network, event).await?)
}

/// Deletes a user with their sessions.
pub async fn delete(store: &SqlStore, actor: Actor, id: UserId) -> Result<(), UserError> {
    let event = AuditEvent::new(EventKind::UserDeleted).by_actor(&actor).on(id);
    done(store.delete_user(id, actor.authority, event).await?).map(drop)
}

fn done(outcome: UserWrite) -> Result<UserRow, UserError> {
    match outcome {
        UserWrite::Done(user) => Ok(*user),
        UserWrite::NotFound => Err(UserError::NotFound),
        UserWrite::NameTaken => Err(UserError::UsernameTaken),
        UserWrite::UnknownRole(name) => Err(UserError::UnknownRole(name)),
        UserWrite::Escalation => Err(UserError::Escalation),
        UserWrite::LastAdministrator => Err(UserError::LastAdministrator),
    }
}

fn check_claims(settings: &Settings, claims: &Map<String, Value>) -> Result<(), UserError> {
    match claims.keys().find(|name| !settings.extra_claims.contains(name)) {
        Some(name) => Err(UserError::InvalidClaim(name.clone())),
        None => Ok(()),
    }
}

/// Reports an invalid role name as an unknown role, without reading the database.
fn check_roles(names: &[String]) -> Result<(), UserError> {
    match names.iter().find(|name| RoleName::parse(name).is_err()) {
        Some(name) => Err(UserError::UnknownRole(name.clone())),
        None => Ok(()),
    }
}
