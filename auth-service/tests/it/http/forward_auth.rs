//! Forward authentication.

use std::sync::Arc;
use std::time::Duration;

use auth_service::boot;
use auth_service::config::Loaded;
use auth_service::entropy::SeededEntropy;
use auth_service::http::Listener;
use auth_service::jobs;
use auth_service::keys::keyring::LookupBy;
use auth_service::runtime::app::App;
use auth_service::store::Confirmation;
use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use http::{Method, Request};
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt as _;
use verifier::{Clock as _, Seconds};

use super::replica::{ADMIN_PASSWORD, Answer, Call, PASSWORD, Replica, admin_get, admin_post, get, post};

const VERIFY: &str = "/v1/verify";

/// Alice has `ping` and `orders:read`; there are two audiences, `api` first.
async fn with_alice() -> (Replica, String) {
    let audiences = vec!["api".to_owned(), "billing".to_owned()];
    let replica = Replica::loaded(|loaded| loaded.settings.audiences = audiences).await;
    let admin = replica.admin_token().await;
    replica.put_role(&admin, "clerk", &["orders:read", "ping"]).await;
    replica.put_role(&admin, "auditor", &[]).await;
    replica.create_user(&admin, "alice", &["clerk", "auditor"]).await;
    (replica, admin)
}

async fn token(replica: &Replica, audience: &str) -> String {
    text(&replica.login("alice", PASSWORD, audience).await["access_token"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

async fn ask(replica: &Replica, query: &str, token: &str) -> Answer {
    replica.send(get(&format!("{VERIFY}{query}")).bearer(token)).await
}

/// Compromises the active key; its successor replaces it.
async fn compromise(replica: &Replica, admin: &str) {
    let kid = replica.app.keyring.snapshot().keys()[0].row.key.kid.to_string();
    let path = format!("/admin/v1/keys/{kid}/compromise");
    assert_eq!(replica.send(admin_post(&path).bearer(admin)).await.status, 200);
}

#[tokio::test]
async fn a_valid_token_passes_and_the_headers_name_its_user() {
    let (replica, _) = with_alice().await;
    let tokens = replica.login("alice", PASSWORD, "api").await;
    let me = replica.send(get("/v1/me").bearer(&text(&tokens["access_token"]))).await.json();
    let answer = ask(&replica, "", &text(&tokens["access_token"])).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    assert_eq!(answer.header("x-auth-subject"), me["sub"].as_str());
    assert_eq!(answer.header("x-auth-roles"), Some("auditor clerk"));
    assert_eq!(answer.header("x-auth-permissions"), Some("orders:read ping"));
    assert_eq!(answer.header("x-auth-session"), tokens["session_id"].as_str());
}

#[tokio::test]
async fn a_user_without_roles_and_permissions_passes_with_empty_headers() {
    let (replica, admin) = with_alice().await;
    replica.create_user(&admin, "bob", &[]).await;
    let tokens = replica.login("bob", PASSWORD, "api").await;
    let answer = ask(&replica, "", &text(&tokens["access_token"])).await;
    assert_eq!(answer.status, 200);
    assert_eq!((answer.header("x-auth-roles"), answer.header("x-auth-permissions")), (Some(""), Some("")));
}

#[tokio::test]
async fn every_method_is_handled_like_get() {
    // With CORS: its layer would otherwise handle OPTIONS.
    let replica =
        Replica::with(|config| config.cors_allowed_origins = vec!["https://a.example".to_owned()]).await;
    let token = text(&replica.login("admin", ADMIN_PASSWORD, "api").await["access_token"]);
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
        let call = || {
            Call::new(Listener::Public, Method::from_bytes(method.as_bytes()).unwrap(), VERIFY)
                .header("origin", "https://a.example")
                .header("access-control-request-method", "POST")
        };
        let (status, headers) = replica.send_to_layers(call().bearer(&token)).await;
        assert_eq!((status.as_u16(), headers.contains_key("x-auth-subject")), (200, true), "{method}");
        let (status, headers) = replica.send_to_layers(call()).await;
        assert_eq!(
            (status.as_u16(), headers["www-authenticate"].to_str().unwrap()),
            (401, "Bearer"),
            "{method}"
        );
        assert!(
            !headers.contains_key("access-control-allow-origin"),
            "{method}: no script has business here"
        );
    }
    let with_body = Call::new(Listener::Public, Method::GET, VERIFY).bearer(&token).bytes("not JSON");
    assert_eq!(replica.send(with_body).await.status, 200);
}

#[tokio::test]
async fn an_invalid_token_is_refused_with_the_challenge_of_rfc_6750() {
    let (replica, _) = with_alice().await;
    let token = token(&replica, "api").await;
    let missing = replica.send(get(VERIFY)).await;
    missing.assert_problem(401, "missing_token");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let altered = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    for bad in ["", "x", "a.b.c", &altered] {
        let answer = ask(&replica, "", bad).await;
        answer.assert_problem(401, "invalid_token");
        assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer error="invalid_token""#));
        assert!(answer.header("x-auth-subject").is_none());
    }
    let twice = get(VERIFY).bearer(&token).bearer(&token);
    replica.send(twice).await.assert_problem(401, "invalid_token");
    replica.clock.advance(Seconds(300 + 29));
    assert_eq!(ask(&replica, "", &token).await.status, 200);
    replica.clock.advance(Seconds(1));
    ask(&replica, "", &token).await.assert_problem(401, "invalid_token");
}

#[tokio::test]
async fn a_token_passes_for_its_audience_only_and_an_admin_token_never() {
    let (replica, admin) = with_alice().await;
    let (api, billing) = (token(&replica, "api").await, token(&replica, "billing").await);
    for (query, api_passes, billing_passes) in [
        ("", true, false),
        ("?audience=api", true, false),
        ("?audience=billing", false, true),
        ("?audience=api&audience=billing", true, true),
    ] {
        for (token, passes) in [(&api, api_passes), (&billing, billing_passes), (&admin, false)] {
            let status = ask(&replica, query, token).await.status.as_u16();
            assert_eq!(status, if passes { 200 } else { 401 }, "{query}");
        }
    }
    for other in ["auth-admin", "nobody", ""] {
        ask(&replica, &format!("?audience={other}"), &admin).await.assert_problem(400, "invalid_target");
    }
}

#[tokio::test]
async fn every_required_permission_must_be_in_the_token() {
    let (replica, _) = with_alice().await;
    let token = token(&replica, "api").await;
    for good in ["ping", "orders:read", "ping&permission=orders:read", "ping%20orders:read", "ping+ping"] {
        assert_eq!(ask(&replica, &format!("?permission={good}"), &token).await.status, 200, "{good}");
    }
    for (query, needed) in [
        ("?permission=pong", "pong"),
        ("?permission=ping&permission=pong", "ping pong"),
        ("?permission=pong%20ping", "ping pong"),
        ("?permission=PING", "PING"),
    ] {
        let answer = ask(&replica, query, &token).await;
        answer.assert_problem(403, "insufficient_scope");
        let challenge = format!(r#"Bearer error="insufficient_scope", scope="{needed}""#);
        assert_eq!(answer.header("www-authenticate"), Some(challenge.as_str()));
    }
    for (query, code) in [
        ("?permission=", "invalid_permission"),
        ("?permission=a%20%20b", "invalid_permission"),
        ("?permission=%22", "invalid_permission"),
        ("?permission=%0d%0a", "invalid_permission"),
        ("?permissions=ping", "malformed_request"),
        ("?permission[]=ping", "malformed_request"),
        ("?ping", "malformed_request"),
    ] {
        ask(&replica, query, &token).await.assert_problem(400, code);
    }
}

#[tokio::test]
async fn an_ended_session_is_refused_from_memory_as_soon_as_the_feed_has_it() {
    let (replica, _) = with_alice().await;
    let tokens = replica.login("alice", PASSWORD, "api").await;
    let other = token(&replica, "api").await;
    let body = json!({"refresh_token": tokens["refresh_token"]});
    assert_eq!(replica.send(post("/v1/logout").json(&body)).await.status, 204);
    replica.app.feed.poll().await.unwrap();
    // From here on, the database cannot be used.
    replica.app.store.close().await;
    ask(&replica, "", &text(&tokens["access_token"])).await.assert_problem(401, "invalid_token");
    assert_eq!(ask(&replica, "", &other).await.status, 200);
    replica.send(get("/v1/me").bearer(&other)).await.assert_problem(503, "unavailable");
}

#[tokio::test]
async fn a_token_of_a_compromised_key_is_refused_and_one_of_its_successor_passes() {
    let (replica, admin) = with_alice().await;
    let before = token(&replica, "api").await;
    compromise(&replica, &admin).await;
    ask(&replica, "", &before).await.assert_problem(401, "invalid_token");
    assert_eq!(ask(&replica, "", &token(&replica, "api").await).await.status, 200);
}

/// Another replica on the same database, before its first read of the feed.
struct Beside {
    app: App,
    router: Router,
}

impl Beside {
    async fn start(replica: &Replica) -> Self {
        let config = (*replica.app.config).clone();
        let settings = (*replica.app.settings()).clone();
        let entropy = Arc::new(SeededEntropy::new(2));
        let loaded = Loaded { config, settings, ..Loaded::default() };
        let app = boot::start(loaded, replica.clock.clone(), entropy).await.unwrap();
        Self { router: auth_service::http::public(app.clone()), app }
    }

    /// The status of the response, and whether it has `retry-after`.
    async fn ask(&self, path: &str, token: &str) -> (u16, bool) {
        let request = Request::get(path).header("authorization", format!("Bearer {token}"));
        let answer = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        (answer.status().as_u16(), answer.headers().contains_key("retry-after"))
    }
}

#[tokio::test]
async fn an_unknown_key_is_looked_up_once_a_second() {
    let (replica, admin) = with_alice().await;
    let beside = Beside::start(&replica).await;
    beside.app.feed.poll().await.unwrap();
    compromise(&replica, &admin).await;
    let token = token(&replica, "api").await;
    assert_eq!(beside.ask(VERIFY, &token).await.0, 200, "although it has not polled");
    // Another unknown key within the second causes no read.
    beside.app.store.close().await;
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"at+jwt","alg":"ES256","kid":"made-up"}"#);
    let unknown = format!("{header}.{}", token.split_once('.').unwrap().1);
    assert_eq!(beside.ask(VERIFY, &unknown).await, (401, false));
    replica.clock.advance(Seconds(2));
    for _ in 0..2 {
        assert_eq!(beside.ask(VERIFY, &unknown).await, (503, true), "it cannot tell, nor can who asks next");
    }
    assert_eq!(beside.ask(VERIFY, &token).await.0, 200);
}

#[tokio::test]
async fn concurrent_requests_with_a_new_key_all_pass() {
    let (replica, admin) = with_alice().await;
    let beside = Beside::start(&replica).await;
    beside.app.feed.poll().await.unwrap();
    compromise(&replica, &admin).await;
    let token = token(&replica, "api").await;
    let asked = join_all((0..5).map(|_| beside.ask(VERIFY, &token))).await;
    assert_eq!(asked, [(200, false); 5]);
}

#[tokio::test]
async fn made_up_kids_do_not_delay_the_lookup_of_a_refresh_token_s_key() {
    let (replica, admin) = with_alice().await;
    let app = Beside::start(&replica).await.app;
    app.keyring.look_up(&app.store, LookupBy::Kid).await.unwrap();
    compromise(&replica, &admin).await;
    let newest = replica.app.keyring.snapshot().keys_version();
    app.keyring.look_up(&app.store, LookupBy::Kid).await.unwrap();
    assert_ne!(app.keyring.snapshot().keys_version(), newest, "once a second");
    assert!(app.keyring.find_mac_key(&app.store, 1_000).await.unwrap().is_none());
    assert_eq!(app.keyring.snapshot().keys_version(), newest);
}

#[tokio::test]
async fn revocations_apply_while_the_keys_cannot_be_read() {
    let (replica, admin) = with_alice().await;
    let beside = Beside::start(&replica).await;
    beside.app.feed.poll().await.unwrap();
    let (of_old_key, ended) = (token(&replica, "api").await, replica.login("alice", PASSWORD, "api").await);
    assert_eq!(beside.ask(VERIFY, &of_old_key).await.0, 200);
    compromise(&replica, &admin).await;
    let body = json!({"refresh_token": ended["refresh_token"]});
    assert_eq!(replica.send(post("/v1/logout").json(&body)).await.status, 204);
    // An error of the database, not of the keys.
    replica.execute("ALTER TABLE keys RENAME TO away").await;
    beside.app.feed.poll().await.unwrap_err();
    assert_eq!(beside.ask(VERIFY, &of_old_key).await.0, 401);
    assert_eq!(beside.ask(VERIFY, &text(&ended["access_token"])).await.0, 401);
    assert_eq!(beside.app.feed.entries(), 2);
    let document = beside.app.feed.snapshot().await;
    assert!(document.is_err(), "not signed: perhaps the key is the compromised one");
    replica.execute("ALTER TABLE away RENAME TO keys").await;
    beside.app.feed.poll().await.unwrap();
    beside.app.feed.snapshot().await.unwrap();
}

#[tokio::test]
async fn a_replica_that_cannot_use_the_newest_keys_returns_503() {
    let (replica, admin) = with_alice().await;
    let beside = Beside::start(&replica).await;
    beside.app.feed.poll().await.unwrap();
    let token = token(&replica, "api").await;
    compromise(&replica, &admin).await;
    // Sealed under a master key that `beside` does not have.
    replica.execute("UPDATE keys SET sealed_key = 'x' || sealed_key").await;
    beside.app.feed.poll().await.unwrap_err();
    assert_eq!(beside.ask(VERIFY, &token).await, (503, true));

    // It still follows the settings.
    let admin = replica.admin_token().await;
    let patch = Call::new(Listener::Admin, Method::PATCH, "/admin/v1/settings").bearer(&admin);
    assert_eq!(replica.send(patch.json(&json!({"password_min_length": 15}))).await.status, 200);
    let polled = async {
        while beside.app.settings().password_min_length != 15 {
            beside.app.feed.poll().await.unwrap_err();
        }
    };
    tokio::select! {
        () = jobs::settings::run(beside.app.settings.clone(), beside.app.store.clone()) => unreachable!("it never ends"),
        polled = timeout(Duration::from_secs(5), polled) => polled.expect("the settings are followed"),
    }
}

#[tokio::test]
async fn a_token_of_a_key_that_expired_since_the_last_read_is_refused() {
    let (replica, _) = with_alice().await;
    let token = token(&replica, "api").await;
    replica.execute("UPDATE keys SET retires_at = activates_at + 1, expires_at = 1772366460; UPDATE key_ring SET changes = changes + 1").await;
    replica.app.feed.poll().await.unwrap();
    assert_eq!(replica.clock.now().0 + 60, 1_772_366_460);
    replica.clock.advance(Seconds(59));
    assert_eq!(ask(&replica, "", &token).await.status, 200);
    replica.clock.advance(Seconds(1));
    ask(&replica, "", &token).await.assert_problem(503, "unavailable");
    replica.app.feed.poll().await.unwrap();
    ask(&replica, "", &token).await.assert_problem(401, "invalid_token");
}

#[tokio::test]
async fn a_replica_that_has_not_read_the_database_for_a_day_returns_503() {
    let (replica, _) = with_alice().await;
    let beside = Beside::start(&replica).await;
    beside.app.feed.poll().await.unwrap();
    replica.clock.advance(Seconds(86_400));
    let token = token(&replica, "api").await;
    assert_eq!(beside.ask(VERIFY, &token).await.0, 200);
    replica.clock.advance(Seconds(1));
    assert_eq!(beside.ask(VERIFY, &token).await, (503, true));
    // Current keys alone are not enough.
    let seen = beside.app.store.confirmation().await.unwrap();
    beside.app.keyring.catch_up(&beside.app.store, &seen).await.unwrap();
    assert_eq!(beside.ask(VERIFY, &token).await, (503, true));
    beside.app.feed.poll().await.unwrap();
    assert_eq!(beside.ask(VERIFY, &token).await.0, 200);
}

#[tokio::test]
async fn a_replica_that_has_not_read_revocations_returns_503_and_is_not_ready() {
    let (replica, _) = with_alice().await;
    let token = token(&replica, "api").await;
    let beside = Beside::start(&replica).await;
    assert_eq!(beside.ask(VERIFY, &token).await, (503, true));
    assert_eq!(beside.ask("/readyz", "").await.0, 503);
    beside.app.feed.poll().await.unwrap();
    assert_eq!(beside.ask(VERIFY, &token).await.0, 200);
    assert_eq!(beside.ask("/readyz", "").await.0, 200);
}

#[tokio::test]
async fn a_replica_whose_clock_is_wrong_returns_503() {
    let (replica, _) = with_alice().await;
    let token = token(&replica, "api").await;
    let now = replica.clock.now() + Seconds(3_600);
    let seen = Confirmation { now, keys_version: 0, asked_at: Duration::ZERO };
    replica.app.clock_guard.observe(&seen, &*replica.clock);
    ask(&replica, "", &token).await.assert_problem(503, "unavailable");
}

#[tokio::test]
async fn checks_are_not_in_the_audit_log() {
    let (replica, admin) = with_alice().await;
    let token = token(&replica, "api").await;
    let events = async || {
        let path = "/admin/v1/audit?limit=200";
        replica.send(admin_get(path).bearer(&admin)).await.json()["events"].as_array().unwrap().len()
    };
    let before = events().await;
    ask(&replica, "", &token).await;
    ask(&replica, "", "x").await;
    assert_eq!(events().await, before);
}
