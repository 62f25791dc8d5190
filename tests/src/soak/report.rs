//! The report of a run, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Scenario, Size};
use crate::arrivals::Counts;

/// The outcome of one run.
#[derive(Debug)]
pub struct Report {
    /// The scenario.
    pub scenario: Scenario,
    /// The length.
    pub size: Size,
    /// The seed.
    pub seed: u64,
    /// The start since the epoch.
    pub started_at: Duration,
    /// The duration.
    pub took: Duration,
    /// The number of lines of the ledger.
    pub lines: usize,
    /// Calls by kind, with their latencies.
    pub calls: Vec<Counts>,
    /// The measured figures and their limits.
    pub figures: Vec<Figure>,
    /// The violations by rule.
    pub violations: BTreeMap<&'static str, Vec<String>>,
}

/// A measured figure and its limit.
#[derive(Clone, Debug)]
pub struct Figure {
    name: String,
    value: f64,
    /// `≤` or `≥`.
    relation: &'static str,
    limit: f64,
    unit: &'static str,
}

impl Figure {
    pub(super) fn new(
        name: &str,
        value: f64,
        relation: &'static str,
        limit: f64,
        unit: &'static str,
    ) -> Self {
        Self { name: name.to_owned(), value, relation, limit, unit }
    }

    fn holds(&self) -> bool {
        if self.relation == "≤" { self.value <= self.limit } else { self.value >= self.limit }
    }
}

impl Report {
    /// Whether all figures are within their limits and no rule is violated.
    pub fn passed(&self) -> bool {
        self.figures.iter().all(Figure::holds) && self.violations.values().all(Vec::is_empty)
    }

    /// The report as JSON.
    pub fn to_json(&self) -> Value {
        let figure = |figure: &Figure| {
            json!({
                "name": figure.name,
                "value": figure.value,
                "limit": format!("{} {}", figure.relation, figure.limit),
                "unit": figure.unit,
                "holds": figure.holds(),
            })
        };
        json!({
            "scenario": self.scenario.id(),
            "title": self.scenario.title(),
            "form": self.form(),
            "seed": self.seed,
            "started_at": self.started_at.as_secs(),
            "seconds": self.took.as_secs_f64(),
            "passed": self.passed(),
            "ledger_lines": self.lines,
            "calls": self.calls.iter().map(Counts::to_json).collect::<Vec<_>>(),
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
            "violations": self.violations,
        })
    }

    const fn form(&self) -> &'static str {
        match self.size {
            Size::Short => "short",
            Size::Full => "full",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        let (id, form, seed) = (self.scenario.id(), self.form(), self.seed);
        writeln!(
            formatter,
            "{id} {verdict} ({form}, seed {seed}, {:.0?}): {}",
            self.took,
            self.scenario.title()
        )?;
        for counts in &self.calls {
            writeln!(formatter, "  {}", counts.to_string().replace('\n', "\n  "))?;
        }
        for figure in &self.figures {
            let Figure { name, value, relation, limit, unit } = figure;
            let mark = if figure.holds() { " " } else { "!" };
            writeln!(formatter, " {mark}{name}: {value:.3} {unit} ({relation} {limit})")?;
        }
        write!(formatter, "  {} lines in the ledger;", self.lines)?;
        for (rule, lines) in &self.violations {
            write!(formatter, " {rule}={}", lines.len())?;
        }
        for (rule, lines) in &self.violations {
            for line in lines.iter().take(10) {
                write!(formatter, "\n !{rule}: {line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Run;
    use super::*;

    #[test]
    fn one_figure_or_one_violation_fails_the_run() {
        let judge = |fill: fn(&mut Run)| {
            let mut run = Run::new(Size::Short, 7, None);
            fill(&mut run);
            run.judge(Scenario::R1)
        };
        let good = judge(|run| run.at_most("errors", 1.9, 2.0, "%"));
        assert!(good.passed(), "{good}");
        assert!(!judge(|run| run.at_most("errors", 2.1, 2.0, "%")).passed());
        assert!(!judge(|run| run.at_least("rotations", 2.0, 3.0, "")).passed());
        let bad = judge(|run| run.ledger.failed("no key set"));
        assert!(!bad.passed());
        assert!(bad.to_string().contains("!must: no key set"), "{bad}");
        assert_eq!(bad.to_json()["violations"]["must"][0], "no key set");
        assert_eq!(bad.to_json()["seed"], 7);
    }
}
