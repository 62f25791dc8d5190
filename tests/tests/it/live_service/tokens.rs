//! A socket lives as long as its token, which can be renewed.

use std::time::Duration;

use e2e::clock;
use e2e::jwt::Peek;
use e2e::live::{Refused, Socket};
use http::{StatusCode, header};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Scene;

/// The issuer's promise for connected verifiers.
const REACH: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn socket_is_closed_when_its_token_expires_unless_it_was_renewed() {
    let scene = short_lived().await;
    let user = scene.user("alice", &[]).await;
    let first = scene.log_in(&user).await;
    let mut left = scene.open(0, &first.access).await;
    let mut renewed = scene.open(1, &first.access).await;
    let exp = Peek::into(&first.access).exp;
    assert_eq!(left.welcome()["expires_at"], exp);

    // The token is refreshed at the issuer and presented at a replica that has never seen the session.
    e2e::wait::let_pass(Duration::from_secs(2)).await;
    let second = scene.cluster.client().refresh(&first.refresh).await.expect("an answer").tokens();
    let answer = renewed.ask(&renew(&second.access)).await;
    let later = Peek::into(&second.access).exp;
    assert!(later > exp);
    assert_eq!(answer, json!({ "type": "renewed", "expires_at": later }));

    assert_eq!(left.closed().await, (1008, "expired".to_owned()));
    let closed_at = clock::unix_seconds();
    assert!((exp + 1..=exp + 3).contains(&closed_at), "closed at {closed_at}, exp {exp}, leeway 1");
    assert_eq!(renewed.deliver("x", "still here").await, 1);
    assert_eq!(renewed.closed().await, (1008, "expired".to_owned()));
    assert!(clock::unix_seconds() > later);
}

#[tokio::test(flavor = "multi_thread")]
async fn renewal_with_a_token_of_another_user_changes_nothing() {
    let scene = short_lived().await;
    let user = scene.user("alice", &[]).await;
    let other = scene.user("bob", &[]).await;
    let own = scene.log_in(&user).await;
    let mut socket = scene.open(0, &own.access).await;
    e2e::wait::let_pass(Duration::from_secs(2)).await;
    let cases = [
        (scene.log_in(&other).await.access, "other_subject"),
        (scene.log_in(&user).await.access, "other_session"),
        ("junk".to_owned(), "invalid_token"),
    ];
    for (token, code) in cases {
        let answer = socket.ask(&renew(&token)).await;
        assert_eq!(answer, json!({ "type": "error", "code": code, "id": null }));
    }
    assert_eq!(socket.deliver("x", "the old token still counts").await, 1);
    assert_eq!(socket.closed().await, (1008, "expired".to_owned()));
    assert!(clock::unix_seconds() <= Peek::into(&own.access).exp + 3, "the refused ones did not count");
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_closes_the_sessions_sockets_on_all_replicas_within_a_second() {
    let scene = Scene::set().await;
    let user = scene.user("alice", &[]).await;
    let (ends, stays) = (scene.log_in(&user).await, scene.log_in(&user).await);
    let mut ending = scene.open_all(&ends.access).await;
    let mut staying = scene.open_all(&stays.access).await;

    let logout = scene.cluster.client().logout(&ends.refresh).await.expect("an answer");
    logout.assert_status(StatusCode::NO_CONTENT);
    let acknowledged_at = clock::instant();
    for socket in &mut ending {
        assert_eq!(socket.closed().await, (1008, "revoked_session".to_owned()));
    }
    let took = acknowledged_at.elapsed();
    assert!(took <= REACH, "{took:?}");
    for (replica, socket) in scene.live.replicas().iter().zip(&mut staying) {
        let again = Socket::open(replica.address(), &ends.access, None).await;
        assert_eq!(again.err(), Some(Refused::Status(401)));
        socket.deliver(&replica.address().to_string(), "still here").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_opens_only_with_a_valid_token() {
    let origins = "https://app.example.com,https://www.example.com";
    let scene = Scene::set_with(|plan| plan, &[("ALLOWED_ORIGINS", origins)]).await;
    let user = scene.user("alice", &[]).await;
    let token = scene.log_in(&user).await.access;
    let open = async |headers: &[(header::HeaderName, String)]| {
        let address = scene.live.address();
        Socket::open_with(address, None, headers).await.map(|socket| socket.welcome()["type"].clone())
    };
    let bearer = |token: &str| (header::AUTHORIZATION, format!("Bearer {token}"));
    let origin = |origin: &str| (header::ORIGIN, origin.to_owned());
    let welcome = Ok(json!("welcome"));
    assert_eq!(open(&[]).await, Err(Refused::Status(401)));
    assert_eq!(open(&[bearer("junk")]).await, Err(Refused::Status(401)));
    assert_eq!(open(&[bearer(&token)]).await, welcome);
    // Like a browser, from an allowed origin and from another one.
    let offer = (header::SEC_WEBSOCKET_PROTOCOL, browser_offer(&token));
    assert_eq!(open(&[offer.clone(), origin("https://app.example.com")]).await, welcome);
    assert_eq!(open(&[offer, origin("https://evil.example.com")]).await, Err(Refused::Status(403)));
    assert_eq!(open(&[bearer(&token), origin("null")]).await, Err(Refused::Status(403)));
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_per_user_and_replica_are_limited() {
    let scene = Scene::set_with(|plan| plan, &[("MAX_SOCKETS", "66")]).await;
    let user = scene.user("alice", &[]).await;
    let other = scene.user("bob", &[]).await;
    let (token, others) = (scene.log_in(&user).await.access, scene.log_in(&other).await.access);
    let mut sockets = Vec::new();
    for _ in 0..64 {
        sockets.push(scene.open(0, &token).await);
    }
    let address = scene.live.replicas()[0].address();
    let refused = async |token: &str| Socket::open(address, token, None).await.err();
    assert_eq!(refused(&token).await, Some(Refused::Status(429)));
    // The refused one has no effect.
    sockets.push(scene.open(0, &others).await);
    sockets.push(scene.open(0, &others).await);
    assert_eq!(refused(&others).await, Some(Refused::Status(503)), "the replica is full");
    sockets.clear();
    e2e::wait::until("there is room again", Duration::from_secs(5), async || {
        Socket::open(address, &token, None).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_without_pongs_is_disconnected() {
    let scene = Scene::set_with(|plan| plan, &[("PING_INTERVAL", "0.3"), ("MAX_SOCKETS", "1")]).await;
    let user = scene.user("alice", &[]).await;
    let token = scene.log_in(&user).await.access;
    let mut socket = scene.open(0, &token).await;
    let address = scene.live.replicas()[0].address();
    // It responds to pings while it waits for a frame.
    assert!(timeout(Duration::from_secs(2), socket.next()).await.is_err());
    assert_eq!(Socket::open(address, &token, None).await.err(), Some(Refused::Status(503)));
    // Now it does not respond; the client keeps the connection open.
    e2e::wait::until("its place is free", Duration::from_secs(5), async || {
        Socket::open(address, &token, None).await.ok()
    })
    .await;
}

/// Tokens live for 6 s, and a second longer at the live-service.
async fn short_lived() -> Scene {
    let plan = |plan: e2e::cluster::Plan| {
        plan.set("access_token_ttl", "6s").set("leeway", "1s").set("refresh_grace", "2s")
    };
    Scene::set_with(plan, &[("LEEWAY", "1")]).await
}

fn renew(token: &str) -> Value {
    json!({ "type": "renew", "access_token": token })
}

fn browser_offer(token: &str) -> String {
    use base64::Engine as _;
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token);
    format!("live, base64url.bearer.authorization.k8s.io.{token}")
}
