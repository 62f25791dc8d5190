//! What a check asks of the allocator, exactly. One test, so that nothing else allocates meanwhile.

use std::alloc::System;
use std::sync::Arc;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use testkit::{AUDIENCE, ISSUER, NOW};
use verifier::testing::{TestIssuer, TestToken};
use verifier::{ManualClock, NoExtra, Verifier};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations of the second check: the first one fills what is filled once.
fn allocations(verifier: &Verifier, token: &str) -> usize {
    let check = || verifier.verify_now::<NoExtra>(token).map(drop);
    let _ = check();
    let region = Region::new(ALLOCATOR);
    let _ = check();
    let cost = region.change();
    cost.allocations + cost.reallocations
}

#[test]
fn a_check_allocates_what_the_claims_need_and_a_hit_of_the_cache_nothing() {
    let issuer = TestIssuer::new(ISSUER, AUDIENCE);
    let build = |capacity| {
        let clock = Arc::new(ManualClock::new(NOW));
        let builder = issuer.verifier().static_jwks(&issuer.jwks()).clock(clock);
        builder.token_cache(capacity).build().unwrap()
    };
    let (plain, cached) = (build(0), build(64));
    let token = || issuer.token_at(NOW).permission("orders:read");
    // iss, sub, aud and its list, jti, sid, client_id, scope, and the claims that clones of the token share.
    let good = 9;
    let listed: [(&str, TestToken, usize); 7] = [
        ("good", token(), good),
        // The list and two names.
        ("good, two roles", token().roles(&["clerk", "auditor"]), good + 3),
        // The set of unknown names, which must not stand twice.
        ("good, unknown claim", token().claim("tenant", 7), good + 1),
        ("bad signature", token().bad_signature(), 0),
        ("unknown key", token().unknown_key(), 0),
        ("alg none", token().alg_none(), 0),
        ("expired", token().expired(), good - 1),
    ];
    for (what, token, expected) in listed {
        let token = token.sign();
        assert_eq!(allocations(&plain, &token), expected, "{what}");
        let is_good = expected >= good;
        assert_eq!(allocations(&cached, &token), if is_good { 0 } else { expected }, "{what}, with a cache");
    }
    assert_eq!(allocations(&plain, &"a.".repeat(32 * 1024)), 0, "64 KiB of dots");
}
