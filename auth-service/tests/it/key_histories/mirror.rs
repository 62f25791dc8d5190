//! Compares the model of a replica with the real key ring.

use std::rc::Rc;
use std::sync::Arc;

use auth_service::config::Config;
use auth_service::domain::key::{Chain, ChainKey, KeySchedule};
use auth_service::entropy::SeededEntropy;
use auth_service::keys::keyring::{KeyRing, LeaseError};
use auth_service::keys::material::generate;
use auth_service::keys::sealing::MasterKeys;
use auth_service::store::{Confirmation, KeyRow, KeyTable};
use verifier::{Algorithm, Clock as _, JwkSet, ManualClock, Seconds, UnixTime};

use super::plan::{CHAINS, Plan, START, Without, millis, second};
use super::replica::{Ring, Seen};
use super::table::{Key, Table};
use crate::dice::Dice;

const CHAIN: usize = 1;

/// A chain of three keys: one retires and expires, one is its successor, one is pending.
fn schedules(plan: &Plan, now: UnixTime) -> [KeySchedule; 3] {
    let ahead = plan.config.key_publish_ahead;
    let (second, third) = (now + ahead / 3, now + ahead * 2);
    [
        KeySchedule::starting(now - ahead).succeeded(second, &plan.policy),
        KeySchedule::starting(second).succeeded(third, &plan.policy),
        KeySchedule::starting(third),
    ]
}

fn rows(plan: &Plan, now: UnixTime, master: &MasterKeys) -> Vec<KeyRow> {
    let entropy = SeededEntropy::new(1);
    let row = |(generation, schedule)| {
        let made = generate(CHAINS[CHAIN], master, &entropy).unwrap();
        let key = ChainKey { kid: made.kid, generation, schedule, compromised_at: None };
        KeyRow {
            chain: CHAINS[CHAIN],
            key,
            public_jwk: made.public_jwk,
            sealed: Some(made.sealed),
            created_at: now,
        }
    };
    (1..).zip(schedules(plan, now)).map(row).collect()
}

#[test]
fn replica_model_agrees_with_the_real_key_ring() {
    assert_eq!(CHAINS[CHAIN], Chain::Signing(Algorithm::EdDSA));
    for seed in 0..40 {
        let dice = Dice::new(seed);
        let plan = Plan::draw(&Config::default(), &dice, Without::Nothing);
        agree(&plan, &dice);
    }
}

fn agree(plan: &Plan, dice: &Dice) {
    let start = second(START);
    let clock = Arc::new(ManualClock::new(start));
    let master = Arc::new(MasterKeys::parse(&MasterKeys::generate(&SeededEntropy::new(2)).unwrap()).unwrap());
    let rows = rows(plan, start, &master);
    let places: Vec<_> = rows.iter().map(|row| row.key.clone()).collect();
    let seen = Confirmation { now: start, keys_version: 3, asked_at: clock.monotonic() };
    let (ahead, bound) = (plan.config.key_publish_ahead, plan.config.clock_bound);
    let real = KeyRing::new(&KeyTable { rows, seen }, master, clock.clone(), ahead).unwrap();
    let keys = places.into_iter().map(|place| Key { place, created_at: start, known_from: None }).collect();
    let ring = Ring { table: Rc::new(Table { changes: 3, chains: [Vec::new(), keys] }), confirmed_at: START };

    let step = Seconds(dice.between(1, 30));
    while clock.now() < start + ahead * 4 {
        let (now, at) = (clock.now(), millis(clock.now() - UnixTime(0)));
        let (told, modelled) = (
            real.cache_life(plan.settings.jwks_max_age, bound),
            ring.cache_life(at, plan.publish_ahead(), plan.settings.jwks_max_age, bound),
        );
        let told = (told.max_age * 1_000, told.stale_while_revalidate * 1_000);
        assert_eq!(told, (modelled.max_age, modelled.stale_while_revalidate), "{now:?}");
        assert_eq!(real.is_fresh(), ring.is_ready(at, plan.publish_ahead()), "{now:?}");

        let jwks: JwkSet = serde_json::from_slice(&real.document().body).unwrap();
        let published: Vec<_> = jwks.keys.iter().map(|jwk| jwk.kid().clone()).collect();
        let places = ring.table.chains[CHAIN].iter().map(|key| &key.place);
        let modelled: Vec<_> = places
            .clone()
            .filter(|place| place.schedule.phase(start).is_published())
            .map(|place| place.kid.clone())
            .collect();
        assert_eq!(published, modelled, "{now:?}");

        // A statement that saw the same keys at some time, and a signer that uses its result now.
        let seen = Seen { now: start, changes: 3, asked_at: START, refreshed_at: start };
        let confirmation = Confirmation { now: start, keys_version: 3, asked_at: std::time::Duration::ZERO };
        let signer = real.active(&[Algorithm::EdDSA], &confirmation);
        match ring.active(CHAIN, seen, at, plan) {
            Err(()) => assert!(matches!(signer, Err(LeaseError::Expired)), "{now:?}: {signer:?}"),
            Ok(name) => {
                let schedule = ring.table.find(name.unwrap()).unwrap().place.schedule;
                assert_eq!(signer.unwrap().schedule, schedule, "{now:?}");
            }
        }
        clock.advance(step);
    }
}

#[test]
fn replica_that_missed_an_extension_does_not_withdraw_the_key() {
    let plan = Plan::draw(&Config::default(), &Dice::new(0), Without::Nothing);
    let start = second(START);
    let clock = Arc::new(ManualClock::new(start));
    let master = Arc::new(MasterKeys::parse(&MasterKeys::generate(&SeededEntropy::new(2)).unwrap()).unwrap());
    let mut rows = rows(&plan, start, &master);
    rows.truncate(2);
    // The second key is announced; the first one will retire and, later, no longer be published.
    rows[0].key.schedule = KeySchedule::starting(start).succeeded(start + Seconds(100), &plan.policy);
    rows[1].key.schedule = KeySchedule::starting(start + Seconds(100));
    let first = rows[0].key.kid.clone();
    let seen = Confirmation { now: start, keys_version: 3, asked_at: clock.monotonic() };
    let ring =
        KeyRing::new(&KeyTable { rows, seen }, master, clock.clone(), plan.config.key_publish_ahead).unwrap();
    // From here on the database is unavailable. The second key is compromised, and the first one continues to
    // sign.
    clock.advance(Seconds(100) + plan.policy.tail * 2);
    let jwks: JwkSet = serde_json::from_slice(&ring.document().body).unwrap();
    assert!(jwks.keys.iter().any(|jwk| *jwk.kid() == first));
}
