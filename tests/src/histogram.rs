//! A histogram of durations whose buckets grow with the value, so that it covers 40 µs as well as 40 s.
//!
//! A bucket is at most 1/64 of its value wide, so every percentile is exact to 1.6 %. Histograms of the same
//! call from several sources can be [merged](Histogram::merge); percentiles cannot.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

/// Values below this many microseconds have one bucket each; above, each doubling is divided into as many
/// buckets.
const FINE: u64 = 64;
const FINE_BITS: u32 = FINE.ilog2();
/// The percentiles of a report, besides count and maximum.
const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99_9", 99.9)];

/// Counts of durations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The count of each bucket, up to the last one that is used.
    buckets: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, took: Duration) {
        let bucket = bucket_of(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.max = self.max.max(took);
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (ours, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *ours += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// The number of durations.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The exact maximum.
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// The duration that `percent` of all did not exceed: the upper end of its bucket; zero if the histogram
    /// is empty.
    pub fn percentile(&self, percent: f64) -> Duration {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts are far below 2^52 and percentages are positive"
        )]
        let rank = ((percent / 100.0 * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(upper_end(bucket)).min(self.max);
            }
        }
        Duration::ZERO
    }

    /// `{"count": …, "p50": …, …, "max": …}`, in milliseconds.
    pub fn to_json(&self) -> Value {
        let mut object = json!({ "count": self.count, "max": millis(self.max) });
        for (name, percent) in PERCENTILES {
            object[name] = json!(millis(self.percentile(percent)));
        }
        object
    }
}

impl fmt::Display for Histogram {
    /// One line, in milliseconds.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:>8} ×", self.count)?;
        for (name, percent) in PERCENTILES {
            write!(formatter, "  {} {:.1}", name.replace('_', "."), millis(self.percentile(percent)))?;
        }
        write!(formatter, "  max {:.1} ms", millis(self.max))
    }
}

/// Milliseconds, rounded to whole microseconds.
fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

/// The bucket of a number of microseconds.
fn bucket_of(micros: u64) -> usize {
    // Each doubling above FINE has 64 buckets, distinguished by the 6 bits after the leading one.
    let doublings = (micros.max(1).ilog2() + 1).saturating_sub(FINE_BITS + 1);
    let bucket = u64::from(doublings) * FINE + (micros >> doublings);
    usize::try_from(bucket).expect("fewer than 4096")
}

/// The largest number of microseconds that falls into `bucket`.
fn upper_end(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).expect("usize fits into u64");
    if bucket < 2 * FINE {
        return bucket;
    }
    let doublings = bucket / FINE - 1;
    (((bucket - doublings * FINE) + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_buckets_are_narrow() {
        let values =
            (0..5_000).chain((12..40).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1]));
        for value in values {
            let bucket = bucket_of(value);
            let lower = if bucket == 0 { 0 } else { upper_end(bucket - 1) + 1 };
            assert!((lower..=upper_end(bucket)).contains(&value), "{value} in {bucket}");
            assert!(upper_end(bucket) - lower <= value / FINE, "{value} in {lower}..={}", upper_end(bucket));
        }
    }

    #[test]
    fn percentiles_of_a_thousand_known_values() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|millis| histogram.record(Duration::from_millis(millis)));
        for (percent, expected) in [(50.0, 500.0), (90.0, 900.0), (99.0, 990.0), (99.9, 999.0)] {
            let told = millis(histogram.percentile(percent));
            assert!((expected..=expected * 1.016).contains(&told), "p{percent}: {told}");
        }
        assert_eq!(histogram.max(), Duration::from_secs(1));
        assert_eq!(histogram.percentile(100.0), Duration::from_secs(1));
        assert_eq!(Histogram::default().percentile(99.0), Duration::ZERO);
    }

    #[test]
    fn merged_histograms_count_as_one() {
        let (mut one, mut other, mut both) =
            (Histogram::default(), Histogram::default(), Histogram::default());
        for micros in 1..500 {
            let part = if micros % 3 == 0 { &mut one } else { &mut other };
            part.record(Duration::from_micros(micros * micros));
            both.record(Duration::from_micros(micros * micros));
        }
        one.merge(&other);
        assert_eq!(one, both);
    }

    #[test]
    fn report_shows_milliseconds() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_micros(1_500));
        assert_eq!(
            histogram.to_json(),
            json!({ "count": 1, "p50": 1.5, "p90": 1.5, "p99": 1.5, "p99_9": 1.5, "max": 1.5 })
        );
        assert!(histogram.to_string().ends_with("1 ×  p50 1.5  p90 1.5  p99 1.5  p99.9 1.5  max 1.5 ms"));
    }
}
