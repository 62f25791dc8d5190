//! Login, refresh, logout, and `/v1/me`.

use serde_json::json;

use super::replica::{ADMIN_PASSWORD, PASSWORD, Replica, admin_get, get, post};

#[tokio::test]
async fn a_login_returns_tokens_that_name_the_user() {
    let replica = Replica::start().await;
    let admin = replica.admin_token().await;
    replica.put_role(&admin, "clerk", &["orders:read", "orders:write"]).await;
    let id = replica.create_user(&admin, "Ａlice", &["clerk"]).await;
    let body = json!({"username": "ALICE", "password": PASSWORD});
    let answer = replica.send(post("/v1/login").json(&body)).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let tokens = answer.json();
    assert_eq!(tokens["expires_in"], 300);
    assert_eq!(tokens["refresh_expires_in"], 7 * 86_400);
    assert_eq!(tokens["scope"], "orders:read orders:write");
    let me = replica.send(get("/v1/me").bearer(tokens["access_token"].as_str().unwrap())).await.json();
    let expected = json!({
        "sub": id,
        "username": "alice",
        "roles": ["clerk"],
        "permissions": ["orders:read", "orders:write"],
        "session_id": tokens["session_id"],
    });
    assert_eq!(me, expected);
}

#[tokio::test]
async fn unknown_disabled_and_wrong_logins_get_the_same_response() {
    let replica = Replica::start().await;
    let admin = replica.admin_token().await;
    let disabled = replica.create_user(&admin, "disabled", &[]).await;
    replica.create_user(&admin, "alice", &[]).await;
    let path = format!("/admin/v1/users/{disabled}");
    let call = super::replica::Call::new(auth_service::http::Listener::Admin, http::Method::PATCH, &path);
    assert_eq!(replica.send(call.bearer(&admin).json(&json!({"disabled": true}))).await.status, 200);

    let long = "x".repeat(10_000);
    let mut answers = Vec::new();
    for (username, password) in [
        ("alice", "wrong password here"),
        ("nobody", "wrong password here"),
        ("disabled", PASSWORD),
        ("no one can have this name", "wrong password here"),
        ("alice", ""),
        ("alice", &long),
        ("\u{0}", "wrong password here"),
    ] {
        let body = json!({"username": username, "password": password});
        let answer = replica.send(post("/v1/login").header("x-request-id", "same").json(&body)).await;
        answer.assert_problem(401, "invalid_credentials");
        // A stranger has one try in each second.
        replica.advance(1).await;
        answers.push((answer.status, answer.headers, answer.body));
    }
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
}

#[tokio::test]
async fn failures_of_a_name_are_limited_whether_or_not_it_exists() {
    let replica = Replica::start().await;
    for username in ["admin", "nobody"] {
        let body = json!({"username": username, "password": "wrong password here"});
        for _ in 0..5 {
            replica.send(post("/v1/login").json(&body)).await.assert_problem(401, "invalid_credentials");
            replica.advance(1).await;
        }
        replica.send(post("/v1/login").json(&body)).await.assert_problem(401, "invalid_credentials");
        let answer = replica.send(post("/v1/login").json(&body)).await;
        answer.assert_problem(429, "too_many_attempts");
        assert!(answer.header("retry-after").unwrap().parse::<i64>().unwrap() >= 1);
    }
    // The wait is limited, and then the right password works.
    replica.advance(2).await;
    replica.login("admin", ADMIN_PASSWORD, "api").await;
}

#[tokio::test]
async fn an_address_behind_a_trusted_proxy_is_limited() {
    let replica = Replica::with(|config| config.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()]).await;
    let attempt = async |name: String, peer: &str, forwarded: Option<(&str, &str)>| {
        let body = json!({"username": name, "password": "wrong password here"});
        let mut call = post("/v1/login").from(peer).json(&body);
        if let Some((header, value)) = forwarded {
            call = call.header(header, value);
        }
        replica.send(call).await.status.as_u16()
    };
    let by_x = |value| Some(("x-forwarded-for", value));
    for i in 0..20 {
        assert_eq!(attempt(format!("a{i}"), "10.0.0.1", by_x("203.0.113.1, 198.51.100.7")).await, 401);
    }
    let by_rfc = Some(("forwarded", "for=203.0.113.9, for=\"198.51.100.7:80\";proto=https"));
    for forwarded in [by_x("203.0.113.99, 198.51.100.7, "), by_x("198.51.100.7:4711"), by_rfc] {
        assert_eq!(attempt("b".to_owned(), "10.0.0.1", forwarded).await, 429, "{forwarded:?}");
    }
    assert_eq!(attempt("b".to_owned(), "198.51.100.7", None).await, 429);
    assert_eq!(attempt("b".to_owned(), "10.0.0.1", by_x("198.51.100.8")).await, 401);
}

/// Before, any such header switched the limit by address off.
#[tokio::test]
async fn peer_that_is_not_trusted_cannot_hide_behind_a_forwarded_address() {
    let replica = Replica::start().await;
    let mut refused = 0;
    for i in 0..200 {
        let body = json!({"username": format!("a{i}"), "password": "wrong password here"});
        let (header, value) = if i % 2 == 0 {
            ("x-forwarded-for", format!("a{i}"))
        } else {
            ("forwarded", format!("for=a{i}"))
        };
        let call = post("/v1/login").from("192.0.2.200").json(&body).header(header, value);
        refused += u32::from(replica.send(call).await.status == 429);
    }
    assert!(refused > 100, "{refused} of 200");
}

#[tokio::test]
async fn audit_log_keeps_the_peer_and_the_claimed_address_apart() {
    let replica = Replica::start().await;
    let admin = replica.admin_token().await;
    // A stranger has one try in each second.
    replica.advance(1).await;
    let claim = format!("198.51.100.7, \u{e9}{}", "x".repeat(1_000));
    let body = json!({"username": "admin", "password": "wrong password here"});
    let call = post("/v1/login").from("192.0.2.200").json(&body).header("x-forwarded-for", claim);
    replica.send(call).await.assert_problem(401, "invalid_credentials");

    let log = replica.send(admin_get("/admin/v1/audit?limit=200").bearer(&admin)).await.json();
    let entry =
        log["events"].as_array().unwrap().iter().find(|entry| entry["event"] == "login_refused").unwrap();
    assert_eq!(entry["address"], "192.0.2.200");
    let (name, claimed) = entry["detail"].as_str().unwrap().split_once("; ").unwrap();
    assert!(name.starts_with("name "), "{entry}");
    assert_eq!(claimed, format!("claimed 198.51.100.7, ?{}", "x".repeat(85)));
}

#[tokio::test]
async fn audience_and_scope_are_refused_only_after_the_password_was_checked() {
    let replica = Replica::start().await;
    let admin = replica.admin_token().await;
    replica.put_role(&admin, "clerk", &["orders:read"]).await;
    replica.create_user(&admin, "alice", &["clerk"]).await;
    replica.login("alice", PASSWORD, "api").await;
    let attempt = async |password: &str, member: &str, value: &str| {
        let body = json!({"username": "alice", "password": password, member: value});
        replica.send(post("/v1/login").json(&body)).await
    };
    for (member, value, code) in [
        ("audience", "elsewhere", "invalid_target"),
        ("audience", "", "invalid_target"),
        ("audience", "auth-admin", "invalid_target"),
        ("scope", "orders:write", "invalid_scope"),
        ("scope", "orders:read  orders:read", "invalid_scope"),
        ("scope", "", "invalid_scope"),
    ] {
        attempt(PASSWORD, member, value).await.assert_problem(400, code);
        attempt("wrong password here", member, value).await.assert_problem(401, "invalid_credentials");
        replica.advance(900).await;
    }
    assert_eq!(attempt(PASSWORD, "scope", "orders:read").await.json()["scope"], "orders:read");
}

#[tokio::test]
async fn a_refresh_can_be_repeated_until_the_next_one() {
    let replica = Replica::start().await;
    let refresh = async |token: &serde_json::Value| {
        replica.send(post("/v1/refresh").json(&json!({"refresh_token": token}))).await
    };
    let first = replica.login("admin", ADMIN_PASSWORD, "api").await;
    let second = refresh(&first["refresh_token"]).await;
    assert_eq!((second.status.as_u16(), second.header("cache-control")), (200, Some("no-store")));
    let second = second.json();
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    assert_eq!(second["session_id"], first["session_id"]);
    replica.advance(4).await;
    let again = refresh(&first["refresh_token"]).await.json();
    assert_eq!((&again["refresh_token"], &again["expires_in"]), (&second["refresh_token"], &json!(296)));
    let third = refresh(&second["refresh_token"]).await.json();
    replica.advance(11).await;
    refresh(&first["refresh_token"]).await.assert_problem(401, "invalid_refresh_token");
    // That was reuse: the session has ended.
    refresh(&third["refresh_token"]).await.assert_problem(401, "invalid_refresh_token");
    let me = get("/v1/me").bearer(third["access_token"].as_str().unwrap());
    replica.send(me).await.assert_problem(401, "invalid_token");
}

#[tokio::test]
async fn every_invalid_refresh_token_gets_the_same_response() {
    let replica = Replica::start().await;
    let good =
        replica.login("admin", ADMIN_PASSWORD, "api").await["refresh_token"].as_str().unwrap().to_owned();
    let flipped = format!("{}{}", &good[..good.len() - 1], if good.ends_with('A') { "B" } else { "A" });
    for token in ["", "rt1.", "rt1.AAAA", &flipped, &good.replace("rt1.", "rt2."), &"x".repeat(10_000)] {
        let answer = replica.send(post("/v1/refresh").json(&json!({"refresh_token": token}))).await;
        answer.assert_problem(401, "invalid_refresh_token");
    }
}

#[tokio::test]
async fn logout_takes_effect_immediately_and_may_be_repeated() {
    let replica = Replica::start().await;
    for by_bearer in [true, false] {
        let tokens = replica.login("admin", ADMIN_PASSWORD, "api").await;
        let (access, refresh) = (tokens["access_token"].as_str().unwrap(), &tokens["refresh_token"]);
        let logout = || {
            let call = post("/v1/logout");
            if by_bearer { call.bearer(access) } else { call.json(&json!({"refresh_token": refresh})) }
        };
        assert_eq!(replica.send(logout()).await.status, 204);
        replica.send(get("/v1/me").bearer(access)).await.assert_problem(401, "invalid_token");
        let again = replica.send(post("/v1/refresh").json(&json!({"refresh_token": refresh}))).await;
        again.assert_problem(401, "invalid_refresh_token");
        assert_eq!(replica.send(logout()).await.status, 204);
        // Also long after both have expired.
        replica.advance(600).await;
        assert_eq!(replica.send(logout()).await.status, 204);
    }
}

#[tokio::test]
async fn logout_requires_a_token_issued_here_and_prefers_the_body() {
    let replica = Replica::start().await;
    replica.send(post("/v1/logout")).await.assert_problem(401, "missing_token");
    replica.send(post("/v1/logout").json(&json!({}))).await.assert_problem(401, "missing_token");
    replica.send(post("/v1/logout").bearer("x.y.z")).await.assert_problem(401, "invalid_token");
    let tokens = replica.login("admin", ADMIN_PASSWORD, "api").await;
    let access = tokens["access_token"].as_str().unwrap();
    let both = post("/v1/logout").bearer(access).json(&json!({"refresh_token": "x"}));
    replica.send(both).await.assert_problem(401, "invalid_refresh_token");
    assert_eq!(replica.send(get("/v1/me").bearer(access)).await.status, 200);
}

#[tokio::test]
async fn missing_and_invalid_tokens_get_the_challenges_of_rfc_6750() {
    let replica = Replica::start().await;
    let answer = replica.send(get("/v1/me")).await;
    answer.assert_problem(401, "missing_token");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    let answer = replica.send(get("/v1/me").bearer("x")).await;
    answer.assert_problem(401, "invalid_token");
    assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer error="invalid_token""#));
    let access = replica.admin_token().await;
    let twice = get("/v1/me").bearer(&access).bearer(&access);
    replica.send(twice).await.assert_problem(401, "invalid_token");
    replica.advance(300 + 30).await;
    replica.send(get("/v1/me").bearer(&access)).await.assert_problem(401, "invalid_token");
}
