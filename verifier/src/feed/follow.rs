//! The background task that follows the stream and reconnects.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::listener::{Listener, Merged};
use super::source::FeedSource;
use crate::core::error::{FeedError, Reason};
use crate::core::feed::document::MAX_DOCUMENT;
use crate::core::feed::sse::{Event, Fault, Reader};
use crate::keys::freshness::spread;

/// The timeout from connecting to the head of the response.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout for the next verified document; a replica sends one every 2 s. Comments and unverified events
/// do not count, because anyone on the way can make them.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// A large document may take longer if it arrives at this rate, in bytes per millisecond (1 Mbit/s).
const MIN_RATE: usize = 128;
/// The timeout for a document with a later `as_of`. It doubles from the first value to the second, so that an
/// issuer without its database is not asked for snapshots all the time.
const ADVANCE_TIMEOUT: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(240));
/// After a stream that lasted this long, the back-off starts from the beginning.
const GOOD_LIFE: Duration = Duration::from_secs(10);
/// This many streams in a row may end sooner without back-off, because a rolling restart ends the stream of
/// every replica. If there are more, something on the way cuts streams, and each new one costs a snapshot.
const SHORT_LIVES: u32 = 6;
/// The polling interval after a 404, while no document ever arrived.
const OFF_INTERVAL: Duration = Duration::from_secs(300);
/// The maximum wait before the first retry, and before any further one.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));
/// Larger documents are read on a blocking thread: 10^5 sessions take about 10 ms.
const SMALL_DOCUMENT: usize = 64 * 1024;

/// Follows the stream until the task is aborted.
pub(super) async fn follow(listener: Arc<Listener>, source: Arc<dyn FeedSource>) {
    let (mut failures, mut short_lives, mut advance_timeout) = (0, 0, ADVANCE_TIMEOUT.0);
    loop {
        // Without keys no document can be verified.
        if listener.cache.wait_for_keys().await.is_err() {
            return;
        }
        let started_at = Instant::now();
        let mut connection =
            Connection { listener: &listener, advance_timeout, last_as_of: None, has_advanced: false };
        let error = connection.listen(&*source).await;
        advance_timeout = match error {
            _ if connection.has_advanced => ADVANCE_TIMEOUT.0,
            FeedError::StandsStill => (advance_timeout * 2).min(ADVANCE_TIMEOUT.1),
            _ => advance_timeout,
        };
        // If a document ever arrived, the issuer has a feed: the 404 comes from a replica of an older
        // version, or from a balancer without a replica.
        let error = match error {
            FeedError::NoFeed if listener.revoked.as_of().is_some() => FeedError::Status(404),
            other => other,
        };
        let is_old = started_at.elapsed() >= GOOD_LIFE;
        let was_cut = connection.has_advanced && matches!(error, FeedError::Ended | FeedError::Transport(_));
        short_lives = if is_old { 0 } else { short_lives + u32::from(was_cut) };
        failures = if is_old || was_cut && short_lives <= SHORT_LIVES { 1 } else { failures + 1 };
        let pause = match error {
            FeedError::NoFeed => OFF_INTERVAL.mul_f64(1.0 + 0.1 * spread()),
            _ => backoff(failures, spread().abs()),
        };
        listener.set_lost(error);
        listener.forget();
        sleep(pause).await;
    }
}

/// Full jitter: any time up to a bound that doubles. When a replica stops, its verifiers must not reconnect
/// to the next one at the same moment.
fn backoff(failures: u32, random: f64) -> Duration {
    let most = BACKOFF.0.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(BACKOFF.1);
    most.mul_f64(random)
}

struct Connection<'l> {
    listener: &'l Arc<Listener>,
    advance_timeout: Duration,
    /// The `as_of` of the last document of this connection, which a delta must continue. Those of other
    /// replicas do not count, because their clocks differ.
    last_as_of: Option<i64>,
    /// Whether a document had a later `as_of` than all before.
    has_advanced: bool,
}

impl Connection<'_> {
    /// Follows one stream to its end, and returns the reason for it.
    async fn listen(&mut self, source: &dyn FeedSource) -> FeedError {
        match self.try_listen(source).await {
            Ok(()) => FeedError::Ended,
            Err(error) => error,
        }
    }

    async fn try_listen(&mut self, source: &dyn FeedSource) -> Result<(), FeedError> {
        let connected = timeout(CONNECT_TIMEOUT, source.connect()).await;
        let mut body = connected.map_err(|_| FeedError::TimedOut)??;
        let (mut reader, mut events) = (Reader::new(MAX_DOCUMENT), Vec::new());
        let (mut verified_at, mut advanced_at) = (Instant::now(), Instant::now());
        loop {
            let transfer = Duration::from_millis((reader.pending() / MIN_RATE) as u64);
            let silent_at = verified_at + DOCUMENT_TIMEOUT + transfer;
            let stalled_at = advanced_at + self.advance_timeout + transfer;
            let (until, reason) = if silent_at <= stalled_at {
                (silent_at, FeedError::Silent)
            } else {
                (stalled_at, FeedError::StandsStill)
            };
            // With a stream that always has bytes ready, `timeout_at` would never check the clock.
            tokio::task::consume_budget().await;
            if Instant::now() >= until {
                return Err(reason);
            }
            let chunk = timeout_at(until, body.next_chunk()).await.map_err(|_| reason)??;
            let Some(chunk) = chunk else { return Ok(()) };
            let fault = reader.push(&chunk, &mut events);
            for event in events.drain(..) {
                let Some(advanced) = self.take(event).await? else { continue };
                verified_at = Instant::now();
                if advanced {
                    (self.has_advanced, advanced_at) = (true, verified_at);
                }
            }
            fault.map_err(|fault| match fault {
                Fault::TooLong => FeedError::TooLarge,
                Fault::NotText => FeedError::BadEvent,
            })?;
        }
    }

    /// `Some` for a verified document: whether it had a later `as_of` than all before.
    async fn take(&mut self, event: Event) -> Result<Option<bool>, FeedError> {
        match event.name.as_str() {
            // The document says which of the two it is.
            "snapshot" | "delta" => self.merge(event.data).await,
            "jwks" => {
                let keys_version: u64 = event.data.parse().map_err(|_| FeedError::BadEvent)?;
                if self.listener.cache.keys_version().is_none_or(|held| held < keys_version) {
                    self.listener.cache.request_refresh();
                }
                Ok(None)
            }
            // Later versions may add events.
            _ => Ok(None),
        }
    }

    async fn merge(&mut self, document: String) -> Result<Option<bool>, FeedError> {
        let cache = &self.listener.cache;
        let (mut outcome, mut document) = self.try_merge(document).await;
        if outcome == UNKNOWN_KEY
            && let Some(request) = cache.pending_refresh()
        {
            // The stream announced a changed key set, probably because of this key.
            cache.refreshed(request).await;
            (outcome, document) = self.try_merge(document).await;
        }
        if outcome == UNKNOWN_KEY {
            cache.refreshed(cache.request_refresh()).await;
            (outcome, _) = self.try_merge(document).await;
        }
        match outcome {
            Ok(merged) => {
                self.last_as_of = self.last_as_of.max(Some(merged.as_of));
                self.listener.set_live();
                self.listener.forget();
                Ok(Some(merged.has_advanced))
            }
            // The replica does not know of the revocation yet, or the thief of the key sends documents.
            Err(FeedError::Document(Reason::RevokedKey)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the document as well, for another attempt.
    async fn try_merge(&self, document: String) -> (Result<Merged, FeedError>, String) {
        let last_as_of = self.last_as_of;
        if document.len() <= SMALL_DOCUMENT {
            return (self.listener.merge(&document, last_as_of), document);
        }
        let listener = Arc::clone(self.listener);
        let reading = tokio::task::spawn_blocking(move || (listener.merge(&document, last_as_of), document));
        // Fails only if the runtime shuts down.
        reading.await.unwrap_or_else(|_| (Err(FeedError::Ended), String::new()))
    }
}

const UNKNOWN_KEY: Result<Merged, FeedError> = Err(FeedError::Document(Reason::UnknownKey));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_retry_is_quick_and_none_is_slow() {
        for (failures, most) in [(0, 500), (1, 500), (2, 1000), (3, 2000), (4, 4000), (5, 8000), (60, 8000)] {
            assert_eq!(backoff(failures, 1.0).as_millis(), most, "{failures}");
            assert_eq!(backoff(failures, 0.5).as_millis(), most / 2, "{failures}");
            assert_eq!(backoff(failures, 0.0).as_millis(), 0, "{failures}");
        }
    }
}
