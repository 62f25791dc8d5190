//! Merges documents, and keeps the state of the stream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::revoked::Revoked;
use crate::core::error::{FeedError, Reason};
use crate::core::feed::document::{MAX_DOCUMENT, Rules};
use crate::core::time::{Clock, Seconds};
use crate::keys::cache::JwksCache;
use crate::status::{FeedState, FeedStatus};

/// How often expired sessions are dropped.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// Receives documents from any source.
#[derive(Debug)]
pub(super) struct Listener {
    rules: Rules,
    pub(super) cache: Arc<JwksCache>,
    pub(super) revoked: Arc<Revoked>,
    clock: Arc<dyn Clock>,
    stream: Mutex<Stream>,
}

/// The state of the stream. Times are those of `Clock::monotonic`.
#[derive(Debug, Default)]
struct Stream {
    phase: Phase,
    losses: u64,
    last_error: Option<FeedError>,
    forgotten_at: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// There is no feed.
    Off,
    /// No document has arrived yet.
    #[default]
    Connecting,
    Live,
    Lost {
        at: Duration,
    },
}

/// The result of merging a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Merged {
    pub(super) as_of: i64,
    /// Whether all revocations are now known up to a later instant.
    pub(super) has_advanced: bool,
}

impl Listener {
    /// A listener before the first document. `has_source`: whether there is a stream to wait for.
    pub(super) fn new(
        rules: Rules,
        has_source: bool,
        cache: Arc<JwksCache>,
        revoked: Arc<Revoked>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let phase = if has_source { Phase::Connecting } else { Phase::Off };
        let stream = Mutex::new(Stream { phase, ..Stream::default() });
        Self { rules, cache, revoked, clock, stream }
    }

    /// The state of the feed.
    pub(crate) fn status(&self) -> FeedStatus {
        let Self { revoked, clock, .. } = self;
        let stream = self.stream();
        let known = revoked.load();
        let since = |at| clock.monotonic().saturating_sub(at);
        FeedStatus {
            state: match stream.phase {
                Phase::Off => FeedState::Off,
                Phase::Connecting => FeedState::Connecting,
                Phase::Live => FeedState::Live,
                Phase::Lost { at } => FeedState::Disconnected { lasting: since(at) },
            },
            staleness: revoked
                .staleness(clock.unix_millis())
                .map(|millis| Duration::from_millis(millis.unsigned_abs())),
            sessions: known.len(),
            keys: known.keys().len(),
            losses: stream.losses,
            last_error: stream.last_error.clone(),
        }
    }

    /// Merges a document if it passes every check. `last_as_of` is the `as_of` of the last document of its
    /// stream, which a delta must continue.
    pub(super) fn merge(&self, document: &str, last_as_of: Option<i64>) -> Result<Merged, FeedError> {
        if document.len() > MAX_DOCUMENT {
            return Err(FeedError::TooLarge);
        }
        let now = self.clock.monotonic();
        let held = self.cache.held();
        // Without keys, every key is unknown.
        let keys = held.usable(now).map_err(|_| Reason::UnknownKey)?;
        let read = self.rules.read(document, keys, &self.revoked.load(), self.clock.unix_millis())?;
        let is_continued =
            read.since.is_none_or(|since| last_as_of.is_some_and(|last_as_of| since <= last_as_of));
        self.revoked.merge(read.sessions, &read.keys, now, forget_at(now, read.keep_for));
        if !is_continued {
            return Err(FeedError::Gap);
        }
        Ok(Merged { as_of: read.as_of, has_advanced: self.revoked.advance_as_of(read.as_of) })
    }

    /// Records that a verified document arrived.
    pub(super) fn set_live(&self) {
        let mut stream = self.stream();
        match std::mem::replace(&mut stream.phase, Phase::Live) {
            Phase::Live => {}
            Phase::Connecting | Phase::Off => tracing::info!("revocation feed is connected"),
            Phase::Lost { at } => {
                let lasted = self.clock.monotonic().saturating_sub(at).as_secs();
                tracing::info!(lasted, "revocation feed is back");
            }
        }
        stream.last_error = None;
    }

    /// Records that the stream was lost or could not be opened. Logs each change once, not each attempt.
    pub(super) fn set_lost(&self, error: FeedError) {
        let mut stream = self.stream();
        let was = stream.phase;
        stream.phase = match was {
            _ if error == FeedError::NoFeed => Phase::Off,
            Phase::Live => Phase::Lost { at: self.clock.monotonic() },
            Phase::Off => Phase::Connecting,
            other => other,
        };
        if was == stream.phase && stream.last_error.is_some() {
            tracing::debug!(%error, "revocation feed is still unavailable");
        } else if stream.phase == Phase::Off {
            tracing::info!("the issuer has no revocation feed");
        } else {
            tracing::warn!(%error, "revocation feed is unavailable; revocations received before stay in effect");
        }
        stream.losses += 1;
        stream.last_error = Some(error);
    }

    /// Drops expired sessions if the last time was long enough ago.
    pub(super) fn forget(&self) {
        let now = self.clock.monotonic();
        let is_time = {
            let mut stream = self.stream();
            let is_time = now >= stream.forgotten_at + FORGET_INTERVAL;
            if is_time {
                stream.forgotten_at = now;
            }
            is_time
        };
        if is_time {
            self.revoked.forget(now);
        }
    }

    fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rounded up to whole minutes, so that the same snapshot a second later changes nothing.
fn forget_at(now: Duration, keep_for: Seconds) -> Duration {
    let at = now.saturating_add(Duration::from(keep_for));
    let seconds = at.as_secs().saturating_add(u64::from(at.subsec_nanos() > 0));
    Duration::from_secs(seconds.div_ceil(60).saturating_mul(60))
}
