//! Settings that change while the service runs.

use auth_service::config::{Given, Source};
use auth_service::domain::authority::Actor;
use auth_service::http::Listener;
use http::Method;
use serde_json::{Value, json};
use verifier::Seconds;

use super::keys::header;
use super::replica::{ADMIN_PASSWORD, Answer, Call, PASSWORD, Replica, admin_get, admin_post, get, post};

const SETTINGS: &str = "/admin/v1/settings";

/// A replica whose configuration passes the checks.
async fn replica() -> Replica {
    with(|_| {}).await
}

async fn with(given: impl FnOnce(&mut Given)) -> Replica {
    Replica::loaded(|loaded| {
        (loaded.config.hash_memory_kib, loaded.config.hash_iterations) = (7_168, 5);
        given(&mut loaded.given);
    })
    .await
}

fn patch(token: &str, body: &Value) -> Call {
    Call::new(Listener::Admin, Method::PATCH, SETTINGS).bearer(token).json(body)
}

async fn change(replica: &Replica, token: &str, body: Value) -> Value {
    let answer = replica.send(patch(token, &body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn list(replica: &Replica, token: &str) -> Answer {
    replica.send(admin_get(SETTINGS).bearer(token)).await
}

fn setting<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let settings = answer["settings"].as_array().unwrap();
    settings.iter().find(|setting| setting["name"] == name).unwrap_or_else(|| panic!("{name} in {answer:#}"))
}

#[tokio::test]
async fn every_setting_is_listed_and_no_secret_is_shown() {
    let replica = replica().await;
    let token = replica.admin_token().await;
    let answer = list(&replica, &token).await;
    assert!(!answer.text().contains(ADMIN_PASSWORD));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let answer = answer.json();
    assert_eq!(answer["problems"], json!([]));
    let nothing_stored =
        json!({"overridden": false, "changed_at": null, "changed_by": null, "database": null});
    for (name, value, changeable) in [
        ("bootstrap_admin_password", json!("***"), false),
        ("master_key", json!(null), false),
        ("leeway", json!("30s"), false),
        ("access_token_ttl", json!("5m"), true),
        ("audiences", json!(["api"]), true),
        ("audience_algorithms", json!({}), true),
        ("max_sessions_per_user", json!(50), true),
        ("refresh_recovery", json!(true), true),
    ] {
        let setting = setting(&answer, name);
        assert_eq!((&setting["value"], &setting["changeable"]), (&value, &json!(changeable)), "{name}");
        for (member, value) in nothing_stored.as_object().unwrap() {
            assert_eq!(&setting[member], value, "{name}");
        }
    }
}

#[tokio::test]
async fn a_change_takes_effect_immediately_and_is_recorded_with_old_and_new_value() {
    let replica = replica().await;
    let token = replica.admin_token().await;
    let changed =
        change(&replica, &token, json!({"access_token_ttl": "600s", "audiences": ["api", "billing"]})).await;
    let ttl = setting(&changed, "access_token_ttl");
    assert_eq!(
        (&ttl["value"], &ttl["database"], &ttl["default"], &ttl["source"]),
        (&json!("10m"), &json!("10m"), &json!("5m"), &json!("database"))
    );
    assert_eq!(ttl["changed_at"], "2026-03-01T12:00:00Z");
    assert_eq!(replica.login("admin", ADMIN_PASSWORD, "billing").await["expires_in"], 600);

    let again = change(&replica, &token, json!({"access_token_ttl": "10m"})).await;
    assert_eq!(again["version"], changed["version"], "what is so already changes nothing");
    let back = change(&replica, &token, json!({"access_token_ttl": null})).await;
    assert_ne!(back["version"], changed["version"]);
    assert_eq!(setting(&back, "access_token_ttl")["source"], "default");
    assert_eq!(replica.login("admin", ADMIN_PASSWORD, "api").await["expires_in"], 300);

    let audit = replica.send(admin_get("/admin/v1/audit?limit=200").bearer(&token)).await.json();
    let told: Vec<_> = audit["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["event"] == "setting_changed")
        .map(|event| (event["subject"].as_str().unwrap(), event["detail"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("access_token_ttl", "default -> \"10m\""),
            ("audiences", "default -> [\"api\", \"billing\"]"),
            ("access_token_ttl", "\"10m\" -> default"),
        ]
    );
}

#[tokio::test]
async fn an_invalid_change_is_refused_as_a_whole_with_the_messages_of_the_start() {
    let replica = replica().await;
    let token = replica.admin_token().await;
    for (body, says) in [
        (json!({"access_token_ttl": "2h"}), "access_token_ttl: must be from 1s to 1h"),
        (json!({"access_token_ttl": "1m", "refresh_grace": "31s"}), "refresh_grace: must be at most 10s"),
        (json!({"refresh_idle_ttl": "31d"}), "refresh_absolute_ttl: must be at least refresh_idle_ttl"),
        (json!({"jwks_max_age": "15m"}), "key_publish_ahead: must be at least"),
        (json!({"key_rotation_period": "14m"}), "key_rotation_period: must be at least key_publish_ahead"),
        (json!({"signing_algorithm": "EdDSA"}), "signing_algorithms: must contain signing_algorithm"),
        (json!({"audience_algorithms": {"other": "ES256"}}), "audience_algorithms: must name only audiences"),
        (json!({"extra_claims": ["sub"]}), "extra_claims: must not name a claim"),
        (json!({"max_sessions_per_user": "many"}), "max_sessions_per_user: must be a whole number"),
        (json!({"issuer": "https://a.example"}), "issuer: cannot be changed while the service runs"),
        (json!({"key_publish_ahead": "1h"}), "key_publish_ahead: cannot be changed"),
        (json!({"audiences": ["api"], "password_min_length": 7}), "password_min_length: must be from 8"),
    ] {
        let answer = replica.send(patch(&token, &body)).await;
        answer.assert_problem(400, "invalid_settings");
        assert!(answer.json()["detail"].as_str().unwrap().contains(says), "{body}: {}", answer.text());
    }
    let twice = Call::new(Listener::Admin, Method::PATCH, SETTINGS).bearer(&token);
    let twice = twice.header("content-type", "application/json");
    let twice = replica.send(twice.bytes(r#"{"audiences": ["api"], "audiences": ["b"]}"#)).await;
    twice.assert_problem(400, "malformed_request");
    assert_eq!(twice.json()["detail"], "duplicate member `audiences`");
    let unknown = replica.send(patch(&token, &json!({"acces_token_ttl": "1m"}))).await;
    unknown.assert_problem(400, "malformed_request");
    assert_eq!(unknown.json()["detail"], "unknown member, expected a setting such as `access_token_ttl`");
    let answer = list(&replica, &token).await.json();
    assert!(answer["settings"].as_array().unwrap().iter().all(|setting| setting["database"] == Value::Null));
}

#[tokio::test]
async fn a_concurrent_change_of_settings_is_refused() {
    let replica = replica().await;
    let token = replica.admin_token().await;
    let etag = list(&replica, &token).await.header("etag").unwrap().to_owned();
    let first =
        replica.send(patch(&token, &json!({"password_min_length": 15})).header("if-match", &etag)).await;
    assert_eq!(first.status, 200);
    let second =
        replica.send(patch(&token, &json!({"password_min_length": 14})).header("if-match", &etag)).await;
    second.assert_problem(412, "settings_changed");
    assert_eq!(replica.app.settings().password_min_length, 15);
    // A client that got no response may repeat the change.
    let again =
        replica.send(patch(&token, &json!({"password_min_length": 15})).header("if-match", &etag)).await;
    assert_eq!((again.status, again.header("etag")), (first.status, first.header("etag")));
    let etag = first.header("etag").unwrap();
    let third =
        replica.send(patch(&token, &json!({"password_min_length": 14})).header("if-match", etag)).await;
    assert_eq!(third.status, 200);
    for bad in ["5", "\"a\"", "W/\"5\"", "\"5\", \"6\""] {
        let call = patch(&token, &json!({})).header("if-match", bad);
        replica.send(call).await.assert_problem(400, "malformed_request");
    }
}

#[tokio::test]
async fn a_value_that_the_environment_overrides_is_stored_and_shown_as_overridden() {
    let replica = with(|given| given.extend([("password_min_length", Source::Environment)])).await;
    let token = replica.admin_token().await;
    let changed = change(&replica, &token, json!({"password_min_length": 16})).await;
    let shown = setting(&changed, "password_min_length");
    assert_eq!(
        (&shown["value"], &shown["database"], &shown["source"], &shown["overridden"]),
        (&json!(12), &json!(16), &json!("environment"), &json!(true))
    );
    let refused = replica.send(patch(&token, &json!({"password_min_length": 7}))).await;
    refused.assert_problem(400, "invalid_settings");
}

#[tokio::test]
async fn limits_apply_to_the_next_request() {
    let replica = replica().await;
    let token = replica.admin_token().await;
    replica.create_user(&token, "alice", &[]).await;
    change(
        &replica,
        &token,
        json!({"max_sessions_per_user": 1, "password_min_length": 30, "extra_claims": ["tenant"]}),
    )
    .await;
    let first = replica.login("alice", PASSWORD, "api").await;
    replica.login("alice", PASSWORD, "api").await;
    let refresh = post("/v1/refresh").json(&json!({"refresh_token": first["refresh_token"]}));
    replica.send(refresh).await.assert_problem(401, "invalid_refresh_token");
    let body = json!({"username": "bob", "password": PASSWORD, "claims": {"tenant": "t"}});
    replica
        .send(admin_post("/admin/v1/users").bearer(&token).json(&body))
        .await
        .assert_problem(400, "password_too_weak");
    let body = json!({"username": "bob", "password": "plum tractor cobalt violet harbour", "claims": {"tenant": "t"}});
    assert_eq!(replica.send(admin_post("/admin/v1/users").bearer(&token).json(&body)).await.status, 201);
    change(&replica, &token, json!({"jwks_max_age": "1m"})).await;
    let jwks = replica.send(get("/.well-known/jwks.json")).await;
    assert_eq!(jwks.header("cache-control"), Some("public, max-age=60, stale-while-revalidate=12"));
}

#[tokio::test]
async fn a_removed_audience_gets_no_new_sessions() {
    let replica = replica().await;
    let token = replica.admin_token().await;
    change(&replica, &token, json!({"audiences": ["billing"]})).await;
    let body = json!({"username": "admin", "password": ADMIN_PASSWORD, "audience": "api"});
    replica.send(post("/v1/login").json(&body)).await.assert_problem(400, "invalid_target");
}

#[tokio::test]
async fn a_session_for_a_removed_audience_can_be_ended_with_either_token() {
    let replica = replica().await;
    let token = replica.admin_token().await;
    let sessions = [
        replica.login("admin", ADMIN_PASSWORD, "api").await,
        replica.login("admin", ADMIN_PASSWORD, "api").await,
    ];
    change(&replica, &token, json!({"audiences": ["billing"]})).await;
    let logouts = [
        post("/v1/logout").bearer(sessions[0]["access_token"].as_str().unwrap()),
        post("/v1/logout").json(&json!({"refresh_token": sessions[1]["refresh_token"]})),
    ];
    for (logout, session) in logouts.into_iter().zip(&sessions) {
        assert_eq!(replica.send(logout).await.status, 204);
        let refresh = post("/v1/refresh").json(&json!({"refresh_token": session["refresh_token"]}));
        replica.send(refresh).await.assert_problem(401, "invalid_refresh_token");
    }
}

#[tokio::test]
async fn a_key_is_kept_for_the_longest_token_whatever_is_configured() {
    let replica = replica().await;
    let token = replica.admin_token().await;
    let rotated = replica.send(admin_post("/admin/v1/keys/rotate").bearer(&token)).await.json();
    let end = "2026-03-01T13:16:40Z";
    assert_eq!(rotated["retiring"]["expires_at"], end, "15 min, 1 h of token, 100 s of margin");
    let ends = async || {
        let keys = replica.send(admin_get("/admin/v1/keys").bearer(&token)).await.json();
        keys["keys"][0]["expires_at"].clone()
    };
    change(&replica, &token, json!({"access_token_ttl": "1h"})).await;
    assert_eq!(ends().await, end);
    let long = replica.login("admin", ADMIN_PASSWORD, "api").await;
    assert_eq!(long["expires_in"], 3_600);
    change(&replica, &token, json!({"access_token_ttl": "1m"})).await;
    assert_eq!(ends().await, end);
}

#[tokio::test]
async fn a_key_that_signed_long_lives_is_published_for_them_although_its_end_came_after_they_were_cut() {
    let replica = replica().await;
    let token = replica.admin_token().await;
    change(&replica, &token, json!({"access_token_ttl": "1h"})).await;
    let long = replica.login("admin", ADMIN_PASSWORD, "api").await;
    change(&replica, &token, json!({"access_token_ttl": "1m"})).await;
    assert_eq!(replica.send(admin_post("/admin/v1/keys/rotate").bearer(&token)).await.status, 201);
    replica.advance(3_599).await;
    let me = replica.send(get("/v1/me").bearer(long["access_token"].as_str().unwrap())).await;
    assert_eq!(me.status, 200, "{}", me.text());
}

#[tokio::test]
async fn the_chain_of_an_algorithm_that_is_added_is_announced_and_used_when_it_is_active() {
    let replica = replica().await;
    let token = replica.admin_token().await;
    change(
        &replica,
        &token,
        json!({"signing_algorithms": ["ES256", "EdDSA"], "audience_algorithms": {"api": "EdDSA"}}),
    )
    .await;
    let alg = async || {
        let tokens = replica.login("admin", ADMIN_PASSWORD, "api").await;
        header(tokens["access_token"].as_str().unwrap())["alg"].clone()
    };
    // The job of one replica announces it.
    replica.advance(5).await;
    replica.advance(899).await;
    assert_eq!(alg().await, "ES256");
    replica.advance(1).await;
    assert_eq!(alg().await, "EdDSA");
    let metadata = replica.send(get("/.well-known/openid-configuration")).await.json();
    assert_eq!(metadata["id_token_signing_alg_values_supported"], json!(["ES256", "EdDSA"]));
}

#[tokio::test]
async fn settings_that_do_not_fit_are_not_used_and_the_previous_ones_stay() {
    let replica = replica().await;
    let token = replica.admin_token().await;
    change(&replica, &token, json!({"access_token_ttl": "10m"})).await;
    // As a replica with another file, or of another release, would store it.
    store_by_hand(&replica, "jwks_max_age", "\"1h\"").await;
    replica.app.feed.poll().await.unwrap();
    let shown = list(&replica, &token).await.json();
    assert!(
        shown["problems"][0].as_str().unwrap().starts_with("key_publish_ahead: must be at least"),
        "{shown:#}"
    );
    assert_eq!(setting(&shown, "jwks_max_age")["value"], "5m");
    assert_eq!(replica.app.settings().access_token_ttl, Seconds(600));
    assert!(replica.app.reasons_not_ready().is_empty());
    // It does not prevent a change that corrects it.
    let answer = replica.send(patch(&token, &json!({"password_min_length": 15}))).await;
    answer.assert_problem(400, "invalid_settings");
    let shown = change(&replica, &token, json!({"jwks_max_age": null, "password_min_length": 15})).await;
    assert_eq!(shown["problems"], json!([]));
}

#[tokio::test]
async fn settings_require_permissions() {
    let replica = replica().await;
    let token = replica.admin_token().await;
    replica.put_role(&token, "auditor", &["settings:read", "audit:read"]).await;
    replica.create_user(&token, "alice", &["auditor"]).await;
    let auditor = replica.login("alice", PASSWORD, "auth-admin").await;
    let auditor = auditor["access_token"].as_str().unwrap();
    assert_eq!(list(&replica, auditor).await.status, 200);
    replica.send(patch(auditor, &json!({}))).await.assert_problem(403, "insufficient_scope");
    replica.send(admin_get(SETTINGS)).await.assert_problem(401, "missing_token");
}

async fn store_by_hand(replica: &Replica, name: &str, value: &str) {
    let values = [(name.to_owned(), Some(value.to_owned()))].into();
    let change = auth_service::store::SettingsChange {
        values,
        expected: None,
        actor: Actor { name: "other".to_owned(), ..Actor::system() },
    };
    let accept = |_: &auth_service::config::Stored| Ok::<_, String>(());
    replica.app.store.change_settings(change, accept).await.unwrap();
}
