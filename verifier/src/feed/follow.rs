//! The background task that follows the stream, from one connection to the next.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::listener::{Heard, Listener};
use super::source::FeedSource;
use crate::core::error::{FeedError, Reason};
use crate::core::feed::document::MAX_DOCUMENT;
use crate::core::feed::sse::{Event, Fault, Reader};
use crate::keys::freshness::spread;

/// From connecting to the head of the answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A replica sends a document every 2 s. Only one that is verified counts: a keep-alive comment, or an event that
/// anyone on the way could have made, says nothing about revocations.
const SILENCE: Duration = Duration::from_secs(5);
/// A large document may take longer than that, as long as it comes at this many bytes a millisecond (1 Mbit/s).
const SLOWEST: usize = 128;
/// How long a stream may go on without bringing us up to a later instant. Doubled up to the second, so that an
/// issuer that has lost its database is not asked for snapshots all the time.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(240));
/// A stream that lived this long was a good one: the next attempt is the first.
const GOOD_LIFE: Duration = Duration::from_secs(10);
/// So many streams in a row may end sooner than that and still be good ones: a rolling restart ends the stream of each replica that a
/// verifier was sent to. Beyond, something on the way cuts streams, and each costs a whole snapshot.
const SHORT_LIVES: u32 = 6;
/// From a 404 to the next look, while the issuer was never heard.
const OFF_INTERVAL: Duration = Duration::from_secs(300);
/// The longest wait before the first and before any further attempt.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));
/// Larger documents are read where nobody else has to wait: 10^5 sessions take some 10 ms.
const SMALL_DOCUMENT: usize = 64 * 1024;

/// Follows the stream for ever.
pub(super) async fn follow(listener: Arc<Listener>, source: Arc<dyn FeedSource>) {
    let (mut failures, mut short_lives, mut patience) = (0, 0, PATIENCE.0);
    loop {
        // Without keys no document can be read.
        if listener.cache.keys().await.is_err() {
            return;
        }
        let started_at = Instant::now();
        let mut connection = Connection { listener: &listener, patience, said: None, has_moved: false };
        let error = connection.listen(&*source).await;
        patience = match error {
            _ if connection.has_moved => PATIENCE.0,
            FeedError::StandsStill => (patience * 2).min(PATIENCE.1),
            _ => patience,
        };
        // An issuer that has been heard has a feed: a 404 comes from a replica of an older version, or from a balancer
        // that has none behind it right now.
        let error = match error {
            FeedError::NoFeed if listener.revoked.as_of().is_some() => FeedError::Status(404),
            other => other,
        };
        let is_old = started_at.elapsed() >= GOOD_LIFE;
        let was_cut = connection.has_moved && matches!(error, FeedError::Ended | FeedError::Transport(_));
        short_lives = if is_old { 0 } else { short_lives + u32::from(was_cut) };
        failures = if is_old || was_cut && short_lives <= SHORT_LIVES { 1 } else { failures + 1 };
        let pause = match error {
            FeedError::NoFeed => OFF_INTERVAL.mul_f64(1.0 + 0.1 * spread()),
            _ => backoff(failures, spread().abs()),
        };
        listener.is_lost(error);
        listener.forget();
        sleep(pause).await;
    }
}

/// Full jitter: anything up to a bound that doubles. A replica that goes away must not send all its verifiers to
/// the next one at the same moment.
fn backoff(failures: u32, random: f64) -> Duration {
    let most = BACKOFF.0.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(BACKOFF.1);
    most.mul_f64(random)
}

struct Connection<'l> {
    listener: &'l Arc<Listener>,
    patience: Duration,
    /// As of when the last document of this connection was. Deltas must continue that, and not what another replica
    /// has said, whose clock may be another.
    said: Option<i64>,
    /// Whether a document brought us up to a later instant.
    has_moved: bool,
}

impl Connection<'_> {
    /// Follows one stream to its end, and tells what that was.
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
        let (mut heard_at, mut moved_at) = (Instant::now(), Instant::now());
        loop {
            let transfer = Duration::from_millis((reader.pending() / SLOWEST) as u64);
            let silent_at = heard_at + SILENCE + transfer;
            let tired_at = moved_at + self.patience + transfer;
            let (until, reason) = if silent_at <= tired_at {
                (silent_at, FeedError::Silent)
            } else {
                (tired_at, FeedError::StandsStill)
            };
            // A stream that always has bytes at hand would never let the timeout look at the clock.
            tokio::task::consume_budget().await;
            if Instant::now() >= until {
                return Err(reason);
            }
            let chunk = timeout_at(until, body.next_chunk()).await.map_err(|_| reason)??;
            let Some(chunk) = chunk else { return Ok(()) };
            let fault = reader.push(&chunk, &mut events);
            for event in events.drain(..) {
                let Some(moved) = self.take(event).await? else { continue };
                heard_at = Instant::now();
                if moved {
                    (self.has_moved, moved_at) = (true, heard_at);
                }
            }
            fault.map_err(|fault| match fault {
                Fault::TooLong => FeedError::TooLarge,
                Fault::NotText => FeedError::BadEvent,
            })?;
        }
    }

    /// `Some`: a verified document, and whether it brought us up to a later instant.
    async fn take(&mut self, event: Event) -> Result<Option<bool>, FeedError> {
        match event.name.as_str() {
            // Which of the two it is, the document says itself.
            "snapshot" | "delta" => self.hear(event.data).await,
            "jwks" => {
                let keys_version: u64 = event.data.parse().map_err(|_| FeedError::BadEvent)?;
                if self.listener.cache.keys_version().is_none_or(|held| held < keys_version) {
                    self.listener.cache.nudge();
                }
                Ok(None)
            }
            // There may be others one day.
            _ => Ok(None),
        }
    }

    async fn hear(&mut self, document: String) -> Result<Option<bool>, FeedError> {
        let cache = &self.listener.cache;
        let (mut outcome, mut document) = self.hear_once(document).await;
        if outcome == UNKNOWN_KEY
            && let Some(nudge) = cache.open_nudge()
        {
            // The key is probably why the stream nudged us.
            cache.answer_to(nudge).await;
            (outcome, document) = self.hear_once(document).await;
        }
        if outcome == UNKNOWN_KEY {
            cache.answer_to(cache.nudge()).await;
            (outcome, _) = self.hear_once(document).await;
        }
        match outcome {
            Ok(heard) => {
                self.said = self.said.max(Some(heard.as_of));
                self.listener.is_live();
                self.listener.forget();
                Ok(Some(heard.has_moved))
            }
            // Its replica has not heard of it yet, or its thief writes to us.
            Err(FeedError::Document(Reason::RevokedKey)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Hands the document back, for another attempt.
    async fn hear_once(&self, document: String) -> (Result<Heard, FeedError>, String) {
        let said = self.said;
        if document.len() <= SMALL_DOCUMENT {
            return (self.listener.hear(&document, said), document);
        }
        let listener = Arc::clone(self.listener);
        let reading = tokio::task::spawn_blocking(move || (listener.hear(&document, said), document));
        // It is cut off only by a runtime that shuts down.
        reading.await.unwrap_or_else(|_| (Err(FeedError::Ended), String::new()))
    }
}

const UNKNOWN_KEY: Result<Heard, FeedError> = Err(FeedError::Document(Reason::UnknownKey));

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
