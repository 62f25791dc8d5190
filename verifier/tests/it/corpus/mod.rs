//! The token corpus: every way in which tokens have been abused before, and what must still be accepted, each
//! with its one right answer. Keys are fresh in every run; nothing is canned.

mod keyref;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use testkit::corpus::{self, Case};
use testkit::lab::Lab;

/// The known attacks on tokens. A26 is about a cache of verified tokens and is tested where that is.
const ROWS: [&str; 27] = [
    "A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "A10", "A11", "A12", "A13", "A14", "A15", "A16",
    "A17", "A18", "A19", "A20", "A21", "A22", "A23", "A24", "A25", "A27", "A28",
];

/// Cases of one family: how many there are, and what went otherwise.
#[derive(Default)]
struct Family {
    count: usize,
    faults: Vec<String>,
}

fn judge(case: &Case) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(|| case.answer())) {
        Ok(answer) if answer == case.wants => Ok(()),
        Ok(answer) => Err(format!("wants {:?}, got {answer:?}: {}", case.wants, shown(&case.token))),
        Err(_) => Err(format!("panicked: {}", shown(&case.token))),
    }
}

/// Enough of a token to see what it is about. Its key ends with the test.
fn shown(token: &str) -> String {
    token.chars().take(300).collect::<String>().escape_debug().to_string()
}

#[test]
fn every_case_of_the_corpus_has_its_one_right_answer() {
    let lab = Lab::new();
    let cases = corpus::all(&lab);
    let mut families: BTreeMap<&str, Family> = BTreeMap::new();
    for case in &cases {
        let family = families.entry(case.family()).or_default();
        family.count += 1;
        if let Err(fault) = judge(case) {
            family.faults.push(format!("  {} ({}) {fault}", case.name, case.row));
        }
    }
    let faults: usize = families.values().map(|family| family.faults.len()).sum();
    if faults > 0 {
        for (name, family) in &families {
            println!("{name:10} {:5} cases {:5} wrong", family.count, family.faults.len());
            family.faults.iter().for_each(|fault| println!("{fault}"));
        }
    }
    assert_eq!(faults, 0, "of {} cases", cases.len());
}

#[test]
fn corpus_has_cases_for_every_known_attack_with_unique_names() {
    let lab = Lab::new();
    let cases = corpus::all(&lab);
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len());
    let rows: BTreeSet<_> = cases.iter().map(|case| case.row).collect();
    assert_eq!(rows, BTreeSet::from(ROWS));
    let accepted = cases.iter().filter(|case| case.wants.is_ok()).count();
    assert!(cases.len() >= 1800 && accepted >= 250, "{accepted} of {} are accepted", cases.len());
}
