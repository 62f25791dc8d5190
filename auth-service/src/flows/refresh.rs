//! Exchanges a refresh token (docs/protocols.md, "Sessions and refresh tokens").

use super::issue::{IssueError, TokenPair, issue};
use crate::config::Settings;
use crate::domain::audit::{AuditEvent, EventKind};
use crate::domain::refresh::{RefreshClaims, UncheckedRefreshToken};
use crate::domain::session::{EndReason, RefreshPolicy, Verdict};
use crate::keys::keyring::{KeyRing, LeaseError, RingError};
use crate::runtime::app::App;
use crate::store::{Advance, LiveSession, SqlStore, StoreError};

/// Attempts per request. An attempt fails only if another request refreshed the same session, so this is the
/// number of requests that a client may send in parallel.
const TRIES: usize = 64;

/// Why a refresh token was not exchanged.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The token was not issued by this service, or its session is over. The caller does not learn which.
    #[error("the refresh token is not valid")]
    Invalid,
    /// The token had already been replaced: the session was ended.
    #[error("the refresh token was used before; the session was ended")]
    Reused,
    /// Every attempt lost to another request that refreshed the session.
    #[error("too many parallel requests are refreshing this session")]
    Contended,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No token can be signed.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl From<RingError> for RefreshError {
    fn from(error: RingError) -> Self {
        Self::Issue(error.into())
    }
}

/// Exchanges `token` for the next pair. Parallel or repeated calls create one successor; a lost response is
/// recovered.
pub async fn refresh(app: &App, token: &str) -> Result<TokenPair, RefreshError> {
    let shown = check(&app.keyring, &app.store, token).await?.ok_or(RefreshError::Invalid)?;
    let settings = app.settings();
    let mut step = Advance::Outstanding(shown.generation);
    for _ in 0..TRIES {
        if let Some(live) = advance(app, &settings, &shown, step).await? {
            // Disabling ends the sessions as well; this check covers tables that were edited by hand.
            if live.user.disabled_at.is_some() {
                return Err(RefreshError::Invalid);
            }
            record(&app.store, &live, step).await?;
            return Ok(issue(app, &settings, &live).await?);
        }
        let live = app.store.find_session(shown.session_id).await?.ok_or(RefreshError::Invalid)?;
        step = match next(app, &settings, &shown, &live).await? {
            Next::Answer => return Ok(issue(app, &settings, &live).await?),
            Next::Step(step) => step,
        };
    }
    Err(RefreshError::Contended)
}

/// The claims of a token with a valid MAC; `None` otherwise. An invalid MAC costs no database work.
pub(super) async fn check(
    keyring: &KeyRing,
    store: &SqlStore,
    token: &str,
) -> Result<Option<RefreshClaims>, RingError> {
    let Some(unchecked) = UncheckedRefreshToken::parse(token) else { return Ok(None) };
    let key = keyring.find_mac_key(store, unchecked.mac_key_id()).await?;
    Ok(key.and_then(|key| unchecked.check(&key)))
}

enum Next {
    /// The same response as before.
    Answer,
    Step(Advance),
}

/// Decides the next step after the session was not advanced.
async fn next(
    app: &App,
    settings: &Settings,
    shown: &RefreshClaims,
    live: &LiveSession,
) -> Result<Next, RefreshError> {
    let LiveSession { session, user, seen } = live;
    if user.disabled_at.is_some() {
        return Err(RefreshError::Invalid);
    }
    let policy = RefreshPolicy { grace: settings.refresh_grace, recovery: settings.refresh_recovery };
    let generation = session.refresh.generation;
    match session.judge(shown.generation, seen.now, policy) {
        Verdict::Outstanding => Ok(Next::Step(Advance::Outstanding(shown.generation))),
        Verdict::Retry => Ok(Next::Answer),
        Verdict::Recover => Ok(Next::Step(Advance::Recover { accepted: shown.generation, generation })),
        Verdict::Ahead => Ok(Next::Step(Advance::FastForward { presented: shown.generation, generation })),
        Verdict::Reused => {
            let event = event(EventKind::RefreshReuse, live);
            app.store.end_session(session.id, EndReason::RefreshReuse, event).await?;
            Err(RefreshError::Reused)
        }
        Verdict::LateDuplicate | Verdict::Ended | Verdict::Expired => Err(RefreshError::Invalid),
    }
}

async fn advance(
    app: &App,
    settings: &Settings,
    shown: &RefreshClaims,
    step: Advance,
) -> Result<Option<LiveSession>, RefreshError> {
    let mac_key_id =
        app.keyring.current_mac_key(app.clock.now()).ok_or(LeaseError::NoMacKey).map_err(IssueError::from)?;
    Ok(app.store.advance_session(shown.session_id, step, mac_key_id, settings.refresh_idle_ttl).await?)
}

/// Writes unusual steps to the audit log. The normal one is left out: each client takes it every few minutes.
async fn record(store: &SqlStore, live: &LiveSession, step: Advance) -> Result<(), StoreError> {
    let kind = match step {
        Advance::Outstanding(_) => return Ok(()),
        Advance::Recover { .. } => EventKind::RefreshRecovered,
        Advance::FastForward { .. } => EventKind::RefreshFastForwarded,
    };
    store.record(event(kind, live)).await
}

fn event(kind: EventKind, live: &LiveSession) -> AuditEvent {
    AuditEvent::new(kind).by(live.session.user_id).in_session(live.session.id)
}
