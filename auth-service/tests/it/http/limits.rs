//! Limits on logins: they hit who guesses, and not whose name is guessed.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::replica::{ADMIN_PASSWORD, Answer, PASSWORD, Replica, post};

const WRONG: &str = "wrong password here";

async fn with_alice() -> Replica {
    let replica = Replica::start().await;
    let admin = replica.admin_token().await;
    replica.create_user(&admin, "alice", &[]).await;
    replica
}

async fn attempt(replica: &Replica, peer: &str, password: &str, device: Option<&Value>) -> Answer {
    let mut body = json!({"username": "alice", "password": password});
    if let Some(device) = device {
        body["device"] = device.clone();
    }
    replica.send(post("/v1/login").from(peer).json(&body)).await
}

fn statuses(answers: &[Answer]) -> [usize; 3] {
    [200, 401, 429].map(|status| answers.iter().filter(|answer| answer.status == status).count())
}

/// An attacker with 200 networks, each of which guesses alice's password at the same moment.
async fn spray(replica: &Replica) -> [usize; 3] {
    let peers: Vec<String> = (0..200).map(|n| format!("198.51.100.{n}")).collect();
    statuses(&join_all(peers.iter().map(|peer| attempt(replica, peer, WRONG, None))).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn owner_logs_in_from_a_known_device_and_a_known_network_while_strangers_guess() {
    let replica = with_alice().await;
    let device = attempt(&replica, "192.0.2.1", PASSWORD, None).await.json()["device"].clone();
    for _ in 0..3 {
        replica.advance(1).await;
        let owner = async {
            [
                attempt(&replica, "192.0.2.1", PASSWORD, None).await.status.as_u16(),
                attempt(&replica, "203.0.113.7", PASSWORD, Some(&device)).await.status.as_u16(),
            ]
        };
        let (strangers, owner) = tokio::join!(spray(&replica), owner);
        assert_eq!(owner, [200, 200]);
        assert_eq!(strangers, [0, 1, 199], "all strangers together have one guess in this second");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn burst_from_a_known_network_gets_five_guesses() {
    let replica = with_alice().await;
    attempt(&replica, "192.0.2.1", PASSWORD, None).await;
    let burst = join_all((0..200).map(|_| attempt(&replica, "192.0.2.1", WRONG, None))).await;
    assert_eq!(statuses(&burst), [0, 5, 195]);
    attempt(&replica, "192.0.2.1", PASSWORD, None).await.assert_problem(429, "too_many_attempts");
    replica.advance(1).await;
    assert_eq!(attempt(&replica, "192.0.2.1", PASSWORD, None).await.status, 200, "the wait is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn device_with_five_failures_is_void_until_the_next_login() {
    let replica = with_alice().await;
    let device = attempt(&replica, "192.0.2.1", PASSWORD, None).await.json()["device"].clone();
    replica.advance(1).await;
    let elsewhere = "203.0.113.7";
    for _ in 0..5 {
        attempt(&replica, elsewhere, WRONG, Some(&device)).await.assert_problem(401, "invalid_credentials");
    }
    // A stranger has this second, and the device is one, too.
    attempt(&replica, "198.51.100.1", WRONG, None).await.assert_problem(401, "invalid_credentials");
    attempt(&replica, elsewhere, PASSWORD, Some(&device)).await.assert_problem(429, "too_many_attempts");
    replica.advance(1).await;
    let again = attempt(&replica, elsewhere, PASSWORD, Some(&device)).await;
    assert_eq!(again.status, 200);
    assert_ne!(again.json()["device"], device, "a new value, because the old one was not good");
}

#[tokio::test(flavor = "multi_thread")]
async fn device_keeps_its_value_and_dies_with_the_password() {
    let replica = with_alice().await;
    let login = attempt(&replica, "192.0.2.1", PASSWORD, None).await.json();
    let again = attempt(&replica, "192.0.2.2", PASSWORD, Some(&login["device"])).await.json();
    assert_eq!(again["device"], login["device"]);
    let new_password = "nine-copper-lantern-foxes";
    let body = json!({"current_password": PASSWORD, "new_password": new_password, "device": login["device"]});
    let token = again["access_token"].as_str().unwrap();
    let changed = replica.send(post("/v1/me/password").bearer(token).json(&body)).await;
    assert_eq!(changed.status, 200);
    let new = changed.json()["device"].clone();
    assert_ne!(new, login["device"]);
    let known = attempt(&replica, "192.0.2.3", new_password, Some(&new)).await;
    assert_eq!(known.json()["device"], new, "it is good");
    let old = attempt(&replica, "192.0.2.3", new_password, Some(&login["device"])).await;
    assert_ne!(old.json()["device"], login["device"], "it is void");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_device_value_gets_the_same_refusal() {
    let replica = with_alice().await;
    let good = attempt(&replica, "192.0.2.1", PASSWORD, None).await.json()["device"].clone();
    let admin = json!({"username": "admin", "password": ADMIN_PASSWORD});
    let foreign = replica.send(post("/v1/login").json(&admin)).await.json()["device"].clone();
    let mut answers = Vec::new();
    for device in [None, Some(good), Some(foreign), Some(json!("dv1.nonsense")), Some(json!(""))] {
        replica.advance(1).await;
        let mut body = json!({"username": "alice", "password": WRONG});
        if let Some(device) = device {
            body["device"] = device;
        }
        let call = post("/v1/login").from("192.0.2.9").header("x-request-id", "same").json(&body);
        let answer = replica.send(call).await;
        answers.push((answer.status, answer.headers, answer.body));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_guess_do_not_keep_a_signed_in_user_from_their_password() {
    let replica = with_alice().await;
    let login = attempt(&replica, "192.0.2.1", PASSWORD, None).await.json();
    for _ in 0..10 {
        spray(&replica).await;
        replica.advance(1).await;
    }
    let body = json!({"current_password": PASSWORD, "new_password": "nine-copper-lantern-foxes"});
    let token = login["access_token"].as_str().unwrap();
    let changed = replica.send(post("/v1/me/password").from("192.0.2.1").bearer(token).json(&body)).await;
    assert_eq!(changed.status, 204, "{}", changed.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_of_one_user_are_limited_and_those_of_others_are_not() {
    let replica = with_alice().await;
    for number in 0..60 {
        assert_eq!(attempt(&replica, "192.0.2.1", PASSWORD, None).await.status, 200, "{number}");
    }
    attempt(&replica, "192.0.2.1", PASSWORD, None).await.assert_problem(429, "too_many_attempts");
    replica.login("admin", ADMIN_PASSWORD, "api").await;
    replica.advance(6).await;
    assert_eq!(attempt(&replica, "192.0.2.1", PASSWORD, None).await.status, 200, "one each six seconds");
    attempt(&replica, "192.0.2.1", PASSWORD, None).await.assert_problem(429, "too_many_attempts");
}

#[tokio::test(flavor = "multi_thread")]
async fn site_of_many_ipv6_networks_has_a_limit_of_its_own() {
    let replica = Replica::start().await;
    let guess = async |network: usize, name: usize| {
        let body = json!({"username": format!("user{name}"), "password": WRONG});
        let peer = format!("2001:db8:1:{network:x}::7");
        replica.send(post("/v1/login").from(&peer).json(&body)).await.status.as_u16()
    };
    for name in 0..100 {
        assert_eq!(guess(name, name).await, 401);
    }
    assert_eq!(guess(1_000, 1_000).await, 429, "another /64 of the same /48");
    let body = json!({"username": "other", "password": WRONG});
    let elsewhere = replica.send(post("/v1/login").from("2001:db8:2::7").json(&body)).await;
    elsewhere.assert_problem(401, "invalid_credentials");
}
