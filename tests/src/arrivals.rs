//! Calls that arrive by a schedule, whether or not earlier ones have finished.
//!
//! A driver that waits for a response before it sends the next call does not detect a stall: it sends less.
//! Here each call has a due time, and its latency counts from that time, even if the driver itself was late.
//! If too many calls are in flight, further ones are not delayed, but dropped and reported as shed.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::histogram::Histogram;

const MOST_IN_FLIGHT: usize = 1000;
/// The failure of a call that could not be sent because the driver had no free resource for it. It is not a
/// failure of the service, and is counted separately.
pub const SHORTAGE: &str = "the driver was short of sessions";

/// When calls are due.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    per_second: u32,
    most_in_flight: usize,
}

impl Schedule {
    /// This many calls a second, evenly spread, with at most 1000 of them in flight.
    pub const fn per_second(per_second: u32) -> Self {
        Self { per_second, most_in_flight: MOST_IN_FLIGHT }
    }

    /// Sets the maximum number of calls in flight.
    #[must_use]
    pub const fn at_most_in_flight(self, most_in_flight: usize) -> Self {
        Self { most_in_flight, ..self }
    }

    /// The due time of call number `n` after the start.
    fn due(self, n: u64) -> Duration {
        Duration::from_nanos(n * 1_000_000_000 / u64::from(self.per_second.max(1)))
    }

    /// Starts `call` whenever one is due, as long as `is_wanted`, and waits for all of them.
    ///
    /// A call returns `Ok` or the kind of its failure in a word or two; failures are counted by kind. Panics
    /// if a call panics.
    pub async fn run<F>(
        self,
        tally: &Arc<Tally>,
        mut is_wanted: impl FnMut() -> bool,
        mut call: impl FnMut() -> F,
    ) where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let start = Instant::now();
        let mut in_flight = JoinSet::new();
        for n in 0.. {
            let due = start + self.due(n);
            tokio::time::sleep_until(due).await;
            if !is_wanted() {
                break;
            }
            while let Some(finished) = in_flight.try_join_next() {
                finished.expect("a call does not panic");
            }
            if in_flight.len() >= self.most_in_flight {
                tally.lock().shed += 1;
                continue;
            }
            let (call, tally) = (call(), Arc::clone(tally));
            in_flight.spawn(async move {
                let outcome = call.await;
                tally.count(due.elapsed(), outcome);
            });
        }
        in_flight.join_all().await;
    }
}

/// The outcomes of the calls of one kind. Shared by the tasks that make them.
#[derive(Debug)]
pub struct Tally {
    counts: Mutex<Counts>,
}

/// A copy of the counts of a [`Tally`].
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// The kind of call.
    pub name: String,
    /// Latencies of the calls that succeeded.
    pub ok: Histogram,
    /// Latencies of the calls that failed.
    pub failed: Histogram,
    /// The number of failures by kind.
    pub failures: BTreeMap<String, u64>,
    /// The number of calls that were not sent because too many were in flight.
    pub shed: u64,
    /// The number of calls that were not sent because of a [`SHORTAGE`].
    pub short: u64,
}

impl Tally {
    /// An empty tally.
    pub fn new(name: &str) -> Arc<Self> {
        let counts = Counts { name: name.to_owned(), ..Counts::default() };
        Arc::new(Self { counts: Mutex::new(counts) })
    }

    /// Counts one call.
    pub fn count(&self, took: Duration, outcome: Result<(), String>) {
        let mut counts = self.lock();
        match outcome {
            Ok(()) => counts.ok.record(took),
            Err(kind) if kind == SHORTAGE => counts.short += 1,
            Err(kind) => {
                counts.failed.record(took);
                *counts.failures.entry(kind).or_default() += 1;
            }
        }
    }

    /// The current counts.
    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("nobody panics with this lock")
    }
}

impl Counts {
    /// The number of due calls.
    pub const fn due(&self) -> u64 {
        self.ok.count() + self.failed.count() + self.shed + self.short
    }

    /// The share of the due calls that failed or were not sent, between 0 and 1.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn failed_share(&self) -> f64 {
        (self.failed.count() + self.shed) as f64 / (self.due().max(1)) as f64
    }

    /// The counts as JSON for a report.
    pub fn to_json(&self) -> Value {
        json!({
            "call": self.name,
            "latency_ms": self.ok.to_json(),
            "failed_latency_ms": self.failed.to_json(),
            "failures": self.failures,
            "shed": self.shed,
            "short": self.short,
        })
    }
}

impl fmt::Display for Counts {
    /// One line with the latencies, and another for failures.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:<10}{}", self.name, self.ok)?;
        if self.failed.count() + self.shed > 0 {
            write!(
                formatter,
                "\n{:<10}{}  {:?}  shed {}",
                "  failed", self.failed, self.failures, self.shed
            )?;
        }
        if self.short > 0 {
            write!(formatter, "\n{:<10}{:>8} ×  {SHORTAGE}", "  not made", self.short)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run_for(schedule: Schedule, span: Duration, answered_after: Duration) -> Counts {
        let (tally, start) = (Tally::new("call"), Instant::now());
        let call = || async move {
            tokio::time::sleep(answered_after).await;
            Ok(())
        };
        schedule.run(&tally, || start.elapsed() < span, call).await;
        tally.counts()
    }

    #[tokio::test(start_paused = true)]
    async fn slow_responses_do_not_slow_the_arrivals() {
        let counts =
            run_for(Schedule::per_second(100), Duration::from_secs(2), Duration::from_millis(700)).await;
        assert_eq!((counts.ok.count(), counts.shed), (200, 0));
        assert!(counts.ok.max() >= Duration::from_millis(700));
        assert!(counts.ok.max() < Duration::from_millis(710), "{:?}", counts.ok.max());
    }

    #[tokio::test(start_paused = true)]
    async fn driver_stall_counts_as_latency_of_every_delayed_call() {
        let (tally, start) = (Tally::new("call"), Instant::now());
        let mut is_first = true;
        Schedule::per_second(100)
            .run(
                &tally,
                || start.elapsed() < Duration::from_secs(2),
                || {
                    let stalls = std::mem::take(&mut is_first);
                    async move {
                        if stalls {
                            // No other task runs during the stall: time advances for the whole driver.
                            tokio::time::advance(Duration::from_secs(1)).await;
                        }
                        Ok(())
                    }
                },
            )
            .await;
        let counts = tally.counts();
        // The calls due within the stalled second waited for the rest of it.
        assert_eq!(counts.ok.count(), 200);
        assert!(counts.ok.percentile(75.0) >= Duration::from_millis(400), "{}", counts.ok);
        assert!(counts.ok.max() >= Duration::from_millis(980), "{}", counts.ok);
    }

    #[tokio::test(start_paused = true)]
    async fn overload_is_reported() {
        let schedule = Schedule::per_second(100).at_most_in_flight(10);
        let counts = run_for(schedule, Duration::from_secs(1), Duration::from_mins(1)).await;
        assert_eq!((counts.ok.count(), counts.shed), (10, 90));
        assert!((counts.failed_share() - 0.9).abs() < 1e-9);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_counted_separately_and_by_kind() {
        let tally = Tally::new("call");
        tally.count(Duration::from_millis(1), Ok(()));
        for (kind, seconds) in [("502", 1), ("reset", 2), ("502", 3)] {
            tally.count(Duration::from_secs(seconds), Err(kind.to_owned()));
        }
        let counts = tally.counts();
        assert_eq!(counts.failures, BTreeMap::from([("502".to_owned(), 2), ("reset".to_owned(), 1)]));
        assert_eq!(counts.ok.max(), Duration::from_millis(1));
        assert_eq!(counts.failed.max(), Duration::from_secs(3));
        assert_eq!(counts.due(), 4);
        assert_eq!(counts.to_json()["failures"]["502"], 2);
    }

    #[test]
    fn driver_shortage_is_not_a_service_failure() {
        let tally = Tally::new("call");
        tally.count(Duration::ZERO, Err(SHORTAGE.to_owned()));
        let counts = tally.counts();
        assert_eq!((counts.short, counts.failed.count(), counts.due()), (1, 0, 1));
        assert!(counts.failures.is_empty());
        assert!(counts.to_string().ends_with(SHORTAGE), "{counts}");
    }
}
