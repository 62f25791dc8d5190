//! Maintenance mode, and the list of replicas.

use std::convert::Infallible;

use auth_service::domain::audit::EventKind;
use auth_service::domain::authority::Actor;
use auth_service::flows::heartbeat;
use auth_service::flows::replicas as flow;
use auth_service::http::Listener;
use auth_service::store::SettingsChange;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::replica::{Answer, Call, Replica, admin_get, admin_post, get};

const DRAIN: &str = "/admin/v1/drain";

async fn drain(replica: &Replica, token: &str, method: Method) -> Answer {
    replica.send(Call::new(Listener::Admin, method, DRAIN).bearer(token)).await
}

async fn list(replica: &Replica, token: &str) -> Value {
    replica.send(admin_get("/admin/v1/replicas").bearer(token)).await.json()
}

async fn readiness(replica: &Replica) -> Value {
    replica.send(get("/readyz")).await.json()
}

#[tokio::test]
async fn a_replica_reports_its_own_state() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    assert_eq!(list(&replica, &token).await["replicas"], json!([]), "it has not told yet");
    heartbeat::beat(&replica.app).await.unwrap();
    let seen = list(&replica, &token).await;
    let key_changes = replica.app.keyring.snapshot().keys_version();
    let name = std::process::Command::new("uname").arg("-n").output().unwrap();
    let expected = json!({
        "key_changes": key_changes,
        "replicas": [{
            "id": replica.app.store.replica(),
            "name": String::from_utf8(name.stdout).unwrap().trim(),
            "version": "0.1.0",
            "public_addr": "127.0.0.1:8080",
            "admin_addr": "127.0.0.1:8081",
            "started_at": "2026-03-01T12:00:00Z",
            "seen_at": "2026-03-01T12:00:00Z",
            "state": "ready",
            "maintenance": false,
            "key_changes": key_changes,
            "keys": [{"alg": "ES256", "generation": 1}],
            "signing_lease_seconds": 900,
            "feed_lag_ms": 0,
            "settings_version": 0,
            "settings_refused": false,
            "current": true,
        }],
        "next": null,
    });
    assert_eq!(seen, expected);
    // The audit log uses it as the name of the chain.
    let audit = replica.send(admin_get("/admin/v1/audit").bearer(&token)).await.json();
    let chain = audit["events"][0]["replica"].as_str().unwrap();
    assert!(chain.starts_with(replica.app.store.replica()), "{chain}");
}

#[tokio::test]
async fn the_list_shows_which_replica_has_not_read_a_change_of_keys() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    heartbeat::beat(&replica.app).await.unwrap();
    let rotated = admin_post("/admin/v1/keys/rotate").bearer(&token);
    // The replica that rotates has read it, but not reported it.
    assert_eq!(replica.send(rotated).await.status, 201);
    let before = list(&replica, &token).await;
    assert_ne!(before["replicas"][0]["key_changes"], before["key_changes"]);
    heartbeat::beat(&replica.app).await.unwrap();
    let after = list(&replica, &token).await;
    assert_eq!(after["replicas"][0]["key_changes"], after["key_changes"]);
}

#[tokio::test]
async fn the_list_shows_which_replica_cannot_use_the_stored_settings() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    let store = &replica.app.store;
    // As a release with other limits might store it.
    let values = [("password_min_length".to_owned(), Some("7".to_owned()))].into();
    let change = SettingsChange { values, expected: None, actor: Actor::system() };
    store.change_settings(change, |_| Ok::<_, Infallible>(())).await.unwrap();
    let version = store.settings().await.unwrap().version;
    replica.app.settings.catch_up(store, version).await.unwrap();
    assert_eq!(replica.app.settings.applied().version, version);
    heartbeat::beat(&replica.app).await.unwrap();
    let seen = &list(&replica, &token).await["replicas"][0];
    assert_eq!([&seen["settings_version"], &seen["settings_refused"]], [&json!(version), &json!(true)]);
}

#[tokio::test]
async fn a_drained_replica_is_not_ready_but_serves_until_it_returns() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    let mut stream = replica.open(get("/v1/revocations/stream")).await.1;
    stream.frame().await.unwrap().unwrap();
    for _ in 0..2 {
        assert_eq!(drain(&replica, &token, Method::POST).await.status, 204, "a second time changes nothing");
        assert_eq!(readiness(&replica).await, json!({"status": "not_ready", "reasons": ["draining"]}));
    }
    assert!(stream.frame().await.is_none(), "the stream ends, so that the verifier goes elsewhere");
    replica.send(get("/v1/revocations/stream")).await.assert_problem(503, "unavailable");
    assert_eq!(replica.send(get("/livez")).await.status, 200);
    let fresh = replica.admin_token().await;
    assert_eq!(replica.send(get("/v1/verify")).await.status, 401, "everything else is served");
    heartbeat::beat(&replica.app).await.unwrap();
    let row = &list(&replica, &fresh).await["replicas"][0];
    assert_eq!((&row["state"], &row["maintenance"]), (&json!("draining"), &json!(true)));

    for _ in 0..2 {
        assert_eq!(drain(&replica, &fresh, Method::DELETE).await.status, 204);
        assert_eq!(readiness(&replica).await, json!({"status": "ok"}));
    }
    let mut stream = replica.open(get("/v1/revocations/stream")).await.1;
    stream.frame().await.unwrap().unwrap();
    heartbeat::beat(&replica.app).await.unwrap();
    let row = &list(&replica, &fresh).await["replicas"][0];
    assert_eq!((&row["state"], &row["maintenance"]), (&json!("ready"), &json!(false)));
    for (kind, times) in [(EventKind::ReplicaDrained, 2), (EventKind::ReplicaReturned, 2)] {
        let audit = replica.send(admin_get("/admin/v1/audit").bearer(&fresh)).await.json();
        let of_kind =
            audit["events"].as_array().unwrap().iter().filter(|event| event["event"] == kind.as_str());
        let subjects: Vec<_> = of_kind.map(|event| event["subject"].as_str().unwrap()).collect();
        assert_eq!(subjects, vec![replica.app.store.replica(); times]);
    }
}

#[tokio::test]
async fn a_drain_requested_through_the_database_starts_at_the_next_heartbeat() {
    let replica = Replica::start().await;
    let (app, actor) = (&replica.app, Actor::command_line("alice@db1", None));
    let id = app.store.replica().to_owned();
    assert!(matches!(flow::drain(&app.store, &actor, &id, true).await, Err(flow::ReplicaError::NotFound)));
    heartbeat::beat(app).await.unwrap();
    for wanted in [true, false] {
        flow::drain(&app.store, &actor, &id, wanted).await.unwrap();
        assert_ne!(app.drain.is_on(), wanted, "it has not heard yet");
        heartbeat::beat(app).await.unwrap();
        assert_eq!(app.drain.is_on(), wanted);
    }
}

#[tokio::test]
async fn a_replica_that_is_stopping_does_not_return_to_the_rotation() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    replica.app.drain.stop();
    assert_eq!(drain(&replica, &token, Method::DELETE).await.status, 204);
    assert_eq!(readiness(&replica).await["reasons"], json!(["draining"]));
    heartbeat::beat(&replica.app).await.unwrap();
    assert_eq!(list(&replica, &token).await["replicas"][0]["state"], "stopping");
    heartbeat::leave(&replica.app.store).await;
    assert_eq!(list(&replica, &token).await["replicas"], json!([]));
}

#[tokio::test]
async fn a_failed_heartbeat_changes_nothing() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    assert_eq!(drain(&replica, &token, Method::POST).await.status, 204);
    replica.app.store.close().await;
    assert!(heartbeat::beat(&replica.app).await.is_err());
    assert_eq!(readiness(&replica).await["reasons"], json!(["draining"]));
}
