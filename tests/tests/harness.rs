//! The harness itself: what the scenarios rely on.

use std::time::Duration;

use tests::clock;
use tests::postgres::{Postgres, Stop};

#[test]
fn database_survives_stop_freeze_and_stalled_standby() {
    let postgres = Postgres::start();
    let database = postgres.create_database();
    database.query("CREATE TABLE t (n BIGINT)");
    database.query("INSERT INTO t VALUES (1)");

    postgres.stop(Stop::Immediate);
    postgres.start_again();
    assert_eq!(database.query("SELECT n FROM t").trim(), "1");

    let frozen = clock::instant();
    std::thread::scope(|scope| {
        postgres.freeze();
        scope.spawn(|| database.query("INSERT INTO t VALUES (2)"));
        std::thread::sleep(Duration::from_millis(700));
        postgres.thaw();
    });
    assert!(frozen.elapsed() >= Duration::from_millis(700), "a frozen server answered");

    let standby = postgres.start_synchronous_standby();
    let stalled = clock::instant();
    std::thread::scope(|scope| {
        standby.stall();
        scope.spawn(|| database.query("INSERT INTO t VALUES (3)"));
        std::thread::sleep(Duration::from_millis(700));
        standby.resume();
    });
    assert!(stalled.elapsed() >= Duration::from_millis(700), "a commit did not wait for the standby");
    assert_eq!(database.dump(&[]).lines().count(), 3);
    assert_eq!(database.dump(&["t"]), "");
}

#[test]
fn databases_of_one_server_are_separate() {
    let (one, two) = (Postgres::shared().create_database(), Postgres::shared().create_database());
    one.query("CREATE TABLE only_here (n BIGINT)");
    assert_ne!(one.url(), two.url());
    assert_eq!(two.query("SELECT count(*) FROM pg_tables WHERE tablename = 'only_here'").trim(), "0");
}
