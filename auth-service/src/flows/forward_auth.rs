//! Whether a proxy may let a request through to a service that cannot check tokens itself.

use std::sync::Arc;
use std::time::Duration;

use verifier::{NoExtra, Reason, Seconds, Verified, VerifyError};

use crate::domain::session::SessionId;
use crate::domain::user::PermissionSet;
use crate::keys::keyring::{LookupBy, RingError};
use crate::runtime::app::App;
use crate::store::Deadline;

/// A replica that has lost the database decides for so long with what it knows, as verifiers do with their keys. Meanwhile tokens of a
/// session that ends elsewhere pass until they expire, and those of a key that is compromised elsewhere until the day is over.
const LONGEST_WITHOUT_DATABASE: Duration = Duration::from_hours(24);

/// What the service behind the proxy asks of a token.
#[derive(Clone, Debug)]
pub struct Needed {
    /// The token must be for one of these.
    pub audiences: Vec<String>,
    /// The token must have all of these.
    pub permissions: PermissionSet,
}

/// A token that is good for this service, and what to tell the service.
#[derive(Debug)]
pub struct Admitted {
    /// What the token says.
    pub token: Verified<NoExtra>,
    /// The session that it belongs to.
    pub session_id: SessionId,
}

/// Why the request must not pass.
#[derive(Debug, thiserror::Error)]
pub enum ForwardAuthError {
    /// The token is not good.
    #[error(transparent)]
    Token(#[from] VerifyError),
    /// Since the token was issued its session has ended, or its key was compromised.
    #[error("the session has ended, or the key is compromised")]
    Revoked,
    /// The token is good, and does not have all of these permissions.
    #[error("not all of these permissions are in the token: {0}")]
    Forbidden(PermissionSet),
    /// Revocations have not been read yet.
    #[error("no revocations have been read yet")]
    FeedNotRead,
    /// Our clock would refuse good tokens, or accept expired ones.
    #[error("this replica's clock is {} s away from the database's", .0.0)]
    WrongClock(Seconds),
    /// What we know of keys and revocations was read too long ago to decide.
    #[error("the keys and the revocations were read too long ago")]
    TooOld,
    /// The newest key table could not be taken over.
    #[error("the newest keys cannot be used: {0}")]
    KeysUnusable(Arc<String>),
    /// The token names a key that we do not know, and the key table cannot be read.
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// Verifies the token as a resource server would, against what this replica has in memory: its keys and the revocations that it
/// has read. So it goes on while the database is away, for a day.
///
/// The database is asked only for a key that we do not know, at most once a second: a compromise makes another replica sign with a
/// key that we have not read yet.
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
            // The only database work of this request, and rare: the request has no deadline until here.
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
