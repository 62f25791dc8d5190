//! Whether this replica is out of rotation: because the process stops, or because an operator requested
//! maintenance.
//!
//! While it drains, readiness fails and streams of the revocation feed end; all other requests are still
//! served.

use tokio::sync::watch;
use tracing::info;

/// The two reasons to drain.
#[derive(Debug, Default)]
pub struct Drain {
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    is_stopping: bool,
    is_maintenance: bool,
    /// How many decisions of operators this replica has applied.
    decisions: u64,
}

impl State {
    fn is_on(&self) -> bool {
        self.is_stopping || self.is_maintenance
    }
}

/// The decisions applied before the database was read; see [`Drain::follow`].
#[derive(Clone, Copy, Debug)]
pub struct Decisions(u64);

/// Lets another part follow a [`Drain`] without owning it.
#[derive(Clone, Debug)]
pub struct DrainWatch(watch::Receiver<State>);

impl Drain {
    /// Whether the replica drains, for either reason. Readiness must fail while it does.
    pub fn is_on(&self) -> bool {
        self.state.borrow().is_on()
    }

    /// Whether the process is about to stop.
    pub fn is_stopping(&self) -> bool {
        self.state.borrow().is_stopping
    }

    /// Whether an operator requested maintenance.
    pub fn is_maintenance(&self) -> bool {
        self.state.borrow().is_maintenance
    }

    /// Starts the final drain, before the process stops. It cannot be undone.
    pub fn stop(&self) {
        self.change(|state| state.is_stopping = true);
    }

    /// Applies an operator's decision that is already in the database.
    pub fn decide(&self, maintenance: bool) {
        self.change(|state| {
            state.is_maintenance = maintenance;
            state.decisions += 1;
        });
    }

    /// The decisions so far. Take them before the database is read.
    pub fn decisions(&self) -> Decisions {
        Decisions(self.state.borrow().decisions)
    }

    /// Applies the state that was read from the database, unless a decision has been applied here since
    /// `before`: the read may be older.
    pub fn follow(&self, maintenance: bool, before: Decisions) {
        self.change(|state| {
            if state.decisions == before.0 {
                state.is_maintenance = maintenance;
            }
        });
    }

    /// A watch that sees every later change.
    pub fn watch(&self) -> DrainWatch {
        DrainWatch(self.state.subscribe())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_if_modified(|state| {
            let before = *state;
            change(state);
            match (before.is_on(), state.is_on()) {
                (false, true) => info!("draining: readiness fails, requests are still served"),
                (true, false) => info!("back in the rotation"),
                _ => {}
            }
            *state != before
        });
    }
}

impl DrainWatch {
    /// Whether the replica drains.
    pub fn is_on(&self) -> bool {
        self.0.borrow().is_on()
    }

    /// Waits until the replica drains. Returns immediately if it does, or if it no longer exists.
    pub async fn until_on(&mut self) {
        let _ = self.0.wait_for(State::is_on).await;
    }

    /// Waits for a change that this watch has not seen. Returns immediately if the replica no longer exists.
    pub async fn changed(&mut self) {
        let _ = self.0.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_older_than_a_decision_changes_nothing() {
        let drain = Drain::default();
        let before = drain.decisions();
        drain.decide(true);
        drain.follow(false, before);
        assert!(drain.is_on());
        drain.follow(false, drain.decisions());
        assert!(!drain.is_on());
    }

    #[test]
    fn stopping_replica_does_not_return_to_the_rotation() {
        let drain = Drain::default();
        drain.decide(true);
        drain.stop();
        drain.decide(false);
        assert!(drain.is_on() && drain.is_stopping() && !drain.is_maintenance());
    }

    #[tokio::test]
    async fn watch_sees_a_drain_that_started_before_it_waits() {
        let drain = Drain::default();
        let mut watch = drain.watch();
        assert!(!watch.is_on());
        drain.decide(true);
        watch.until_on().await;
        assert!(watch.is_on());
    }
}
