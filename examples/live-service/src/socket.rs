//! One open socket, until it closes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message as Frame, Utf8Bytes, WebSocket};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{MissedTickBehavior, interval, timeout};
use verifier::{Guard, RenewError, Verified, VerifyError};

use crate::App;
use crate::hub::{News, Subscription};
use crate::inboxes::PAGE;
use crate::protocol::{FromClient, Refusal, Send, ToClient};

/// The permission to send messages to others.
const MAY_SEND: &str = "live:send";
/// A client that reads nothing for this long is too slow. It can reconnect and continue.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

// RFC 6455 §7.4.1 and the IANA registry of close codes.
const UNSUPPORTED: u16 = 1003;
const POLICY: u16 = 1008;
const TOO_LARGE: u16 = 1009;
const SERVICE_RESTART: u16 = 1012;
const TRY_AGAIN_LATER: u16 = 1013;

/// The resources of a socket.
pub(crate) struct Place {
    pub(crate) _room: OwnedSemaphorePermit,
    pub(crate) news: Subscription,
    /// The number of the last message that the client saw.
    pub(crate) seen: i64,
    /// The number of the newest message.
    pub(crate) last: i64,
}

pub(crate) struct Socket {
    wire: WebSocket,
    app: App,
    user: Arc<Verified>,
    place: Place,
    /// Pings since the last frame from the client.
    unanswered: u32,
}

/// How a socket ends: with a close frame, or without one if the client is gone.
struct End(Option<CloseFrame>);

impl End {
    const GONE: Self = Self(None);

    fn with(code: u16, reason: &'static str) -> Self {
        Self(Some(CloseFrame { code, reason: reason.into() }))
    }
}

impl Socket {
    pub(crate) fn new(wire: WebSocket, app: App, user: Arc<Verified>, place: Place) -> Self {
        Self { wire, app, user, place, unanswered: 0 }
    }

    /// Lives until the token ends, the replica drains, or the client leaves.
    pub(crate) async fn live(mut self, guard: &Guard) {
        let drain = Arc::clone(&self.app.drain);
        let End(close_frame) = tokio::select! {
            biased;
            reason = guard.ended() => End::with(POLICY, reason.label()),
            () = drain.turn() => End::with(SERVICE_RESTART, "draining"),
            end = self.converse(guard) => end,
        };
        if let Some(close_frame) = close_frame {
            // A client that reads nothing will not read this either.
            let _ = timeout(CLOSE_TIMEOUT, self.close(close_frame)).await;
        }
    }

    /// Sends the close frame and waits for the reply: closing a connection with unread data would discard the
    /// frames that were sent last.
    async fn close(&mut self, close_frame: CloseFrame) {
        if self.wire.send(Frame::Close(Some(close_frame))).await.is_ok() {
            while let Some(Ok(_)) = self.wire.recv().await {}
        }
    }

    async fn converse(&mut self, guard: &Guard) -> End {
        let Err(end) = self.exchange(guard).await;
        end
    }

    async fn exchange(&mut self, guard: &Guard) -> Result<Infallible, End> {
        let app = self.app.clone();
        let user = Arc::clone(&self.user);
        let replica = app.settings.replica.as_deref().unwrap_or_default();
        let (subject, expires_at) = (user.subject(), user.expires_at().0);
        self.say(&ToClient::Welcome { replica, subject, seq: self.place.last, expires_at }).await?;
        self.catch_up(self.place.last).await?;

        let mut pings = interval(app.settings.ping_interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings.reset();
        loop {
            tokio::select! {
                frame = self.wire.recv() => self.receive(frame, guard).await?,
                news = self.place.news.next() => self.pass_on(news).await?,
                _ = pings.tick() => self.ping().await?,
            }
        }
    }

    async fn receive(&mut self, frame: Option<Result<Frame, axum::Error>>, guard: &Guard) -> Result<(), End> {
        self.unanswered = 0;
        let text = match frame {
            Some(Ok(Frame::Text(text))) => text,
            Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => return Ok(()),
            Some(Ok(Frame::Binary(_))) => return Err(End::with(UNSUPPORTED, "text only")),
            Some(Ok(Frame::Close(_))) | None => return Err(End::GONE),
            // Or the connection broke; then this frame is not read.
            Some(Err(_)) => return Err(End::with(TOO_LARGE, "frame is too large, or malformed")),
        };
        match serde_json::from_str(&text) {
            Ok(FromClient::Send(message)) => self.take(&message).await,
            Ok(FromClient::Renew { access_token }) => self.renew(&access_token, guard).await,
            Err(_) => self.say(&ToClient::Error { code: Refusal::BadRequest, id: None }).await,
        }
    }

    /// Stores a message, then acknowledges it.
    async fn take(&mut self, message: &Send) -> Result<(), End> {
        let id = message.id.as_str();
        let answer = match self.store(message).await {
            Ok(seq) => ToClient::Sent { id, seq },
            Err(code) => ToClient::Error { code, id: Some(id) },
        };
        self.say(&answer).await
    }

    async fn store(&mut self, message: &Send) -> Result<i64, Refusal> {
        message.check()?;
        let own = self.user.subject();
        let inbox = message.to.as_deref().unwrap_or(own);
        if inbox != own && !self.user.has_permission(MAY_SEND) {
            return Err(Refusal::Forbidden);
        }
        self.app.inboxes.append(inbox, own, &message.id, &message.body).await.map_err(|error| {
            tracing::warn!(%error, "a message was not stored");
            Refusal::Unavailable
        })
    }

    /// Continues with a new token and its permissions. A token that is not valid changes nothing.
    async fn renew(&mut self, token: &str, guard: &Guard) -> Result<(), End> {
        let answer = match guard.renew(token).await {
            Ok(renewed) => {
                self.user = Arc::new(renewed);
                ToClient::Renewed { expires_at: self.user.expires_at().0 }
            }
            Err(error) => {
                tracing::debug!(%error, "a renewal was refused");
                ToClient::Error { code: refusal(&error), id: None }
            }
        };
        self.say(&answer).await
    }

    /// Forwards news to the client: the message itself if it is the next one, otherwise from the table.
    async fn pass_on(&mut self, news: Option<News>) -> Result<(), End> {
        match news {
            Some(News { seq, .. }) if seq <= self.place.seen => Ok(()),
            Some(News { seq, frame: Some(frame) }) if seq == self.place.seen + 1 => {
                self.write(frame).await?;
                self.place.seen = seq;
                Ok(())
            }
            Some(News { seq, .. }) => self.catch_up(seq).await,
            // The socket fell too far behind.
            None => self.catch_up(i64::MAX).await,
        }
    }

    /// Sends the messages after the last one that the client has seen, up to `until` at least.
    async fn catch_up(&mut self, until: i64) -> Result<(), End> {
        while self.place.seen < until {
            let page =
                self.app.inboxes.read(self.user.subject(), self.place.seen).await.map_err(|error| {
                    tracing::warn!(%error, "an inbox could not be read");
                    End::with(TRY_AGAIN_LATER, "the database is away")
                })?;
            let is_last = page.messages.len() < PAGE;
            for message in &page.messages {
                self.skip_to(message.seq - 1).await?;
                self.say(&ToClient::Message(message)).await?;
                self.place.seen = message.seq;
            }
            if is_last {
                return self.skip_to(page.last).await;
            }
        }
        Ok(())
    }

    /// Tells the client which messages are no longer kept, if it has not seen those up to `until`.
    async fn skip_to(&mut self, until: i64) -> Result<(), End> {
        if self.place.seen < until {
            self.say(&ToClient::Missed { after: self.place.seen, until }).await?;
            self.place.seen = until;
        }
        Ok(())
    }

    /// Pings the client; one that did not respond to two pings is gone.
    async fn ping(&mut self) -> Result<(), End> {
        if self.unanswered >= 2 {
            return Err(End::GONE);
        }
        self.unanswered += 1;
        self.send(Frame::Ping(axum::body::Bytes::new())).await
    }

    async fn say(&mut self, what: &ToClient<'_>) -> Result<(), End> {
        self.write(what.frame()).await
    }

    async fn write(&mut self, text: Utf8Bytes) -> Result<(), End> {
        self.send(Frame::Text(text)).await
    }

    async fn send(&mut self, frame: Frame) -> Result<(), End> {
        match timeout(WRITE_LIMIT, self.wire.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::GONE),
            Err(_) => {
                tracing::info!("a client reads too slowly");
                Err(End::with(TRY_AGAIN_LATER, "too slow"))
            }
        }
    }
}

/// The code for the client. The exact reason is only logged, as for requests.
fn refusal(error: &RenewError) -> Refusal {
    match error {
        RenewError::OtherSubject => Refusal::OtherSubject,
        RenewError::OtherSession => Refusal::OtherSession,
        RenewError::Refused(VerifyError::Unavailable(_)) => Refusal::Unavailable,
        _ => Refusal::InvalidToken,
    }
}
