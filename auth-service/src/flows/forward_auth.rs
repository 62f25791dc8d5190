//! Checks tokens for a proxy in front of a service that cannot check them itself.

use std::sync::Arc;
use std::time::Duration;

use verifier::{NoExtra, Reason, Seconds, Verified, VerifyError};

use crate::domain::session::SessionId;
use crate::domain::user::PermissionSet;
use crate::keys::keyring::{LookupBy, RingError};
use crate::runtime::app::App;
use crate::store::Deadline;

/// How long a replica without database may decide with the keys and revocations in memory, as verifiers do
/// with their keys. During that time, it accepts tokens of sessions that ended elsewhere until the tokens
/// expire, and tokens of keys that were compromised elsewhere until this limit.
const LONGEST_WITHOUT_DATABASE: Duration = Duration::from_hours(24);

/// The requirements of the service behind the proxy.
#[derive(Clone, Debug)]
pub struct Needed {
    /// The token must be for one of these.
    pub audiences: Vec<String>,
    /// The token must have all of these.
    pub permissions: PermissionSet,
}

/// An accepted token, and the data to pass to the service.
#[derive(Debug)]
pub struct Admitted {
    /// The claims of the token.
    pub token: Verified<NoExtra>,
    /// The session of the token.
    pub session_id: SessionId,
}

/// Why the request is refused.
#[derive(Debug, thiserror::Error)]
pub enum ForwardAuthError {
    /// The token is not valid.
    #[error(transparent)]
    Token(#[from] VerifyError),
    /// The session ended, or the key was compromised, after the token was issued.
    #[error("the session has ended, or the key is compromised")]
    Revoked,
    /// The token is valid, but lacks at least one of these permissions.
    #[error("the token lacks at least one of these permissions: {0}")]
    Forbidden(PermissionSet),
    /// Revocations have not been read yet.
    #[error("no revocations have been read yet")]
    FeedNotRead,
    /// With this clock, the replica would refuse valid tokens or accept expired ones.
    #[error("this replica's clock is {} s away from the database's", .0.0)]
    WrongClock(Seconds),
    /// The keys and revocations in memory are too old.
    #[error("the keys and revocations in memory are too old")]
    TooOld,
    /// The current key table could not be loaded.
    #[error("the current keys could not be loaded: {0}")]
    KeysUnusable(Arc<String>),
    /// The token names an unknown key, and the key table cannot be read.
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// Verifies the token as a resource server would, against the keys and revocations in memory. So it works
/// for a day without the database.
///
/// Reads the database only for an unknown key, at most once a second: after a compromise, another replica may
/// sign with a key that this one has not read yet.
pub async fn forward_auth(app: &App, bearer: &str, needed: &Needed) -> Result<Admitted, ForwardAuthError> {
    if let Some(off_by) = app.clock_guard.off_by(app.config.clock_bound) {
        return Err(ForwardAuthError::WrongClock(off_by));
    }
    if let Some(problem) = app.keyring.problem() {
        return Err(ForwardAuthError::KeysUnusable(problem));
    }
    let read_at = app.feed.read_at().ok_or(ForwardAuthError::FeedNotRead)?;
    let feed_age = app.clock.monotonic().saturating_sub(read_at);
    if feed_age.max(app.keyring.confirmed_for()) > LONGEST_WITHOUT_DATABASE {
        return Err(ForwardAuthError::TooOld);
    }
    let (expected, now) = (app.expected_for(&needed.audiences), app.clock.now());
    let verify = || expected.verify::<NoExtra>(bearer, app.keyring.snapshot().key_set(), now);
    let token = match verify() {
        Err(VerifyError::Invalid(Reason::UnknownKey)) => {
            // The only database work of this request, and rare: the deadline starts here.
            let store = app.store.within(Deadline::of_request());
            app.keyring.look_up(&store, LookupBy::Kid).await?;
            verify()?
        }
        verified => verified?,
    };
    if !app.keyring.counts(token.kid(), now).ok_or(ForwardAuthError::TooOld)? {
        return Err(VerifyError::Invalid(Reason::UnknownKey).into());
    }
    let session_id = token.session_id().and_then(SessionId::parse).ok_or(ForwardAuthError::Revoked)?;
    if app.feed.is_revoked(session_id, token.kid()).ok_or(ForwardAuthError::FeedNotRead)? {
        return Err(ForwardAuthError::Revoked);
    }
    if !needed.permissions.iter().all(|permission| token.has_permission(permission.as_str())) {
        return Err(ForwardAuthError::Forbidden(needed.permissions.clone()));
    }
    Ok(Admitted { token, session_id })
}
