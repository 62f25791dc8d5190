//! Checks before a socket opens. A refusal is an HTTP status.

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use std::sync::Arc;
use verifier::{Auth, Guard};

use crate::App;
use crate::protocol::{self, MAX_FRAME};
use crate::socket::{Place, Socket};

/// Small, because most sockets are silent most of the time. By default, each one would keep 128 KiB for
/// reading.
const READ_BUFFER: usize = 4 * 1024;

/// `GET /live`, with a valid token in `Authorization`, or where browsers can send it.
pub(crate) fn routes(app: &App) -> Router<App> {
    Router::new().route("/live", get(open)).layer(app.verifier.layer().with_websocket_token())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    /// The last number that the client saw. Without it, the client gets messages from now on.
    after: Option<u64>,
}

async fn open(
    State(app): State<App>,
    Auth(user): Auth,
    guard: Guard,
    Query(Start { after }): Query<Start>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refused> {
    check_origin(&headers, &app.settings.allowed_origins)?;
    if app.drain.is_closing() {
        return Err(Refused::Draining);
    }
    let room = Arc::clone(&app.room).try_acquire_owned().map_err(|_| Refused::Full)?;
    // First subscribe, then read the table, so that no message is missed in between.
    let news = app.hub.subscribe(user.subject()).map_err(|_| Refused::TooMany)?;
    let inbox = app.inboxes.read(user.subject(), i64::MAX).await.map_err(|error| {
        tracing::warn!(%error, "a socket could not be opened");
        Refused::Unavailable
    })?;
    // A client that is ahead of the table has seen the table before it was restored from a backup.
    let seen = after.map_or(inbox.last, |after| i64::try_from(after).unwrap_or(i64::MAX).min(inbox.last));
    let place = Place { _room: room, news, seen, last: inbox.last };
    // Limit both: a message may consist of several frames, and a frame is buffered up to the length that it
    // announces.
    let upgrade = upgrade.max_message_size(MAX_FRAME).max_frame_size(MAX_FRAME);
    let upgrade = upgrade.protocols([protocol::NAME]).read_buffer_size(READ_BUFFER);
    Ok(upgrade.on_upgrade(async move |socket| Socket::new(socket, app, user, place).live(&guard).await))
}

/// Browsers let any page open a socket, and name its origin. Without cookies, a foreign page gains nothing,
/// but there is no reason to serve it.
fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), Refused> {
    let is_allowed = |origin: &_| allowed.iter().any(|allowed| allowed == origin);
    if headers.get_all(header::ORIGIN).iter().all(is_allowed) { Ok(()) } else { Err(Refused::Origin) }
}

enum Refused {
    Origin,
    Draining,
    Full,
    TooMany,
    Unavailable,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, why) = match self {
            Self::Origin => (StatusCode::FORBIDDEN, "this origin is not among ALLOWED_ORIGINS\n"),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining; try another replica\n"),
            Self::Full => {
                (StatusCode::SERVICE_UNAVAILABLE, "no room for another socket; try another replica\n")
            }
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too many sockets of this user\n"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "the database is away\n"),
        };
        match self {
            Self::Origin => (status, why).into_response(),
            _ => (status, [(header::RETRY_AFTER, "1")], why).into_response(),
        }
    }
}
