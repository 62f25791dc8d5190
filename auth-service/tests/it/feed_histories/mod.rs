//! The revocation feed in random histories: transactions that commit late and out of order, replicas that
//! cannot read or must not sign, clocks that differ and are set, readers that are slow, disconnected, or
//! behind a relay that loses documents. A reader never overstates its knowledge.
//!
//! The publisher is the real one; database, clocks, network and reader are models. The reader follows the
//! rules of `docs/protocols.md`.

mod reader;
mod world;

use crate::dice::{Dice, seeds};
use world::{Weather, World};

fn run(count: u64, weather: Weather) {
    let (mut moves, mut reconnects, mut repeats) = (0, 0, 0);
    for seed in seeds(count) {
        let mut world = World::new(Dice::new(seed), weather);
        for step in 0..400 {
            world.step();
            world.check(seed, step);
        }
        world.calm_down(seed);
        moves += world.reader.moves;
        reconnects += world.reader.gaps;
        repeats += world.repeats;
    }
    // Histories without events would prove nothing.
    assert!(moves > count * 10, "{moves} moves in {count} histories");
    assert!(repeats > count, "{repeats} documents were repeated");
    if weather.loses_documents {
        assert!(reconnects > count / 10, "{reconnects} gaps were noticed");
    } else {
        assert_eq!(reconnects, 0, "without loss there is no gap");
    }
}

#[test]
fn reader_behind_a_lossy_relay_never_overstates_its_knowledge() {
    run(2_000, Weather { loses_documents: true, clocks_differ_by: 0, clocks_fail: false });
}

#[test]
fn reader_behind_a_lossy_relay_with_different_clocks_never_overstates_its_knowledge() {
    run(2_000, Weather { loses_documents: true, clocks_differ_by: 5_000, clocks_fail: true });
}

#[test]
fn reader_with_different_clocks_never_overstates_its_knowledge() {
    run(2_000, Weather { loses_documents: false, clocks_differ_by: 5_000, clocks_fail: true });
}
