//! Forwards messages from the one listening connection to the sockets of this replica, by user.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use sqlx::postgres::PgListener;
use tokio::sync::broadcast::{Receiver, Sender};
use tokio::time::{sleep, timeout};

use crate::inboxes::{Inboxes, Notice};
use crate::protocol::ToClient;

/// How many messages a socket may be behind before it reads them from the table instead.
const BACKLOG: usize = 16;
/// Maximum number of sockets of one user on this replica.
const MAX_SOCKETS_PER_USER: usize = 64;
/// Each replica sends an empty notification to all at this interval,
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
/// so a connection that was silent for this long is dead, even if the network reports no error.
const MAX_SILENCE: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The sockets of this replica, by user.
#[derive(Default)]
pub(crate) struct Hub {
    inboxes: Mutex<HashMap<String, Sender<News>>>,
    is_listening: AtomicBool,
}

/// Something happened to an inbox.
#[derive(Clone)]
pub(crate) struct News {
    /// The number of its newest message.
    pub(crate) seq: i64,
    /// That message as it is sent, if it came with the notification.
    pub(crate) frame: Option<Utf8Bytes>,
}

/// The user already has the maximum number of sockets at this replica.
pub(crate) struct TooMany;

impl Hub {
    /// Whether this replica receives notifications. While it does not, messages are delayed but not lost.
    pub(crate) fn is_listening(&self) -> bool {
        self.is_listening.load(Ordering::Relaxed)
    }

    /// Subscribes to news of `inbox` from now on.
    pub(crate) fn subscribe(self: &Arc<Self>, inbox: &str) -> Result<Subscription, TooMany> {
        let mut inboxes = self.lock();
        let sender = inboxes.entry(inbox.to_owned()).or_insert_with(|| Sender::new(BACKLOG));
        if sender.receiver_count() >= MAX_SOCKETS_PER_USER {
            return Err(TooMany);
        }
        Ok(Subscription { news: Some(sender.subscribe()), inbox: inbox.to_owned(), hub: Arc::clone(self) })
    }

    /// Forwards notifications to sockets; never returns.
    pub(crate) async fn follow(&self, inboxes: &Inboxes) {
        loop {
            let Err(error) = self.listen(inboxes).await;
            if self.is_listening.swap(false, Ordering::Relaxed) {
                tracing::warn!(%error, "notifications are not received");
            }
            sleep(RETRY_AFTER).await;
        }
    }

    /// Listens until the connection breaks, and returns the reason.
    async fn listen(&self, inboxes: &Inboxes) -> Result<Infallible, sqlx::Error> {
        let mut listener = inboxes.listen().await?;
        // Messages from before the listener was ready. From here on, every notification is received.
        self.catch_up(inboxes).await?;
        if !self.is_listening.swap(true, Ordering::Relaxed) {
            tracing::info!("notifications are received");
        }
        tokio::select! {
            ended = self.receive(&mut listener) => ended,
            never = send_heartbeats(inboxes) => match never {},
        }
    }

    async fn receive(&self, listener: &mut PgListener) -> Result<Infallible, sqlx::Error> {
        listener.eager_reconnect(false);
        loop {
            // A broken connection is `None`, a silent one takes too long.
            let received = timeout(MAX_SILENCE, listener.try_recv()).await.unwrap_or(Ok(None))?;
            let payload = received.ok_or_else(|| sqlx::Error::Io(ErrorKind::ConnectionAborted.into()))?;
            // Other payloads only show that the connection works.
            if let Ok(Notice { inbox, message }) = serde_json::from_str(payload.payload()) {
                let frame = || Some(ToClient::Message(&message).frame());
                self.tell(&inbox, || News { seq: message.seq, frame: frame() });
            }
        }
    }

    /// Tells the sockets the position of their inboxes; those that are behind read the rest.
    async fn catch_up(&self, inboxes: &Inboxes) -> Result<(), sqlx::Error> {
        let here: Vec<String> = self.lock().keys().cloned().collect();
        for (inbox, seq) in inboxes.positions(&here).await? {
            self.tell(&inbox, || News { seq, frame: None });
        }
        Ok(())
    }

    fn tell(&self, inbox: &str, news: impl FnOnce() -> News) {
        if let Some(sockets) = self.lock().get(inbox) {
            // The last socket may just have left.
            let _ = sockets.send(news());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Sender<News>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send_heartbeats(inboxes: &Inboxes) -> Infallible {
    loop {
        if let Err(error) = inboxes.heartbeat().await {
            tracing::debug!(%error, "no heartbeat was sent");
        }
        sleep(HEARTBEAT_INTERVAL).await;
    }
}

/// The subscription of a socket, ended by dropping it.
pub(crate) struct Subscription {
    /// `None` only while it is dropped.
    news: Option<Receiver<News>>,
    inbox: String,
    hub: Arc<Hub>,
}

impl Subscription {
    /// The next news; `None` if there were too many to be kept.
    pub(crate) async fn next(&mut self) -> Option<News> {
        self.news.as_mut()?.recv().await.ok()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut inboxes = self.hub.lock();
        self.news = None;
        if inboxes.get(&self.inbox).is_some_and(|sockets| sockets.receiver_count() == 0) {
            inboxes.remove(&self.inbox);
        }
    }
}
