//! L7: processes that crash, grow, or leave files open.

use std::collections::BTreeMap;

use super::{Bounds, History};
use crate::ledger::Call;

/// The minimum number of samples of a process to detect growth.
const FEWEST_SAMPLES: usize = 9;

pub(super) fn faults(history: &History<'_>, bounds: &Bounds) -> Vec<String> {
    let mut faults = Vec::new();
    for entry in history.entries {
        if let Call::Died(what) = &entry.call {
            faults.push(what.clone());
        }
    }
    for ((replica, process), samples) in lives(history).into_iter().filter(|(_, samples)| is_judged(samples))
    {
        let memory = growth(samples.iter().map(|(rss, _)| *rss).collect());
        let files = growth(samples.iter().map(|(_, files)| *files).collect());
        if memory > bounds.rss_growth_kib {
            faults.push(format!("replica {replica}, process {process}, grew by {memory} KiB"));
        }
        if files > bounds.files_growth {
            faults.push(format!("replica {replica}, process {process}, has {files} more files open"));
        }
    }
    faults
}

/// Memory and open files of each process, by replica and process id.
pub(super) fn lives(history: &History<'_>) -> BTreeMap<(usize, u32), Vec<(u64, u64)>> {
    let mut lives: BTreeMap<(usize, u32), Vec<(u64, u64)>> = BTreeMap::new();
    for entry in history.entries {
        if let Call::Process { replica, process, rss_kib, files } = &entry.call {
            lives.entry((*replica, *process)).or_default().push((*rss_kib, *files));
        }
    }
    lives
}

/// Whether a process has enough samples.
pub(super) const fn is_judged(samples: &[(u64, u64)]) -> bool {
    samples.len() >= FEWEST_SAMPLES
}

/// The growth of the median from the second third to the last; the first third is warm-up.
fn growth(mut samples: Vec<u64>) -> u64 {
    let third = samples.len() / 3;
    let mut median = |from: usize| {
        let part = &mut samples[from..from + third];
        part.sort_unstable();
        part[third / 2]
    };
    let (before, after) = (median(third), median(2 * third));
    after.saturating_sub(before)
}

#[cfg(test)]
mod tests {
    use super::super::made_up::*;
    use crate::ledger::{Call, Entry};

    fn life(rss_kib: impl Fn(u64) -> u64, files: impl Fn(u64) -> u64) -> Vec<Entry> {
        let sample = |second: u64| {
            let call =
                Call::Process { replica: 0, process: 7, rss_kib: rss_kib(second), files: files(second) };
            ok(second.cast_signed(), call)
        };
        (0..30).map(sample).collect()
    }

    #[test]
    fn stable_process_after_warm_up_is_accepted() {
        assert_eq!(
            violations(&life(|second| 20_000 + second.min(8) * 10_000, |second| 30 + second % 20)),
            []
        );
    }

    #[test]
    fn growing_memory_and_files_are_detected() {
        assert_eq!(violations(&life(|second| 20_000 + second * 2_000, |_| 30)), [("L7", 1)]);
        assert_eq!(violations(&life(|_| 20_000, |second| 30 + second * 10)), [("L7", 1)]);
    }

    #[test]
    fn panic_and_unexpected_end_are_detected() {
        assert_eq!(violations(&[ok(1, Call::Died("replica 0 panicked".to_owned()))]), [("L7", 1)]);
    }
}
