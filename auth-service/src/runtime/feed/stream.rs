//! The subscribers. Each gets a snapshot, then every event, and another snapshot whenever it was too slow.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::event::Event;
use super::{Feed, FeedError};
use crate::runtime::drain::DrainWatch;

/// One stream. All streams share the events that wait to be sent, so a slow stream needs no memory.
#[derive(Debug)]
pub struct Subscription {
    feed: Arc<Feed>,
    events: Receiver<Bytes>,
    drain: DrainWatch,
    /// Sent before any other event.
    first: Option<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl Feed {
    /// Adds a subscriber. Its first event is a snapshot.
    pub async fn subscribe(self: &Arc<Self>) -> Result<Subscription, FeedError> {
        let permit = self.stream_permits.clone().try_acquire_owned().map_err(|_| FeedError::Full)?;
        let drain = self.parts.drain.clone();
        if drain.is_on() {
            return Err(FeedError::Draining);
        }
        // Subscribe before the snapshot is taken, so that no event is lost in between.
        let events = self.events.subscribe();
        let first = Some(self.snapshot().await?.event.clone());
        Ok(Subscription { feed: Arc::clone(self), events, drain, first, _permit: permit })
    }
}

impl Subscription {
    /// The bytes of the next event; `None` when the replica drains: the verifier then connects to another
    /// one.
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
