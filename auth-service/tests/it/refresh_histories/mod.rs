//! Refreshing (docs/protocols.md, "The six steps") in random histories: lost requests, lost responses, late
//! copies, double clicks, replicas that crash between commit and response, restored backups, and a thief.
//!
//! The client is honest: it continues with the newest response of the current round, and repeats its request
//! if it got no response, after a second or after days. The network can lose any message, but a copy of a
//! request that is older than the grace does not arrive: the server cannot distinguish it from the request of
//! a thief.
//!
//! Requests interleave statement by statement, as with several replicas. [`ledger`] holds the invariants of
//! every step; a real database must agree with the one in memory at every step.
//!
//! `TESTS_SEED` sets the first seed.

mod database;
mod history;
mod ledger;
mod server;

use auth_service::domain::session::Generation;
use auth_service::domain::session::{RefreshPolicy, SessionId, Verdict};
use auth_service::store::{Advance, SqlStore};
use verifier::Seconds;

use crate::dice::{Dice, seeds};
use database::{Database, LIFE, MAC_KEY, Model, Real};
use history::{Ending, GRACE, History, Setting};
use ledger::Counts;

const HONEST: Setting = Setting { recovery: true, grace: GRACE, thief: false, restores: false, rounds: 25 };
const USUAL_SCHEME: Setting = Setting { recovery: false, ..HONEST };
const RESTORED: Setting = Setting { restores: true, ..HONEST };
const STOLEN: Setting = Setting { thief: true, rounds: 60, ..HONEST };
/// Returns the same response until the next round.
const ENDLESS_GRACE: Setting = Setting { grace: 1_000_000_000, ..STOLEN };

/// Prints the seed when a history panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("TESTS_SEED={}", self.0);
        }
    }
}

async fn history<D: Database>(setting: Setting, seed: u64, database: &mut D) -> Ending {
    let _named = Seed(seed);
    let dice = Dice::new(seed);
    let ending = History::new(setting, &dice, database).run().await;
    if !setting.recovery || setting.grace > GRACE {
        return ending;
    }
    if setting.thief {
        assert!(
            ending.client_is_out || ending.thief_is_out || ending.session_ended,
            "both went on: {ending:?}"
        );
    } else {
        assert!(
            !ending.client_is_out && !ending.session_ended,
            "the honest client was logged out: {ending:?}"
        );
        assert_eq!(ending.refreshes, setting.rounds);
    }
    ending
}

async fn in_memory(name: &str, setting: Setting, count: u64) -> Vec<Ending> {
    let mut endings = Vec::new();
    for seed in seeds(count) {
        endings.push(history(setting, seed, &mut Model::new()).await);
    }
    report(name, &endings);
    endings
}

fn report(name: &str, endings: &[Ending]) {
    let mut counts = Counts::default();
    for ending in endings {
        counts += ending.counts;
    }
    let number = |is: fn(&Ending) -> bool| endings.iter().filter(|ending| is(ending)).count();
    println!(
        "{name}: {} sessions, {} ended; out: {} clients, {} thieves; alone in the session: {} clients, {} thieves; most rounds together {}; {counts:?}",
        endings.len(),
        number(|ending| ending.session_ended),
        number(|ending| ending.client_is_out),
        number(|ending| ending.thief_is_out),
        number(|ending| !ending.session_ended && ending.thief_is_out),
        number(|ending| !ending.session_ended && ending.client_is_out),
        endings.iter().map(|ending| ending.rounds_together).max().unwrap_or(0),
    );
}

#[tokio::test]
async fn no_honest_client_is_logged_out() {
    let endings = in_memory("honest", HONEST, 5_000).await;
    assert!(endings.iter().all(|ending| ending.counts.reused == 0));
}

#[tokio::test]
async fn rotation_without_recovery_logs_honest_clients_out() {
    let endings = in_memory("recovery off", USUAL_SCHEME, 1_000).await;
    let out = endings.iter().filter(|ending| ending.client_is_out).count();
    assert!(out > 900, "{out} of 1000");
    assert!(endings.iter().all(|ending| ending.counts.recovered == 0));
}

#[tokio::test]
async fn no_honest_client_is_logged_out_by_a_restored_backup() {
    let endings = in_memory("restored", RESTORED, 3_000).await;
    assert!(endings.iter().any(|ending| ending.counts.fast_forwarded > 0));
}

#[tokio::test]
async fn thief_and_client_never_both_keep_the_session() {
    let endings = in_memory("stolen", STOLEN, 5_000).await;
    // Within the grace both get the same response, so both may continue for a while.
    assert!(endings.iter().all(|ending| ending.rounds_together <= 6));
    // In the other histories, a replaced token was presented within the grace, and its holder gave up.
    let noticed = endings.iter().filter(|ending| ending.session_ended).count();
    assert!(noticed > 4_750, "{noticed} of 5000");
}

#[tokio::test]
async fn endless_grace_never_detects_a_theft() {
    let endings = in_memory("endless grace", ENDLESS_GRACE, 500).await;
    assert!(endings.iter().all(|ending| !ending.session_ended));
    assert!(endings.iter().any(|ending| ending.rounds_together > 6));
}

/// The same histories, shorter, on a real database.
async fn hold_on(database: Real, count: u64) {
    let settings =
        [("honest", HONEST), ("restored", RESTORED), ("stolen", STOLEN), ("recovery off", USUAL_SCHEME)];
    for (offset, (name, setting)) in (0..).zip(settings) {
        // With a thief, a history ends when one of the holders is refused.
        let setting = Setting { rounds: if setting.thief { setting.rounds } else { 10 }, ..setting };
        let mut endings = Vec::new();
        for seed in seeds(count) {
            let mut session = database.session(offset * count + seed - seeds(count).start).await;
            endings.push(history(setting, seed, &mut session).await);
        }
        report(name, &endings);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_hold_on_sqlite() {
    hold_on(Real::sqlite().await, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: ./test runs it"]
async fn histories_hold_on_postgres() {
    hold_on(Real::postgres().await, 60).await;
}

/// A whole refresh, as one of many parallel ones.
async fn refresh(store: SqlStore, id: SessionId, shown: Generation) -> Generation {
    let policy = RefreshPolicy { grace: Seconds(GRACE), recovery: true };
    let mut step = Advance::Outstanding(shown);
    for _ in 0..8 {
        if let Some(live) = store.advance_session(id, step, MAC_KEY, LIFE).await.unwrap() {
            return live.session.refresh.generation;
        }
        let live = store.find_session(id).await.unwrap().unwrap();
        let generation = live.session.refresh.generation;
        step = match live.session.judge(shown, live.seen.now, policy) {
            Verdict::Retry => return generation,
            Verdict::Recover => Advance::Recover { accepted: shown, generation },
            Verdict::Ahead => Advance::FastForward { presented: shown, generation },
            verdict => panic!("{shown} is {verdict:?} in {:?}", live.session),
        };
    }
    panic!("too many tries for {shown}");
}

/// Runs 32 parallel refreshes; returns their one successor.
async fn refresh_together(session: &Real, shown: Generation) -> Generation {
    let refresh = |_| tokio::spawn(refresh(session.store().clone(), session.id(), shown));
    let tasks: Vec<_> = (0..32).map(refresh).collect();
    let mut given = Vec::new();
    for task in tasks {
        given.push(task.await.unwrap());
    }
    assert!(given.iter().all(|one| *one == given[0]), "{given:?}");
    given[0]
}

async fn parallel_refreshes_have_one_successor(mut database: Real) {
    for number in 0..10 {
        let session = database.session(number).await;
        assert_eq!(refresh_together(&session, 1).await, 2);
        assert_eq!(refresh_together(&session, 1).await, 2, "a retry gets the same");
        database.wait(GRACE + 1);
        assert_eq!(refresh_together(&session, 1).await, 3, "the answer was lost");
        database.wait(3 * 86_400);
        assert_eq!(refresh_together(&session, 1).await, 4, "and lost again");
        // Any of them is valid; the others are void from then on.
        assert_eq!(refresh_together(&session, 3).await, 5);
        // As after a restored backup.
        assert_eq!(refresh_together(&session, 9).await, 10);
        assert_eq!(refresh_together(&session, 10).await, 11);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_refreshes_have_one_successor_on_sqlite() {
    parallel_refreshes_have_one_successor(Real::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: ./test runs it"]
async fn parallel_refreshes_have_one_successor_on_postgres() {
    parallel_refreshes_have_one_successor(Real::postgres().await).await;
}
