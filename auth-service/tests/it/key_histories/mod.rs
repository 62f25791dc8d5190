//! Rules K1 to K8 (docs/protocols.md, "Eight rules"), in random histories of replicas and verifiers on the
//! real rules.
//!
//! The tests neither wait nor read a clock: a history is a list of events in true time, drawn from a seed.
//! The database, the key ring of a replica and the caches of verifiers are models; `domain::key` and
//! `domain::access` decide when keys change, sign, are published and end, under a configuration that
//! `Config::check` accepts.
//!
//! The promise: every verifier that can know a token's key accepts the token until `exp` plus its leeway. A
//! verifier need not know a key
//!
//! - within `publish_ahead` of its announcement, if the key had to sign immediately: first start and
//!   compromise waive K1;
//! - if its key set comes from a replica whose lease has expired, which cannot know the key either. That
//!   response has `max-age=0`, so that it is not cached; a balancer that checks readiness does not use the
//!   replica. In a full outage it is the only response available, and correct;
//! - if it keeps a set for ten minutes in spite of the headers, from a replica that was not ready while no
//!   other was.
//!
//! `TESTS_SEED` sets the first seed.

mod cache;
mod checks;
mod mirror;
mod plan;
mod replica;
mod table;
mod traffic;
mod world;

use auth_service::config::Config;

use crate::dice::{Dice, seeds};
use checks::{Broken, Violation};
use plan::{Plan, Without};
use world::{Counts, World};

fn history(base: &Config, seed: u64, without: Without) -> (Counts, Vec<Violation>) {
    let dice = Dice::new(seed);
    let plan = Plan::draw(base, &dice, without);
    World::new(&plan, &dice).run()
}

#[test]
fn ten_thousand_histories_violate_no_rule() {
    let (base, mut total) = (Config::default(), Counts::default());
    for seed in seeds(10_000) {
        let (counts, violations) = history(&base, seed, Without::Nothing);
        let stories: Vec<_> =
            violations.iter().map(|one| format!("{:?}: {}", one.broken, one.story)).collect();
        assert!(stories.is_empty(), "TESTS_SEED={seed}\n{}", stories.join("\n"));
        total += counts;
    }
    println!("{total:?}");
}

/// Runs histories without a rule and returns the broken promises, each with the number of histories that
/// broke it.
fn broken(without: Without, histories: u64) -> Vec<(Broken, usize)> {
    let base = Config::default();
    let mut found: Vec<(Broken, usize)> = Vec::new();
    for seed in seeds(histories) {
        let (_, violations) = history(&base, seed, without);
        let mut kinds: Vec<Broken> = Vec::new();
        for Violation { broken, .. } in violations {
            if !kinds.contains(&broken) {
                kinds.push(broken);
            }
        }
        for kind in kinds {
            match found.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => found.push((kind, 1)),
            }
        }
    }
    println!("without {without:?}, in {histories} histories: {found:?}");
    found
}

#[track_caller]
fn assert_breaks(without: Without, expected: Broken) {
    let found = broken(without, 300);
    assert!(found.iter().any(|(kind, _)| *kind == expected), "{expected:?} not in {found:?}");
}

#[test]
fn without_k1_valid_tokens_are_refused() {
    assert_breaks(Without::K1, Broken::Refused);
    assert_breaks(Without::K1, Broken::NotPublishedAhead);
}

#[test]
fn without_k2_valid_tokens_are_cut_short_or_refused() {
    assert_breaks(Without::K2, Broken::WrongEnd);
    assert_breaks(Without::K2AndExpiry, Broken::Refused);
}

#[test]
fn without_one_maximum_for_all_lives_valid_tokens_are_refused() {
    assert_breaks(Without::K2Maximum, Broken::WrongEnd);
    assert_breaks(Without::K2Maximum, Broken::Refused);
}

#[test]
fn without_k4_keys_sign_out_of_turn() {
    assert_breaks(Without::K4Pause, Broken::OutOfTurn);
    assert_breaks(Without::K4Confirmation, Broken::OutOfTurn);
    assert_breaks(Without::K4Confirmation, Broken::Refused);
}

#[test]
fn without_k8_valid_tokens_are_refused() {
    assert_breaks(Without::K8Readiness, Broken::Refused);
    assert_breaks(Without::K8Header, Broken::Refused);
}
