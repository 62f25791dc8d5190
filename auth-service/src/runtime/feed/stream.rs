//! Subscribers: each gets a snapshot, then every event, and a snapshot again whenever it was too slow for that.

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};

use super::FeedError;
use crate::runtime::app::App;

/// A server-sent event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    /// A document with everything.
    Snapshot(&'a str),
    /// A document with what is new.
    Delta(&'a str),
    /// The key set has changed; the data is its `auth_ring`.
    Jwks(i64),
}

impl Event<'_> {
    /// The bytes of the event, made once for all subscribers. No document and no number has a line break.
    pub(super) fn render(self) -> Bytes {
        match self {
            Self::Snapshot(document) => format!("event: snapshot\ndata: {document}\n\n"),
            Self::Delta(document) => format!("event: delta\ndata: {document}\n\n"),
            Self::Jwks(changes) => format!("event: jwks\ndata: {changes}\n\n"),
        }
        .into()
    }

    /// The data of a rendered event, without a copy.
    pub(super) fn data(event: &Bytes) -> Bytes {
        const MARK: &[u8] = b"\ndata: ";
        let start = event.windows(MARK.len()).position(|part| part == MARK).map_or(0, |at| at + MARK.len());
        event.slice(start..event.len().saturating_sub(2).max(start))
    }
}

/// One stream. What it waits for is shared with all others, so a slow one costs no memory.
#[derive(Debug)]
pub struct Subscription {
    app: App,
    events: Receiver<Bytes>,
    /// To be sent before anything that arrives.
    first: Option<Bytes>,
    _room: OwnedSemaphorePermit,
}

/// A new subscriber; the first event is a snapshot.
pub async fn subscribe(app: &App) -> Result<Subscription, FeedError> {
    let feed = &app.feed;
    let room = feed.room.clone().try_acquire_owned().map_err(|_| FeedError::Full)?;
    // Before the snapshot is taken, so that nothing falls between them.
    let events = feed.lock().events.as_ref().map(Sender::subscribe).ok_or(FeedError::Closed)?;
    let snapshot = super::snapshot(app).await?;
    let first = Some(snapshot.event.clone());
    Ok(Subscription { app: app.clone(), events, first, _room: room })
}

impl Subscription {
    /// The bytes of the next event; `None` when the replica drains.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        match self.events.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Closed) => None,
            Err(RecvError::Lagged(_)) => {
                self.events = self.events.resubscribe();
                // The events that it missed may have told of a key.
                let keys = self.app.keyring.snapshot().changes();
                self.first = Some(super::snapshot(&self.app).await.ok()?.event.clone());
                Some(Event::Jwks(keys).render())
            }
        }
    }
}
