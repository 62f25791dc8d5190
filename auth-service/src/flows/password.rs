//! Users change their own password.

use std::sync::Arc;

use super::authenticate::Caller;
use super::issue::{IssueError, device_value};
use super::throttle::{Admission, Guess, Origin, Reservation};
use crate::domain::audit::{AuditEvent, EventKind};
use crate::domain::authority::Authority;
use crate::domain::device::{DeviceId, Owner};
use crate::domain::password::Password;
use crate::domain::random_16;
use crate::domain::strength::{PasswordPolicy, WeakPassword};
use crate::domain::user::UserId;
use crate::entropy::EntropyError;
use crate::runtime::app::App;
use crate::runtime::hashing::{HashError, Lane};
use crate::store::{StoreError, UserChange, UserWrite};
use secrecy::SecretString;
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
    /// The password was changed, but there is no key for a device value.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// Changes the caller's password and ends their other sessions. Requires the current password, so that a stolen access token
/// is not enough; failures are counted for the session. Returns a device value, because earlier ones are void.
pub async fn change_own_password(
    app: &App,
    caller: &Caller,
    current: Password,
    new: Password,
    origin: &Origin,
) -> Result<SecretString, PasswordChangeError> {
    let reservation = match Reservation::in_session(&app.store, caller.session_id).await? {
        Admission::Reserved(reservation) => reservation,
        Admission::Refused(refused) => return Err(PasswordChangeError::Throttled(refused.wait)),
    };
    let nowhere = UserId::from_random([0; 16]);
    let attempt = app.store.login_attempt(caller.username.clone(), String::new(), nowhere).await?;
    let subject = attempt.subject.ok_or(PasswordChangeError::InvalidCredentials)?;
    let claim = Guess::new(&caller.username, origin, None).claim(Lane::Public);
    let verification = app.hashing.verify(current, subject.password_hash, claim).await?;
    if !verification.matches() {
        let event =
            AuditEvent::new(EventKind::PasswordRefused).by(caller.user_id).in_session(caller.session_id);
        reservation.fail(origin.in_event(event)).await?;
        return Err(PasswordChangeError::InvalidCredentials);
    }
    reservation.succeed().await?;
    check_strength(app, &new, &caller.username).await??;
    let change = UserChange {
        password_hash: Some(app.hashing.hash(new, claim).await?),
        keep_session: Some(caller.session_id),
        credential_version: Some(subject.credential_version),
        ..UserChange::default()
    };
    let event = AuditEvent::new(EventKind::PasswordChanged)
        .by(caller.user_id)
        .on(caller.user_id)
        .in_session(caller.session_id);
    match app.store.change_user(caller.user_id, change, Authority::Own, origin.in_event(event)).await? {
        UserWrite::Done(_) => {}
        // The user was changed or deleted after the password was checked.
        _ => return Err(PasswordChangeError::InvalidCredentials),
    }
    let owner = Owner { user: caller.user_id, credential_version: subject.credential_version + 1 };
    Ok(device_value(app, DeviceId::from_random(random_16(&*app.entropy)?), &owner)?)
}

/// Applies the password rules for a user with this name, on a blocking thread: they use up to 200 ms of CPU
/// time.
pub(super) async fn check_strength(
    app: &App,
    password: &Password,
    username: &str,
) -> Result<Result<(), WeakPassword>, HashError> {
    let (min_length, breached) = (app.settings().password_min_length, Arc::clone(&app.breached_passwords));
    let (password, username) = (password.clone(), username.to_owned());
    let check = move || PasswordPolicy { min_length, breached: &breached }.check(&password, &username);
    tokio::task::spawn_blocking(check).await.map_err(|_| HashError::Crashed)
}
