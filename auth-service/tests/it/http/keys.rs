//! The key set, the metadata and the health of a replica.

use auth_service::http::Listener;
use auth_service::jobs::tidy::Tidy;
use auth_service::store::Confirmation;
use http::Method;
use serde_json::{Value, json};
use verifier::{Algorithm, Clock as _, JwkSet, Kid, Seconds};

use super::replica::{ADMIN_PASSWORD, Call, Replica, admin_get, admin_post, get};

const JWKS: &str = "/.well-known/jwks.json";

#[tokio::test]
async fn the_key_set_is_cacheable_and_revalidates() {
    let replica = Replica::start().await;
    let answer = replica.send(get(JWKS)).await;
    assert_eq!(answer.header("cache-control"), Some("public, max-age=300, stale-while-revalidate=60"));
    let etag = answer.header("etag").unwrap().to_owned();
    for held in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
        let again = replica.send(get(JWKS).header("if-none-match", &held)).await;
        assert_eq!((again.status.as_u16(), again.header("etag")), (304, Some(etag.as_str())), "{held}");
        assert_eq!(again.header("cache-control"), answer.header("cache-control"));
    }
    assert_eq!(replica.send(get(JWKS).header("if-none-match", "\"other\"")).await.status, 200);
    let head = replica.send(Call::new(Listener::Public, Method::HEAD, JWKS)).await;
    assert_eq!((head.status.as_u16(), head.header("etag"), head.body.len()), (200, Some(etag.as_str()), 0));
}

#[tokio::test]
async fn the_compressed_key_set_has_its_own_etag() {
    let replica = Replica::start().await;
    let plain = replica.send(get(JWKS)).await;
    let call = Call::new(Listener::Public, Method::HEAD, JWKS).header("accept-encoding", "gzip");
    let compressed = replica.send(call).await;
    assert_eq!(compressed.header("content-encoding"), Some("gzip"));
    let etag = compressed.header("etag").unwrap().to_owned();
    assert_ne!(Some(etag.as_str()), plain.header("etag"));
    let again = get(JWKS).header("accept-encoding", "gzip").header("if-none-match", &etag);
    let again = replica.send(again).await;
    assert_eq!((again.status.as_u16(), again.header("etag")), (304, Some(etag.as_str())));
}

#[tokio::test]
async fn a_key_withdrawn_while_all_clocks_were_ahead_is_published_again() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    let published = async || replica.send(get(JWKS)).await.json()["keys"].as_array().unwrap().len();
    let rotated = replica.send(admin_post("/admin/v1/keys/rotate").bearer(&token)).await;
    assert_eq!((rotated.status.as_u16(), published().await), (201, 2));
    let now = replica.clock.now();
    // With SQLite, the shared clock is that of the replica.
    replica.clock.set(now + Seconds(86_400));
    replica.app.feed.poll().await.unwrap();
    assert_eq!(published().await, 1);
    replica.clock.set(now);
    replica.app.feed.poll().await.unwrap();
    assert_eq!(published().await, 2);
    let login = replica.login("admin", ADMIN_PASSWORD, "api").await;
    let access = login["access_token"].as_str().unwrap();
    assert_eq!(replica.send(get("/v1/verify").bearer(access)).await.status, 200);
}

#[tokio::test]
async fn a_replica_whose_clock_alone_is_wrong_withdraws_nothing_and_is_not_ready() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    replica.send(admin_post("/admin/v1/keys/rotate").bearer(&token)).await;
    let old = &replica.send(admin_get("/admin/v1/keys").bearer(&token)).await.json()["keys"][0];
    let kid = Kid::from(old["kid"].as_str().unwrap());
    let ring = &replica.app.keyring;
    let (now, day) = (replica.clock.now(), Seconds(86_400));
    let published = || {
        let set: JwkSet = serde_json::from_slice(&ring.document().body).unwrap();
        set.keys.iter().any(|jwk| *jwk.kid() == kid)
    };
    // The replica's clock is ahead.
    replica.clock.set(now + day);
    assert_eq!((published(), ring.counts(&kid, now + day)), (true, None));
    // The shared clock is ahead.
    replica.clock.set(now);
    let asked_at = replica.clock.monotonic();
    let seen = Confirmation { now: now + day, keys_version: ring.snapshot().keys_version(), asked_at };
    ring.catch_up(&replica.app.store, &seen).await.unwrap();
    assert_eq!((published(), ring.counts(&kid, now)), (true, None));
    // Both are.
    replica.clock.set(now + day);
    assert_eq!((published(), ring.counts(&kid, now + day)), (false, Some(false)));
}

#[tokio::test]
async fn nothing_is_erased_while_the_clocks_differ() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    replica.send(admin_post("/admin/v1/keys/rotate").bearer(&token)).await;
    // 15 min until it retires, then 1 h and its margin.
    replica.advance(4_600).await;
    let erased_after = async |off_by| {
        let asked_at = replica.clock.monotonic();
        let seen = Confirmation { now: replica.clock.now() + off_by, keys_version: 0, asked_at };
        replica.app.clock_guard.observe(&seen, &*replica.clock);
        Tidy::of(&replica.app).once().await.unwrap();
        let rows = replica.app.store.key_table().await.unwrap().rows;
        rows.iter().filter(|row| row.sealed.is_none()).count()
    };
    assert_eq!([erased_after(Seconds(-3_600)).await, erased_after(Seconds(0)).await], [0, 1]);
}

#[tokio::test]
async fn only_public_members_are_published() {
    let all = vec![Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256];
    let replica = Replica::loaded(|loaded| loaded.settings.signing_algorithms = all).await;
    let set = replica.send(get(JWKS)).await.json();
    let keys = set["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 3);
    for key in keys {
        let members = key.as_object().unwrap().keys().map(String::as_str);
        let unknown: Vec<_> = members
            .filter(|name| !["kid", "kty", "alg", "use", "crv", "x", "y", "n", "e"].contains(name))
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}

#[tokio::test]
async fn a_key_is_published_before_it_signs_and_until_its_tokens_have_expired() {
    let replica = Replica::start().await;
    let admin = replica.admin_token().await;
    let rotated = replica.send(admin_post("/admin/v1/keys/rotate").bearer(&admin)).await;
    assert_eq!(rotated.status, 201);
    let rotated = rotated.json();
    let (new, old) = (&rotated["key"]["kid"], &rotated["retiring"]["kid"]);
    assert_eq!(rotated["key"]["activates_at"], "2026-03-01T12:15:00Z");
    assert_eq!(rotated["retiring"]["retires_at"], rotated["key"]["activates_at"]);
    let again = replica.send(admin_post("/admin/v1/keys/rotate").bearer(&admin)).await;
    again.assert_problem(409, "rotation_pending");
    assert_eq!(again.json()["earliest_at"], "2026-03-01T12:15:00Z");

    let published = async || -> Vec<Value> {
        let set = replica.send(get(JWKS)).await.json();
        set["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect()
    };
    assert!(published().await.contains(new) && published().await.contains(old));
    replica.advance(899).await;
    assert_eq!(&kid(&replica.admin_token().await), old);
    replica.advance(1).await;
    assert_eq!(&kid(&replica.admin_token().await), new);
    // 1 h of token + 30 s leeway + 2 × 5 s of clock + 60 s.
    replica.advance(3_699).await;
    assert!(published().await.contains(old));
    replica.advance(1).await;
    assert!(!published().await.contains(old));
}

#[tokio::test]
async fn lives_that_the_release_before_stores_with_keys_are_removed() {
    let replica = Replica::start().await;
    let adopted = async || replica.app.store.adopt_announced_keys().await.unwrap();
    assert_eq!(adopted().await, 0, "this release stores none");
    replica.execute("UPDATE keys SET life = 300").await;
    assert_eq!(adopted().await, 1, "MAC keys keep theirs");
    // What the release before reads from an empty life.
    replica.execute("UPDATE keys SET life = 3600").await;
    assert_eq!(adopted().await, 0);
}

#[tokio::test]
async fn a_compromised_key_is_replaced_immediately() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    let name = kid(&token);
    let path = format!("/admin/v1/keys/{}/compromise", name.as_str().unwrap());
    let answer = replica.send(admin_post(&path).bearer(&token)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        (&answer.json()["key"]["kid"], &answer.json()["key"]["phase"]),
        (&name, &json!("compromised"))
    );
    let successor = answer.json()["successor"]["kid"].clone();
    // The operator's own token was signed with it.
    replica.send(admin_post(&path).bearer(&token)).await.assert_problem(401, "invalid_token");
    let token = replica.admin_token().await;
    assert_eq!(kid(&token), successor);
    let listed = replica.send(admin_get("/admin/v1/keys").bearer(&token)).await.json();
    let compromised = listed["keys"].as_array().unwrap().iter().find(|key| key["kid"] == name).unwrap();
    assert_eq!(compromised, &answer.json()["key"]);
    assert!(compromised["compromised_at"].is_string());
    assert_eq!(replica.send(admin_post(&path).bearer(&token)).await.status, 200);
    let set = replica.send(get(JWKS)).await.json();
    assert_eq!(set["keys"].as_array().unwrap().len(), 1);
    replica
        .send(admin_post("/admin/v1/keys/x/compromise").bearer(&token))
        .await
        .assert_problem(404, "not_found");
    let listed = replica.send(admin_get("/admin/v1/keys").bearer(&token)).await.json();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn only_enabled_algorithms_can_be_rotated() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    let rotate = |alg: &str| admin_post("/admin/v1/keys/rotate").bearer(&token).json(&json!({"alg": alg}));
    replica.send(rotate("EdDSA")).await.assert_problem(400, "algorithm_not_enabled");
    for unknown in ["HS256", "none", "es256"] {
        replica.send(rotate(unknown)).await.assert_problem(400, "malformed_request");
    }
    assert_eq!(replica.send(rotate("ES256")).await.status, 201);
}

#[tokio::test]
async fn metadata_ignores_the_headers_of_the_request() {
    let replica = Replica::with(|config| config.issuer = "https://auth.example.com".to_owned()).await;
    let expected = json!({
        "issuer": "https://auth.example.com",
        "jwks_uri": "https://auth.example.com/.well-known/jwks.json",
        "response_types_supported": [],
        "grant_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    });
    for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"] {
        let plain = replica.send(get(path)).await;
        assert_eq!(plain.json(), expected);
        let forged = get(path)
            .header("host", "evil.example")
            .header("x-forwarded-host", "evil.example")
            .header("x-forwarded-proto", "http")
            .header("forwarded", "host=evil.example;proto=http");
        assert_eq!(replica.send(forged).await.body, plain.body);
    }
}

#[tokio::test]
async fn readiness_lists_its_reasons_and_liveness_is_unaffected() {
    let replica = Replica::start().await;
    for listener in [Listener::Public, Listener::Admin] {
        let ready = Call::new(listener, Method::GET, "/readyz");
        assert_eq!(replica.send(ready).await.json(), json!({"status": "ok"}));
    }
    replica.app.drain.stop();
    let answer = replica.send(get("/readyz")).await;
    assert_eq!((answer.status.as_u16(), answer.json()["status"].as_str()), (503, Some("not_ready")));
    assert_eq!(replica.send(get("/livez")).await.json(), json!({"status": "ok"}));
}

#[tokio::test]
async fn cache_lifetimes_shrink_as_the_key_ring_ages() {
    let replica = Replica::start().await;
    // Without polls, the lease of 15 min runs out. 10 s are reserved for the clocks, a sixth for stale-while-revalidate.
    for (after, cache_control) in [
        (224, "public, max-age=300, stale-while-revalidate=60"),
        (1, "public, max-age=300, stale-while-revalidate=60"),
        (375, "public, max-age=241, stale-while-revalidate=48"),
        (300, "public, max-age=0, stale-while-revalidate=0"),
    ] {
        replica.clock.advance(verifier::Seconds(after));
        assert_eq!(replica.send(get(JWKS)).await.header("cache-control"), Some(cache_control));
    }
    assert_eq!(replica.send(get("/readyz")).await.status, 503);
    replica.advance(0).await;
    assert_eq!(replica.send(get("/readyz")).await.status, 200);
}

#[tokio::test]
async fn metrics_are_on_the_admin_listener_only() {
    let replica = Replica::start().await;
    assert_eq!(replica.send(admin_get("/metrics")).await.status, 200);
    replica.send(get("/metrics")).await.assert_problem(404, "not_found");
    replica.send(get("/admin/v1/keys")).await.assert_problem(404, "not_found");
    replica.send(admin_get("/v1/me")).await.assert_problem(404, "not_found");
}

fn kid(token: &str) -> Value {
    header(token)["kid"].clone()
}

/// The header of a token.
pub(crate) fn header(token: &str) -> Value {
    use base64::Engine as _;
    let header = token.split('.').next().unwrap();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap();
    serde_json::from_slice(&header).unwrap()
}
