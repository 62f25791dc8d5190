//! What the issuer tells about revocations: signed documents, and the stream that brings them.
//!
//! ```text
//!  connecting ──first document──▶ live ──ends, falls silent, makes no sense──▶ disconnected ──document──▶ live
//!      │ 404, and nothing was ever heard, not even by another process
//!      └──────────────▶ off: looked at again after 5 min
//! ```
//!
//! Whatever the stream does, the set of revocations only gains what a signed document says, and what it has
//! gained does not depend on the order of documents.

mod document;
mod follow;
#[cfg(feature = "http")]
mod http;
mod source;
mod sse;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use document::Rules;
#[cfg(feature = "http")]
pub use http::HttpFeed;
pub use source::{ChunkFuture, ConnectFuture, FeedBody, FeedSource};

use crate::background::Background;
use crate::cache::JwksCache;
use crate::error::{FeedError, Reason};
use crate::revocation::Revoked;
use crate::status::{FeedState, FeedStatus};
use crate::time::{Clock, Seconds};

/// How often sessions whose time is over are dropped.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// The feed of one issuer, followed in the background until this is dropped.
#[derive(Debug)]
pub(crate) struct Feed {
    listener: Arc<Listener>,
    source: Option<Arc<dyn FeedSource>>,
    follower: Background,
}

/// Hears documents, wherever they come from.
#[derive(Debug)]
pub(crate) struct Listener {
    rules: Rules,
    cache: Arc<JwksCache>,
    revoked: Arc<Revoked>,
    clock: Arc<dyn Clock>,
    stream: Mutex<Stream>,
}

/// What is known about the stream. Times are those of `Clock::monotonic`.
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
    /// Nothing has been heard yet.
    #[default]
    Connecting,
    Live,
    Lost {
        at: Duration,
    },
}

impl Feed {
    /// The feed from `source`. Does not connect yet.
    pub(crate) fn new(
        rules: Rules,
        source: Option<Arc<dyn FeedSource>>,
        cache: Arc<JwksCache>,
        revoked: Arc<Revoked>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let phase = if source.is_some() { Phase::Connecting } else { Phase::Off };
        let stream = Mutex::new(Stream { phase, ..Stream::default() });
        let listener = Arc::new(Listener { rules, cache, revoked, clock, stream });
        Self { listener, source, follower: Background::default() }
    }

    /// Follows the stream in the background from now on, if called inside a runtime.
    pub(crate) fn tend(&self) {
        if let Some(source) = &self.source {
            self.follower.start(|| follow::follow(Arc::clone(&self.listener), Arc::clone(source)));
        }
    }

    /// Takes in a document that came some other way. Which replica a delta is of cannot be told, and the times of
    /// two of them cannot be compared: it continues nothing.
    pub(crate) fn hear(&self, document: &str) -> Result<(), FeedError> {
        self.listener.hear(document, None).map(drop)
    }

    /// How the feed is doing.
    pub(crate) fn status(&self) -> FeedStatus {
        let Listener { revoked, clock, .. } = &*self.listener;
        let stream = self.listener.stream();
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
}

/// What a document that was merged said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    as_of: i64,
    /// Whether everything is known up to a later instant now.
    has_moved: bool,
}

impl Listener {
    /// Merges a document if it passes every check. A delta must continue what its replica has `said`.
    fn hear(&self, document: &str, said: Option<i64>) -> Result<Heard, FeedError> {
        if document.len() > document::MAX_DOCUMENT {
            return Err(FeedError::TooLarge);
        }
        let now = self.clock.monotonic();
        let held = self.cache.held();
        // Without keys no key is known.
        let keys = held.usable(now).map_err(|_| Reason::UnknownKey)?;
        let read = self.rules.read(document, keys, &self.revoked.load(), self.clock.unix_millis())?;
        let is_continued = read.since.is_none_or(|since| said.is_some_and(|said| since <= said));
        self.revoked.merge(read.sessions, &read.keys, now, forget_at(now, read.keep_for));
        if !is_continued {
            return Err(FeedError::Gap);
        }
        Ok(Heard { as_of: read.as_of, has_moved: self.revoked.known_as_of(read.as_of) })
    }

    /// A verified document came.
    fn is_live(&self) {
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

    /// The stream was lost, or could not be opened. Told once for each change, not for each attempt.
    fn is_lost(&self, error: FeedError) {
        let mut stream = self.stream();
        let was = stream.phase;
        stream.phase = match was {
            _ if error == FeedError::NoFeed => Phase::Off,
            Phase::Live => Phase::Lost { at: self.clock.monotonic() },
            Phase::Off => Phase::Connecting,
            other => other,
        };
        if was == stream.phase && stream.last_error.is_some() {
            tracing::debug!(%error, "revocation feed is still away");
        } else if stream.phase == Phase::Off {
            tracing::info!("the issuer has no revocation feed");
        } else {
            tracing::warn!(%error, "revocation feed is away; what has been heard stays known");
        }
        stream.losses += 1;
        stream.last_error = Some(error);
    }

    /// Drops what may be forgotten, now and then.
    fn forget(&self) {
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

/// In whole minutes, rounded up: the same snapshot heard again a second later is no news then.
fn forget_at(now: Duration, keep_for: Seconds) -> Duration {
    let at = now.saturating_add(Duration::from(keep_for));
    let seconds = at.as_secs().saturating_add(u64::from(at.subsec_nanos() > 0));
    Duration::from_secs(seconds.div_ceil(60).saturating_mul(60))
}
