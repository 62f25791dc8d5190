//! Whether this replica leaves the rotation: for good, because it was told to end, or while an operator wants it.
//!
//! While it does, readiness says no and streams of the feed are told to go elsewhere; whatever else comes is served.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tracing::info;

use crate::runtime::feed::Feed;

/// The two reasons to leave, and the feed that follows them.
#[derive(Debug)]
pub struct Drain {
    feed: Arc<Feed>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    stops: bool,
    maintenance: bool,
    /// How often an operator decided here.
    decisions: u64,
}

/// What was decided here before the database was asked; see [`Drain::follow`].
#[derive(Clone, Copy, Debug)]
pub struct Decisions(u64);

impl Drain {
    /// Takes part.
    pub fn new(feed: Arc<Feed>) -> Self {
        Self { feed, state: Mutex::default(), changed: Notify::new() }
    }

    /// Whether readiness must say no.
    pub fn is_on(&self) -> bool {
        let state = self.lock();
        state.stops || state.maintenance
    }

    /// Whether the process was told to end.
    pub fn stops(&self) -> bool {
        self.lock().stops
    }

    /// Whether an operator wants the replica out of the rotation.
    pub fn is_maintenance(&self) -> bool {
        self.lock().maintenance
    }

    /// The process is about to end; there is no way back.
    pub fn stop(&self) {
        self.change(|state| state.stops = true);
    }

    /// An operator has decided, and the database has it.
    pub fn decide(&self, maintenance: bool) {
        self.change(|state| {
            state.maintenance = maintenance;
            state.decisions += 1;
        });
    }

    /// To be asked before the database is.
    pub fn decisions(&self) -> Decisions {
        Decisions(self.lock().decisions)
    }

    /// Does what the database says, unless something was decided here since it was asked: then the answer may be older.
    pub fn follow(&self, maintenance: bool, before: Decisions) {
        self.change(|state| {
            if state.decisions == before.0 {
                state.maintenance = maintenance;
            }
        });
    }

    /// Waits for a change.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The feed follows under the lock, so that it ends as the last change says.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        let was_on = state.stops || state.maintenance;
        change(&mut state);
        let is_on = state.stops || state.maintenance;
        if is_on == was_on {
            return;
        }
        if is_on {
            info!("draining: readiness says no, requests are still served");
            self.feed.close();
        } else {
            info!("back in the rotation");
            self.feed.open();
        }
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain() -> Drain {
        Drain::new(Arc::new(Feed::new(0)))
    }

    #[test]
    fn an_answer_that_is_older_than_a_decision_changes_nothing() {
        let drain = drain();
        let before = drain.decisions();
        drain.decide(true);
        drain.follow(false, before);
        assert!(drain.is_on());
        drain.follow(false, drain.decisions());
        assert!(!drain.is_on());
    }

    #[test]
    fn who_is_told_to_end_does_not_come_back() {
        let drain = drain();
        drain.decide(true);
        drain.stop();
        drain.decide(false);
        assert!(drain.is_on() && drain.stops() && !drain.is_maintenance());
    }
}
