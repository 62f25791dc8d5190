//! Users manage their own sessions and password.

use auth_service::http::Listener;
use http::Method;
use serde_json::{Value, json};

use super::replica::{Call, PASSWORD, Replica, get, post};

const NEW_PASSWORD: &str = "quiet-lantern-meadow-71";

fn access(tokens: &Value) -> &str {
    tokens["access_token"].as_str().unwrap()
}

fn delete(path: &str) -> Call {
    Call::new(Listener::Public, Method::DELETE, path)
}

async fn with_alice() -> Replica {
    let replica = Replica::start().await;
    let admin = replica.admin_token().await;
    replica.create_user(&admin, "alice", &[]).await;
    replica
}

#[tokio::test]
async fn own_sessions_are_listed_in_pages_newest_first() {
    let replica = with_alice().await;
    let mut ids = Vec::new();
    let mut last = Value::Null;
    for _ in 0..5 {
        last = replica.login("alice", PASSWORD, "api").await;
        ids.insert(0, last["session_id"].clone());
        replica.advance(1).await;
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/me/sessions?limit=2{after}");
        let page = replica.send(get(&path).bearer(access(&last))).await.json();
        for session in page["sessions"].as_array().unwrap() {
            assert_eq!(session["current"], session["id"] == last["session_id"]);
            seen.push(session["id"].clone());
        }
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn an_invalid_page_is_refused() {
    let replica = with_alice().await;
    let tokens = replica.login("alice", PASSWORD, "api").await;
    for query in [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=x",
        "limit=99999999999999999999",
        "after=",
        "after=!",
        "page=2",
        "limit=1&limit=2",
    ] {
        let answer = replica.send(get(&format!("/v1/me/sessions?{query}")).bearer(access(&tokens))).await;
        answer.assert_problem(400, "malformed_request");
    }
}

#[tokio::test]
async fn one_or_all_other_sessions_can_be_ended_but_not_those_of_others() {
    let replica = with_alice().await;
    let admin = replica.admin_token().await;
    let sessions = [
        replica.login("alice", PASSWORD, "api").await,
        replica.login("alice", PASSWORD, "api").await,
        replica.login("alice", PASSWORD, "api").await,
    ];
    let path = format!("/v1/me/sessions/{}", sessions[0]["session_id"].as_str().unwrap());
    replica.send(delete(&path).bearer(&admin)).await.assert_problem(404, "not_found");
    replica.send(delete("/v1/me/sessions/nothing").bearer(&admin)).await.assert_problem(404, "not_found");
    assert_eq!(replica.send(get("/v1/me").bearer(access(&sessions[0]))).await.status, 200);

    assert_eq!(replica.send(delete(&path).bearer(access(&sessions[2]))).await.status, 204);
    replica.send(get("/v1/me").bearer(access(&sessions[0]))).await.assert_problem(401, "invalid_token");
    assert_eq!(replica.send(delete("/v1/me/sessions").bearer(access(&sessions[2]))).await.status, 204);
    replica.send(get("/v1/me").bearer(access(&sessions[1]))).await.assert_problem(401, "invalid_token");
    assert_eq!(replica.send(get("/v1/me").bearer(access(&sessions[2]))).await.status, 200);
    assert_eq!(replica.send(get("/v1/me").bearer(&admin)).await.status, 200);
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions_and_the_old_password() {
    let replica = with_alice().await;
    let (here, there) =
        (replica.login("alice", PASSWORD, "api").await, replica.login("alice", PASSWORD, "api").await);
    let change = async |current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        replica.send(post("/v1/me/password").bearer(access(&here)).json(&body)).await
    };
    change("wrong password here", NEW_PASSWORD).await.assert_problem(401, "invalid_credentials");
    for weak in ["short", "password1234", "alice-violet-harbour", &"x".repeat(257)] {
        let answer = change(PASSWORD, weak).await;
        answer.assert_problem(400, "password_too_weak");
        assert!(!answer.text().contains(weak), "{}", answer.text());
    }
    assert_eq!(change(PASSWORD, NEW_PASSWORD).await.status, 204);
    assert_eq!(replica.send(get("/v1/me").bearer(access(&here))).await.status, 200);
    replica.send(get("/v1/me").bearer(access(&there))).await.assert_problem(401, "invalid_token");
    let old = json!({"username": "alice", "password": PASSWORD});
    replica.send(post("/v1/login").json(&old)).await.assert_problem(401, "invalid_credentials");
    replica.login("alice", NEW_PASSWORD, "api").await;
}

#[tokio::test]
async fn wrong_current_passwords_are_limited() {
    let replica = with_alice().await;
    let tokens = replica.login("alice", PASSWORD, "api").await;
    let body = json!({"current_password": "wrong password here", "new_password": NEW_PASSWORD});
    let attempt = || post("/v1/me/password").bearer(access(&tokens)).json(&body);
    for _ in 0..5 {
        replica.send(attempt()).await.assert_problem(401, "invalid_credentials");
    }
    replica.send(attempt()).await.assert_problem(429, "too_many_attempts");
}
