//! The parts of a running replica, built once.

use std::sync::Arc;

use verifier::{Clock, Expected};

use crate::config::{ADMIN_AUDIENCE, Config, Settings};
use crate::domain::breached::BreachedPasswords;
use crate::domain::listener::Listener;
use crate::entropy::Entropy;
use crate::keys::keyring::KeyRing;
use crate::runtime::clock_guard::ClockGuard;
use crate::runtime::drain::Drain;
use crate::runtime::feed::Feed;
use crate::runtime::hashing::HashPool;
use crate::runtime::settings::LiveSettings;
use crate::runtime::waiting_room::WaitingRoom;
use crate::store::{Deadline, SqlStore};

/// The parts of a running replica.
#[derive(Clone, Debug)]
pub struct App {
    /// Checked at the start; it does not change.
    pub config: Arc<Config>,
    /// The values that operators can change; see [`settings`](Self::settings).
    pub settings: Arc<LiveSettings>,
    /// The shared database.
    pub store: SqlStore,
    /// The keys.
    pub keyring: Arc<KeyRing>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The threads that hash passwords.
    pub hashing: Arc<HashPool>,
    /// Where strangers wait to guess a password.
    pub waiting_room: Arc<WaitingRoom>,
    /// Passwords that nobody may choose.
    pub breached_passwords: Arc<BreachedPasswords>,
    /// The difference between the local clock and the database's.
    pub clock_guard: Arc<ClockGuard>,
    /// The revocation feed for resource servers.
    pub feed: Arc<Feed>,
    /// Whether this replica drains.
    pub drain: Arc<Drain>,
}

impl App {
    /// The same parts, with `deadline` for work in the database. Cheap: it clones only reference counts.
    #[must_use]
    pub fn within(&self, deadline: Deadline) -> Self {
        Self { store: self.store.within(deadline), ..self.clone() }
    }

    /// The settings that apply now. A flow takes them once and uses them to its end.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.now()
    }

    /// The claims that a listener expects of a token.
    pub fn expected(&self, listener: Listener) -> Expected {
        let admin = [ADMIN_AUDIENCE.to_owned()];
        match listener {
            Listener::Admin => self.expected_for(&admin),
            Listener::Public => self.expected_for(&[&self.settings().audiences[..], &admin].concat()),
        }
    }

    /// The claims that are expected of a token for these audiences.
    pub fn expected_for(&self, audiences: &[String]) -> Expected {
        Expected::new(self.config.issuer.as_str(), audiences).with_leeway(self.config.leeway)
    }

    /// The reasons why this replica must not get requests that issue tokens; empty when it is ready.
    pub fn reasons_not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.drain.is_on() {
            reasons.push("draining".to_owned());
        }
        if let Some(problem) = self.keyring.problem() {
            reasons.push(problem.to_string());
        }
        if !self.keyring.is_fresh() {
            reasons.push("the key table was not read recently".to_owned());
        }
        if !self.feed.is_read() {
            reasons.push("revocations have not been read yet".to_owned());
        }
        if let Some(off_by) = self.clock_guard.off_by(self.config.clock_bound) {
            reasons.push(format!("this replica's clock is {} s away from the database's", off_by.0));
        }
        if !self.keyring.snapshot().has_signer(self.clock.now()) {
            reasons.push("no signing key is active".to_owned());
        }
        reasons
    }
}
