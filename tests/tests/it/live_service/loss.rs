//! Acknowledged messages arrive despite failures.

use std::time::Duration;

use e2e::clock;
use e2e::live::{Event, Socket};
use e2e::passage::Passage;
use e2e::postgres::{Postgres, Stop};
use e2e::process::{Signal, allow_open_files};
use e2e::random::Random;
use e2e::wait;
use http::{StatusCode, header};
use serde_json::json;
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::{REPLICAS, Scene};
use crate::TURN;

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_sockets_move_when_a_replica_drains_without_a_login_or_a_lost_message() {
    const USERS: usize = 50;
    const DEVICES: usize = 40;
    const SPREAD: Duration = Duration::from_secs(3);
    let _turn = TURN.lock().await;
    // HAProxy inherits the limit, and needs two files for each socket.
    allow_open_files(8_000);
    // HAProxy needs 2 s to detect it.
    let environment = [("DRAIN_DELAY", "3"), ("DRAIN_SPREAD", "3")];
    let cheap_logins =
        |plan: e2e::cluster::Plan| plan.set("hash_memory_kib", "7168").set("hash_iterations", "5");
    let scene = Scene::set_with(cheap_logins, &environment).await;
    let fleet = scene.fleet((USERS, DEVICES), (1, Duration::from_secs(2))).await;
    let spread = fleet.spread();
    println!("sockets by replica: {spread:?}");
    assert_eq!((spread.len(), spread.values().sum::<usize>()), (REPLICAS, USERS * DEVICES));
    assert!(spread.values().all(|sockets| sockets.abs_diff(USERS * DEVICES / REPLICAS) <= 1), "{spread:?}");
    let logins = || scene.issuers_database.query("SELECT count(*) FROM sessions").trim().to_owned();
    let logins_before = logins();
    fleet.acknowledge(USERS).await;

    let leaving = &scene.live.replicas()[0];
    let left_at = clock::instant();
    leaving.signal(Signal::TERM);
    wait::until("readiness says no", Duration::from_secs(2), async || {
        let ready = leaving.client().get("/readyz").await.expect("it still listens");
        (ready.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    assert_eq!(fleet.ends(), [], "readiness comes first");
    assert!(leaving.ended(Duration::from_secs(20)).await.success());
    assert!(left_at.elapsed() >= SPREAD, "sockets close one after another");
    fleet.back(Duration::from_secs(20)).await;
    println!("all are back {:?} after SIGTERM", left_at.elapsed());

    // Only the sockets of the replica that left.
    let farewell = Event::Closed(1012, "draining".to_owned());
    assert_eq!(fleet.ends(), vec![farewell; spread["0"]]);
    let spread = fleet.spread();
    println!("sockets by replica: {spread:?}");
    assert_eq!((spread.len(), spread.values().sum::<usize>()), (REPLICAS - 1, USERS * DEVICES));
    assert!(!spread.contains_key("0"), "{spread:?}");
    fleet.acknowledge(USERS).await;
    fleet.judge().await;
    assert_eq!(logins(), logins_before, "nobody had to log in");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_replicas_lose_no_acknowledged_message() {
    let _turn = TURN.lock().await;
    let random = Random::announced("live-kill");
    let scene = Scene::set().await;
    let fleet = scene.fleet((6, 9), (9, Duration::from_millis(200))).await;
    fleet.acknowledge(100).await;
    // Two of the three, in any order, while the third continues.
    let first = random.below(REPLICAS);
    for victim in [first, (first + 1) % REPLICAS] {
        scene.live.replicas()[victim].kill();
        fleet.back(Duration::from_secs(20)).await;
        fleet.acknowledge(100).await;
    }
    let ends = fleet.ends();
    assert!(ends.len() >= 18 && ends.iter().all(|end| *end == Event::Broken), "{ends:?}");
    fleet.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_lost_while_no_replica_listens_to_the_database() {
    let _turn = TURN.lock().await;
    let scene = Scene::set().await;
    let user = scene.user("alice", &[]).await;
    let token = scene.log_in(&user).await.access;
    let mut sockets = scene.open_all(&token).await;
    let mut sender = scene.open(0, &token).await;
    sender.deliver("before", "hello").await;

    // The listening connections break, and new ones are refused.
    let name = scene.database.query("SELECT current_database()").trim().to_owned();
    let limit = |limit: i32| scene.database.query(&format!("ALTER DATABASE {name} CONNECTION LIMIT {limit}"));
    limit(0);
    let cut = scene.database.query(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND query LIKE 'LISTEN %'",
    );
    assert_eq!(cut.trim(), REPLICAS.to_string());
    for replica in scene.live.replicas() {
        wait::until("the replica notices", Duration::from_secs(5), async || {
            let ready = replica.client().get("/readyz").await.expect("an answer");
            (ready.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
        })
        .await;
    }
    // A replica whose open connections are all in use cannot open another one, and says so.
    for number in 1..=10 {
        sender.deliver_eventually(&format!("id-{number}"), "does anybody hear me?").await;
    }
    for socket in &mut sockets {
        assert_eq!(socket.message().await["id"], "before");
        let silence = timeout(Duration::from_millis(300), socket.next()).await;
        assert!(silence.is_err(), "nobody listens: {silence:?}");
    }
    limit(-1);
    for socket in &mut sockets {
        for number in 1..=10 {
            assert_eq!(socket.message().await["id"], format!("id-{number}"));
        }
    }
    for replica in scene.live.replicas() {
        replica.await_ready().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_and_frozen_database_loses_no_acknowledged_message() {
    let _turn = TURN.lock().await;
    let postgres: &'static Postgres = Box::leak(Box::new(Postgres::start()));
    let database = postgres.create_database();
    let url = database.url();
    let scene = Scene::set_on(database, &url, |plan| plan, &[]).await;
    let fleet = scene.fleet((3, 6), (6, Duration::from_millis(200))).await;
    fleet.acknowledge(50).await;

    postgres.stop(Stop::Immediate);
    wait::let_pass(Duration::from_secs(2)).await;
    let [ready, live] = ["/readyz", "/livez"]
        .map(async |path| scene.live.replicas()[0].client().get(path).await.expect("an answer").status);
    assert_eq!((ready.await, live.await), (StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK));
    postgres.start_again();
    fleet.acknowledge(50).await;

    // No connection breaks, but the database does not respond.
    postgres.freeze();
    wait::let_pass(Duration::from_secs(12)).await;
    postgres.thaw();
    fleet.acknowledge(50).await;
    fleet.back(Duration::from_secs(20)).await;
    for replica in scene.live.replicas() {
        replica.await_ready().await;
    }
    fleet.judge().await;
    postgres.stop(Stop::Immediate);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_database_connections_lose_no_acknowledged_message() {
    let _turn = TURN.lock().await;
    let database = Postgres::shared().create_database();
    let passage = Passage::to(database.port()).await;
    let url = database.url_at(passage.port());
    let scene = Scene::set_on(database, &url, |plan| plan, &[]).await;
    let fleet = scene.fleet((2, 6), (6, Duration::from_millis(200))).await;
    fleet.acknowledge(30).await;
    // New connections work again immediately; existing ones are dead without notice.
    passage.swallow();
    wait::let_pass(Duration::from_secs(1)).await;
    passage.let_through();
    fleet.acknowledge(30).await;
    fleet.back(Duration::from_secs(20)).await;
    fleet.judge().await;
    for replica in scene.live.replicas() {
        replica.await_ready().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_client_is_disconnected_and_resumes_later() {
    const MESSAGES: i64 = 1_500;
    let _turn = TURN.lock().await;
    let scene = Scene::set().await;
    let user = scene.user("alice", &[]).await;
    let token = scene.log_in(&user).await.access;
    let address = scene.live.replicas()[0].address();
    let connection = TcpSocket::new_v4().expect("a socket");
    connection.set_recv_buffer_size(4 * 1024).expect("a small buffer");
    let connection = connection.connect(address).await.expect("it listens");
    let bearer = [(header::AUTHORIZATION, format!("Bearer {token}"))];
    let mut slow = Socket::open_over(connection, None, &bearer).await.expect("a socket");
    let mut quick = scene.open(0, &token).await;
    let mut sender = scene.open(0, &token).await;

    // More than the capacity of the buffers in between.
    let body = "x".repeat(5_900);
    for number in 1..=MESSAGES {
        sender.deliver(&number.to_string(), &body).await;
        assert_eq!(quick.message().await["seq"], json!(number), "nobody waits for the slow one");
    }
    wait::until("the slow one is let go", Duration::from_secs(20), async || {
        scene.live.replicas()[0].log().contains("reads too slowly").then_some(())
    })
    .await;
    let mut seen = 0;
    while let Event::Said(said) = slow.next().await {
        seen += 1;
        assert_eq!(said["seq"], seen);
    }
    assert!((1..MESSAGES).contains(&seen), "it saw {seen}");
    let mut back = Socket::open(address, &token, Some(seen)).await.expect("a socket");
    for number in seen + 1..=MESSAGES {
        assert_eq!(back.message().await["seq"], number);
    }
}
