//! The short form of each scenario of docs/reliability.md. `cargo run -p e2e --bin soak` runs the full form.

use e2e::process;
use e2e::random::Random;
use e2e::soak::{Run, Scenario, Size};
use tokio::sync::Mutex;

#[global_allocator]
static HEAP: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

/// Scenarios run one at a time, because each one needs the whole machine.
static TURN: Mutex<()> = Mutex::const_new(());

async fn passes(scenario: Scenario) {
    let _turn = TURN.lock().await;
    process::allow_open_files(16_000);
    let seed = Random::announced(&scenario.id()).next() % 1_000_000;
    let report = scenario.play(Run::new(Size::Short, seed, None)).await;
    println!("{report}");
    assert!(
        report.passed(),
        "see above; again with `cargo run -p e2e --bin soak -- {scenario:?} --seed {seed}`"
    );
}

macro_rules! short_forms {
    ($($name:ident $scenario:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            passes(Scenario::$scenario).await;
        })*
    };
}

short_forms! {
    r1_kill_storm R1,
    r3_database_away R3,
    r5_rotation_under_load R5,
    r6_stolen_key R6,
    r7_single_use R7,
    r12_clock_faults R12,
    r14_rolling_upgrade R14,
    r15_rotation_race R15,
    r16_paused_replica R16,
    r17_revocation_reach R17,
    r19_slow_clients R19,
}
