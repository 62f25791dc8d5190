//! One run of a scenario: what it draws from, writes to, and is measured by.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::report::{Figure, Report};
use super::{Scenario, Size};
use crate::arrivals::{Counts, Tally};
use crate::checkers::{self, Bounds};
use crate::clock;
use crate::cluster::Cluster;
use crate::keys;
use crate::ledger::{Call, Ledger, Outcome};
use crate::random::Random;

/// Given to a scenario, which fills it.
#[derive(Debug)]
pub struct Run {
    /// Short or full.
    pub size: Size,
    /// Decides everything that is left to chance.
    pub random: Random,
    /// What the checkers will read.
    pub ledger: Arc<Ledger>,
    /// What the checkers will allow.
    pub bounds: Bounds,
    seed: u64,
    started: Instant,
    started_at: Duration,
    tallies: Vec<Arc<Tally>>,
    figures: Vec<Figure>,
}

impl Run {
    /// A run whose chances `seed` decides, and whose ledger is kept in `folder` if there is one.
    pub fn new(size: Size, seed: u64, folder: Option<&Path>) -> Self {
        let ledger = folder.map_or_else(Ledger::default, |folder| Ledger::at(&folder.join("ledger.jsonl")));
        Self {
            size,
            random: Random::from_seed(seed),
            ledger: Arc::new(ledger),
            bounds: Bounds::default(),
            seed,
            started: clock::instant(),
            started_at: clock::since_epoch(),
            tallies: Vec::new(),
            figures: Vec::new(),
        }
    }

    /// Counts calls of one kind for the report.
    pub fn tally(&mut self, name: &str) -> Arc<Tally> {
        let tally = Tally::new(name);
        self.tallies.push(Arc::clone(&tally));
        tally
    }

    /// What the newest tally of this name has counted.
    pub fn counts(&self, name: &str) -> Counts {
        let counts = self.tallies.iter().rev().map(|tally| tally.counts());
        counts.into_iter().find(|counts| counts.name == name).unwrap_or_default()
    }

    /// A figure that must not be above `limit`.
    pub fn at_most(&mut self, name: &str, value: f64, limit: f64, unit: &'static str) {
        self.figures.push(Figure::new(name, value, "≤", limit, unit));
    }

    /// A figure that must not be below `limit`.
    pub fn at_least(&mut self, name: &str, value: f64, limit: f64, unit: &'static str) {
        self.figures.push(Figure::new(name, value, "≥", limit, unit));
    }

    /// A time that must not be longer than `limit`.
    pub fn within(&mut self, name: &str, took: Duration, limit: Duration) {
        self.at_most(name, took.as_secs_f64(), limit.as_secs_f64(), "s");
    }

    /// Of all calls over HTTP counted so far, at most this share may fail, and only in ways that a client tries again after.
    pub fn few_failures(&mut self, most_percent: f64) {
        const HARMLESS: [&str; 5] = ["502", "503", "503 of the proxy", "504", "reset"];
        let counts: Vec<Counts> = self.tallies.iter().map(|tally| tally.counts()).collect();
        let over_http = || counts.iter().filter(|counts| counts.name != "verify");
        let failed: u64 = over_http().map(|counts| counts.failed.count() + counts.shed).sum();
        let due: u64 = over_http().map(Counts::due).sum();
        let kinds = over_http().flat_map(|counts| counts.failures.keys());
        for kind in kinds.filter(|kind| !HARMLESS.contains(&kind.as_str())) {
            self.ledger.failed(format!("calls failed with {kind}"));
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let percent = 100.0 * failed as f64 / due.max(1) as f64;
        self.at_most("calls that failed", percent, most_percent, "%");
    }

    /// Writes down what the service says in the end: its keys, and whether a replica died or panicked.
    pub async fn close(&self, cluster: &Cluster) {
        for key in keys::all(&cluster.admin_at(0).await).await {
            self.ledger.note(Outcome::Ok, Call::Key(key));
        }
        note_deaths(cluster, &self.ledger);
        for line in cluster.logs().lines().filter(|line| line.contains("panicked")) {
            self.ledger.note(Outcome::Ok, Call::Died(line.to_owned()));
        }
    }

    pub(super) fn judge(self, scenario: Scenario) -> Report {
        let entries = self.ledger.entries();
        Report {
            scenario,
            size: self.size,
            seed: self.seed,
            started_at: self.started_at,
            took: self.started.elapsed(),
            lines: entries.len(),
            calls: self.tallies.iter().map(|tally| tally.counts()).collect(),
            figures: self.figures,
            violations: checkers::check(&entries, &self.bounds),
        }
    }
}

/// Writes down each replica that has ended although nobody had asked it to.
pub(super) fn note_deaths(cluster: &Cluster, ledger: &Ledger) {
    for replica in cluster.replicas().iter().filter(|replica| !replica.is_running()) {
        ledger.note(Outcome::Ok, Call::Died(format!("replica {} ended", replica.number())));
    }
}
