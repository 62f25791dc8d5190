//! Users change their own password.

use super::authenticate::Caller;
use super::throttle::{FailureKeys, Origin};
use crate::config::Settings;
use crate::domain::audit::{AuditEvent, EventKind};
use crate::domain::authority::Authority;
use crate::domain::login::{FORGET_AFTER, FREE_BY_NAME};
use crate::domain::password::{Password, PasswordPolicy, WeakPassword};
use crate::runtime::app::App;
use crate::runtime::hashing::HashError;
use crate::store::{StoreError, UserChange, UserWrite};
use verifier::Seconds;

/// Why a password was not changed.
#[derive(Debug, thiserror::Error)]
pub enum PasswordChangeError {
    /// The current password is wrong.
    #[error("the current password is wrong")]
    InvalidCredentials,
    /// Too many wrong current passwords.
    #[error("too many attempts; retry in {} s", .0.0)]
    Throttled(Seconds),
    /// The new password does not meet the policy.
    #[error("the new password {0}")]
    Weak(#[from] WeakPassword),
    /// Hashing is saturated.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Changes the caller's password and ends their other sessions. Requires the current password, under the same
/// limits as a login, so that a stolen access token is not enough.
pub async fn change_own_password(
    app: &App,
    caller: &Caller,
    current: Password,
    new: Password,
    origin: &Origin,
) -> Result<(), PasswordChangeError> {
    let keys = FailureKeys::new(&caller.username, None);
    let [name_key] = <[String; 1]>::try_from(keys.all()).unwrap_or_default();
    let attempt = app.store.login_attempt(caller.username.clone(), name_key, String::new()).await?;
    if let Some(wait) = attempt.name_failures.and_then(|failures| failures.wait(FREE_BY_NAME, attempt.now)) {
        return Err(PasswordChangeError::Throttled(wait));
    }
    let subject = attempt.subject.ok_or(PasswordChangeError::InvalidCredentials)?;
    let verification = app.hashing.verify(current, subject.password_hash).await?;
    if !verification.matches() {
        let event =
            AuditEvent::new(EventKind::PasswordRefused).by(caller.user_id).in_session(caller.session_id);
        app.store.record_failure(keys.all(), FORGET_AFTER, origin.in_event(event)).await?;
        return Err(PasswordChangeError::InvalidCredentials);
    }
    check_strength(&app.settings(), &new, &caller.username).await??;
    let change = UserChange {
        password_hash: Some(app.hashing.hash(new).await?),
        keep_session: Some(caller.session_id),
        credential_version: Some(subject.credential_version),
        ..UserChange::default()
    };
    let event = AuditEvent::new(EventKind::PasswordChanged)
        .by(caller.user_id)
        .on(caller.user_id)
        .in_session(caller.session_id);
    match app.store.change_user(caller.user_id, change, Authority::Own, origin.in_event(event)).await? {
        UserWrite::Done(_) => Ok(()),
        // The user was changed or deleted after the password was checked.
        _ => Err(PasswordChangeError::InvalidCredentials),
    }
}

/// Applies the password rules for a user with this name, on a blocking thread: they use up to 100 ms of CPU
/// time.
pub(super) async fn check_strength(
    settings: &Settings,
    password: &Password,
    username: &str,
) -> Result<Result<(), WeakPassword>, HashError> {
    let policy = PasswordPolicy { min_length: settings.password_min_length };
    let (password, username) = (password.clone(), username.to_owned());
    tokio::task::spawn_blocking(move || policy.check(&password, &username))
        .await
        .map_err(|_| HashError::Crashed)
}
