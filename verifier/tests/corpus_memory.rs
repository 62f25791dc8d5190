//! A22, A23: what a token costs before and after it is refused. Measured in bytes asked of the allocator,
//! which bound the work as well: nothing in a check touches memory that it has not been given. One test, so
//! that nothing else allocates meanwhile.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use testkit::corpus;
use testkit::lab::Lab;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that one answer may ask for in all, freed again or not.
const LIMIT: usize = 64 * 1024;

#[test]
fn no_token_costs_more_than_64_kib_and_one_that_is_too_long_costs_nothing() {
    let lab = Lab::new();
    let cases = corpus::all(&lab);
    let mut dearest = (0, "");
    for case in &cases {
        let region = Region::new(ALLOCATOR);
        let answer = case.answer();
        let cost = region.change();
        assert_eq!(cost.bytes_allocated, cost.bytes_deallocated, "{} leaks", case.name);
        assert!(cost.bytes_allocated <= LIMIT, "{}: {cost:?}", case.name);
        if answer == Err("too_long") {
            assert_eq!(cost.allocations, 0, "{}", case.name);
        }
        // Each allocation is for something that takes at least two bytes of the token.
        assert!(cost.allocations <= 8 + case.token.len() / 2, "{}: {cost:?}", case.name);
        dearest = dearest.max((cost.bytes_allocated, &case.name));
    }
    assert!(cases.iter().any(|case| case.name == "size/20000_dots"), "the cases that this is about");
    assert!(dearest.0 > 8 * 1024, "nothing was measured: {dearest:?}");
}
