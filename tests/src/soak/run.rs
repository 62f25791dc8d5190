//! One run of a scenario: its random choices, ledger and measurements.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::report::{Figure, Report};
use super::{Scenario, Size};
use crate::arrivals::{Counts, Tally};
use crate::checkers::{self, Bounds, Volume};
use crate::clock;
use crate::cluster::Cluster;
use crate::keys;
use crate::ledger::{Call, Ledger, Outcome};
use crate::load::Load;
use crate::process;
use crate::random::Random;

const SAMPLE_PERIOD: Duration = Duration::from_millis(500);
/// The maximum share of calls that the driver may skip for lack of sessions; with more, the load is not that
/// of the scenario.
const MOST_SHORT_PERCENT: f64 = 2.0;

/// The state of a run, which the scenario fills.
#[derive(Debug)]
pub struct Run {
    /// Short or full.
    pub size: Size,
    /// The source of all random choices.
    pub random: Random,
    /// The input of the checkers.
    pub ledger: Arc<Ledger>,
    /// The tolerances of the checkers.
    pub bounds: Bounds,
    /// The minimum share of successful calls of each kind: a run without events proves nothing.
    pub least_ok_percent: f64,
    /// The minimum share of accepted tokens; some are checked after their expiry on purpose.
    pub least_accepted_percent: f64,
    watch: Load,
    seed: u64,
    started: Instant,
    started_at: Duration,
    tallies: Vec<Arc<Tally>>,
    figures: Vec<Figure>,
}

impl Run {
    /// A run with this seed, whose ledger is kept in `folder` if there is one.
    pub fn new(size: Size, seed: u64, folder: Option<&Path>) -> Self {
        let ledger = folder.map_or_else(Ledger::default, |folder| Ledger::at(&folder.join("ledger.jsonl")));
        Self {
            size,
            random: Random::from_seed(seed),
            ledger: Arc::new(ledger),
            bounds: Bounds::default(),
            least_ok_percent: 90.0,
            least_accepted_percent: 50.0,
            watch: Load::default(),
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

    /// The counts of the newest tally of this name.
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

    /// Checks that at most this share of all HTTP calls so far failed, and only in ways that clients retry.
    pub fn few_failures(&mut self, most_percent: f64) {
        self.only_harmless_failures(&[]);
        let counts = self.counts_over_http();
        let failed: u64 = counts.iter().map(|counts| counts.failed.count() + counts.shed).sum();
        let due: u64 = counts.iter().map(Counts::due).sum();
        self.at_most("calls that failed", percent(failed, due), most_percent, "%");
    }

    /// Checks that calls failed only because no replica was available, or in one of the ways in `besides`.
    pub fn only_harmless_failures(&mut self, besides: &[&str]) {
        const HARMLESS: [&str; 6] = ["overloaded", "502", "503", "503 of the proxy", "504", "reset"];
        let counts = self.counts_over_http();
        let kinds = counts.iter().flat_map(|counts| counts.failures.keys()).map(String::as_str);
        for kind in kinds.filter(|kind| !HARMLESS.contains(kind) && !besides.contains(kind)) {
            self.ledger.failed(format!("calls failed with {kind}"));
        }
    }

    fn counts_over_http(&self) -> Vec<Counts> {
        let counts = self.tallies.iter().map(|tally| tally.counts());
        counts.filter(|counts| counts.name != "verify").collect()
    }

    /// Checks that keys changed every `period` during the elapsed time. One rotation in five may be missing.
    pub fn rotations(&mut self, passed: Duration, period: Duration) {
        let kids = number(Volume::of(&self.ledger.entries()).kids.len());
        let least = (0.8 * passed.as_secs_f64() / period.as_secs_f64()).ceil().max(2.0);
        self.at_least("keys that signed", kids, least, "");
    }

    /// Samples the memory and the open files of the replicas until the run is closed.
    pub fn watch(&mut self, cluster: &Arc<Cluster>) {
        let (cluster, ledger) = (Arc::clone(cluster), Arc::clone(&self.ledger));
        self.watch.repeat(SAMPLE_PERIOD, move || {
            let (cluster, ledger) = (Arc::clone(&cluster), Arc::clone(&ledger));
            async move { sample(&cluster, &ledger) }
        });
    }

    /// Records the service's final state, its keys, and crashes and panics of replicas; and checks that the
    /// run was not trivial.
    pub async fn close(&mut self, cluster: &Cluster) {
        std::mem::take(&mut self.watch).stop().await;
        self.enough_happened();
        for key in keys::all(&cluster.admin_at(0).await).await {
            self.ledger.note(Outcome::Ok, Call::Key(key));
        }
        note_deaths(cluster, &self.ledger);
        for line in cluster.logs().lines().filter(|line| line.contains("panicked")) {
            self.ledger.note(Outcome::Ok, Call::Died(line.to_owned()));
        }
    }

    fn enough_happened(&mut self) {
        let entries = self.ledger.entries();
        let volume = Volume::of(&entries);
        self.at_least("times that tokens were given out", number(volume.grants), 1.0, "");
        self.at_least("lives of a process judged for growth", number(volume.judged), 1.0, "");
        let mut done: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
        for counts in self.tallies.iter().map(|tally| tally.counts()) {
            let of_kind = done.entry(counts.name.clone()).or_default();
            *of_kind = (of_kind.0 + counts.ok.count(), of_kind.1 + counts.short, of_kind.2 + counts.due());
        }
        for (name, (ok, _, due)) in &done {
            // Every completed check counts as a success; its result is in the ledger.
            let least = if name == "verify" { 90.0 } else { self.least_ok_percent };
            self.at_least(&format!("{name}: succeeded, of those due"), percent(*ok, *due), least, "%");
        }
        let all = done.values().fold((0, 0), |all, kind| (all.0 + kind.1, all.1 + kind.2));
        self.at_most(
            "calls for which the driver was short of sessions",
            percent(all.0, all.1),
            MOST_SHORT_PERCENT,
            "%",
        );
        if done.contains_key("verify") {
            let accepted = 100.0 * number(volume.accepted) / number(volume.checked.max(1));
            self.at_least("tokens accepted, of those checked", accepted, self.least_accepted_percent, "%");
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

/// Records the resources of each process.
pub(super) fn sample(cluster: &Cluster, ledger: &Ledger) {
    for replica in cluster.replicas() {
        let process = replica.id();
        if let Some((rss_kib, files)) = process::usage(process) {
            let call = Call::Process { replica: replica.number(), process, rss_kib, files };
            ledger.note(Outcome::Ok, call);
        }
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    percent
}

/// A small count as a figure.
pub(super) fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Records each replica that has ended unexpectedly.
pub(super) fn note_deaths(cluster: &Cluster, ledger: &Ledger) {
    for replica in cluster.replicas().iter().filter(|replica| !replica.is_running()) {
        ledger.note(Outcome::Ok, Call::Died(format!("replica {} ended", replica.number())));
    }
}
