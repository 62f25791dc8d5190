//! Subscribers: each gets a snapshot, then every event, and another snapshot whenever it was too slow.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{Feed, FeedError};
use crate::runtime::drain::DrainWatch;

/// A server-sent event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    /// A document with all entries.
    Snapshot(&'a str),
    /// A document with the new entries.
    Delta(&'a str),
    /// The key set has changed; the data is its version.
    Jwks(i64),
}

impl Event<'_> {
    /// The bytes of the event, rendered once for all subscribers. Neither documents nor numbers contain a line break.
    pub(super) fn render(self) -> Bytes {
        match self {
            Self::Snapshot(document) => format!("event: snapshot\ndata: {document}\n\n"),
            Self::Delta(document) => format!("event: delta\ndata: {document}\n\n"),
            Self::Jwks(changes) => format!("event: jwks\ndata: {changes}\n\n"),
        }
        .into()
    }

    /// The data of a rendered event, not copied.
    pub(super) fn data(event: &Bytes) -> Bytes {
        const MARK: &[u8] = b"\ndata: ";
        let start = event.windows(MARK.len()).position(|part| part == MARK).map_or(0, |at| at + MARK.len());
        event.slice(start..event.len().saturating_sub(2).max(start))
    }
}

/// One stream. What it waits for is shared by all streams, so a slow one costs no memory.
#[derive(Debug)]
pub struct Subscription {
    feed: Arc<Feed>,
    events: Receiver<Bytes>,
    drain: DrainWatch,
    /// To be sent before anything that arrives.
    first: Option<Bytes>,
    _room: OwnedSemaphorePermit,
}

impl Feed {
    /// Adds a subscriber; its first event is a snapshot.
    pub async fn subscribe(self: &Arc<Self>) -> Result<Subscription, FeedError> {
        let room = self.room.clone().try_acquire_owned().map_err(|_| FeedError::Full)?;
        let drain = self.parts.drain.clone();
        if drain.is_on() {
            return Err(FeedError::Draining);
        }
        // Before the snapshot is taken, so that no event is lost between them.
        let events = self.events.subscribe();
        let first = Some(self.snapshot().await?.event.clone());
        Ok(Subscription { feed: Arc::clone(self), events, drain, first, _room: room })
    }
}

impl Subscription {
    /// The bytes of the next event; `None` when the replica drains, so that the verifier connects to another one.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let event = tokio::select! {
            biased;
            event = self.events.recv() => event,
            () = self.drain.until_on() => return None,
        };
        match event {
            Ok(event) => Some(event),
            Err(RecvError::Closed) => None,
            Err(RecvError::Lagged(_)) => {
                self.events = self.events.resubscribe();
                // One of the missed events may have announced a key.
                let keys = self.feed.parts.keyring.snapshot().keys_version();
                self.first = Some(self.feed.snapshot().await.ok()?.event.clone());
                Some(Event::Jwks(keys).render())
            }
        }
    }
}
