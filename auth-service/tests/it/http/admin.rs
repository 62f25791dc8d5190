//! Operators manage users, roles and sessions, and cannot extend their own permissions.

use auth_service::domain::authority::{Actor, AdminPermission};
use auth_service::flows::users::{self, UserPatch};
use auth_service::http::{Access, Listener, route_table};
use http::Method;
use serde_json::{Value, json};

use super::replica::{Call, PASSWORD, Replica, admin_get, admin_post, get, post};

fn admin(method: Method, path: &str) -> Call {
    Call::new(Listener::Admin, method, path)
}

async fn token_of(replica: &Replica, username: &str) -> String {
    replica.login(username, PASSWORD, "auth-admin").await["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_user_is_created_changed_and_deleted() {
    let replica = Replica::loaded(|loaded| loaded.settings.extra_claims = vec!["tenant".to_owned()]).await;
    let token = replica.admin_token().await;
    replica.put_role(&token, "clerk", &["orders:read"]).await;
    let body =
        json!({"username": "Alice", "password": PASSWORD, "roles": ["clerk"], "claims": {"tenant": "acme"}});
    let created = replica.send(admin_post("/admin/v1/users").bearer(&token).json(&body)).await;
    assert_eq!(created.status, 201, "{}", created.text());
    let created = created.json();
    let expected = json!({
        "id": created["id"],
        "username": "alice",
        "roles": ["clerk"],
        "permissions": ["orders:read"],
        "claims": {"tenant": "acme"},
        "created_at": "2026-03-01T12:00:00Z",
        "disabled_at": null,
    });
    assert_eq!(created, expected);
    let path = format!("/admin/v1/users/{}", created["id"].as_str().unwrap());
    assert_eq!(replica.send(admin_get(&path).bearer(&token)).await.json(), created);

    let tokens = replica.login("alice", PASSWORD, "api").await;
    let claims = claims(tokens["access_token"].as_str().unwrap());
    assert_eq!((&claims["tenant"], &claims["roles"]), (&json!("acme"), &json!(["clerk"])));

    let wanted = json!({"roles": [], "claims": {}, "disabled": true});
    let changed = replica.send(admin(Method::PATCH, &path).bearer(&token).json(&wanted)).await.json();
    assert_eq!(
        (&changed["permissions"], &changed["disabled_at"]),
        (&json!([]), &json!("2026-03-01T12:00:00Z"))
    );
    let refresh = post("/v1/refresh").json(&json!({"refresh_token": tokens["refresh_token"]}));
    replica.send(refresh).await.assert_problem(401, "invalid_refresh_token");

    assert_eq!(replica.send(admin(Method::DELETE, &path).bearer(&token)).await.status, 204);
    replica.send(admin_get(&path).bearer(&token)).await.assert_problem(404, "not_found");
    replica.send(admin(Method::DELETE, &path).bearer(&token)).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn a_role_without_permissions_does_not_affect_the_others() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    replica.put_role(&token, "clerk", &["orders:read"]).await;
    replica.put_role(&token, "nobody", &[]).await;
    let id = replica.create_user(&token, "alice", &["clerk", "nobody"]).await;
    let found = replica.send(admin_get(&format!("/admin/v1/users/{id}")).bearer(&token)).await.json();
    assert_eq!(
        (&found["roles"], &found["permissions"]),
        (&json!(["clerk", "nobody"]), &json!(["orders:read"]))
    );
    assert_eq!(replica.login("alice", PASSWORD, "api").await["scope"], "orders:read");
}

#[tokio::test]
async fn an_invalid_user_is_refused_with_its_own_code() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    for (body, status, code) in [
        (json!({"username": "a b", "password": PASSWORD}), 400, "invalid_username"),
        (json!({"username": "", "password": PASSWORD}), 400, "invalid_username"),
        (json!({"username": "ADMIN", "password": PASSWORD}), 409, "username_taken"),
        (json!({"username": "bob", "password": "password1234"}), 400, "password_too_weak"),
        (json!({"username": "bob", "password": PASSWORD, "roles": ["none"]}), 400, "unknown_role"),
        (json!({"username": "bob", "password": PASSWORD, "roles": ["\u{0}"]}), 400, "unknown_role"),
        (json!({"username": "bob", "password": PASSWORD, "claims": {"sub": "admin"}}), 400, "invalid_claims"),
    ] {
        let answer = replica.send(admin_post("/admin/v1/users").bearer(&token).json(&body)).await;
        answer.assert_problem(status, code);
    }
    let users = replica.send(admin_get("/admin/v1/users").bearer(&token)).await.json();
    assert_eq!(users["users"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn paging_returns_every_item_once() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    for i in 0..6 {
        replica.create_user(&token, &format!("user{i}"), &[]).await;
        replica.put_role(&token, &format!("role{i}"), &["p"]).await;
    }
    for (path, member, expected) in [
        ("/admin/v1/users", "users", 7),
        ("/admin/v1/roles", "roles", 7),
        ("/admin/v1/audit", "events", 14),
        ("/admin/v1/keys", "keys", 1),
    ] {
        let all = replica.send(admin_get(&format!("{path}?limit=200")).bearer(&token)).await.json();
        assert_eq!(all["next"], Value::Null);
        assert!(all[member].as_array().unwrap().len() >= expected, "{all:#}");
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = replica.send(admin_get(&format!("{path}?limit=3{after}")).bearer(&token)).await.json();
            let items = page[member].as_array().unwrap();
            assert!(!items.is_empty() && items.len() <= 3);
            seen.extend(items.iter().cloned());
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(&Value::from(seen), &all[member], "{path}");
        let nowhere = replica.send(admin_get(&format!("{path}?after=")).bearer(&token)).await;
        nowhere.assert_problem(400, "malformed_request");
    }
}

#[tokio::test]
async fn a_role_is_created_replaced_and_deleted() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    let put = |name: &str, body: Value| {
        admin(Method::PUT, &format!("/admin/v1/roles/{name}")).bearer(&token).json(&body)
    };
    let created = replica.send(put("clerk", json!({"permissions": ["b", "a", "b"]}))).await;
    assert_eq!(
        (created.status.as_u16(), created.json()),
        (201, json!({"name": "clerk", "permissions": ["a", "b"]}))
    );
    assert_eq!(replica.send(put("clerk", json!({"permissions": []}))).await.status, 200);
    let found = replica.send(admin_get("/admin/v1/roles/clerk").bearer(&token)).await;
    assert_eq!(found.json(), json!({"name": "clerk", "permissions": []}));
    replica.send(put("-clerk", json!({"permissions": []}))).await.assert_problem(400, "invalid_role_name");
    replica
        .send(put("clerk", json!({"permissions": ["a b"]})))
        .await
        .assert_problem(400, "invalid_permission");
    let delete = || admin(Method::DELETE, "/admin/v1/roles/clerk").bearer(&token);
    assert_eq!(replica.send(delete()).await.status, 204);
    replica.send(delete()).await.assert_problem(404, "not_found");
    replica.send(admin_get("/admin/v1/roles/clerk").bearer(&token)).await.assert_problem(404, "not_found");
    replica.send(admin_get("/admin/v1/roles/%ff").bearer(&token)).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn an_operator_lists_and_ends_sessions_of_users() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    let alice = replica.create_user(&token, "alice", &[]).await;
    let (one, two) =
        (replica.login("alice", PASSWORD, "api").await, replica.login("alice", PASSWORD, "api").await);
    let path = format!("/admin/v1/users/{alice}/sessions");
    let list = async || {
        replica.send(admin_get(&path).bearer(&token)).await.json()["sessions"].as_array().unwrap().len()
    };
    assert_eq!(list().await, 2);
    let session = format!("/admin/v1/sessions/{}", one["session_id"].as_str().unwrap());
    assert_eq!(replica.send(admin(Method::DELETE, &session).bearer(&token)).await.status, 204);
    assert_eq!(list().await, 1);
    assert_eq!(replica.send(get("/v1/me").bearer(two["access_token"].as_str().unwrap())).await.status, 200);
    assert_eq!(replica.send(admin(Method::DELETE, &path).bearer(&token)).await.status, 204);
    assert_eq!(list().await, 0);
    let nobody = "00000000-0000-4000-8000-000000000000";
    for (method, path) in [
        (Method::GET, format!("/admin/v1/users/{nobody}/sessions")),
        (Method::DELETE, format!("/admin/v1/users/{nobody}/sessions")),
        (Method::DELETE, format!("/admin/v1/sessions/{nobody}")),
        (Method::DELETE, "/admin/v1/sessions/x".to_owned()),
    ] {
        replica.send(admin(method, &path).bearer(&token)).await.assert_problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_password_set_by_an_operator_ends_the_sessions() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    let alice = replica.create_user(&token, "alice", &[]).await;
    let before = replica.login("alice", PASSWORD, "api").await;
    let set = |password: &str| {
        let path = format!("/admin/v1/users/{alice}/password");
        admin_post(&path).bearer(&token).json(&json!({"password": password}))
    };
    replica.send(set("password1234")).await.assert_problem(400, "password_too_weak");
    assert_eq!(replica.send(set("quiet-lantern-meadow-71")).await.status, 204);
    replica
        .send(get("/v1/me").bearer(before["access_token"].as_str().unwrap()))
        .await
        .assert_problem(401, "invalid_token");
    replica.login("alice", "quiet-lantern-meadow-71", "api").await;
}

#[tokio::test]
async fn every_admin_route_requires_its_own_permission() {
    let replica = Replica::start().await;
    let root = replica.admin_token().await;
    let all: Vec<&str> = route_table().into_iter().filter_map(|route| permission(route.access)).collect();
    for route in route_table() {
        let Some(needed) = permission(route.access) else { continue };
        let path = route
            .path
            .replace("{id}", "00000000-0000-4000-8000-000000000000")
            .replace("{kid}", "x")
            .replace("{name}", "x");
        let call = || {
            let call = admin(route.method.clone(), &path);
            if matches!(route.method, Method::PUT | Method::PATCH) { call.json(&json!({})) } else { call }
        };
        replica.send(call()).await.assert_problem(401, "missing_token");
        let api = replica.login("admin", super::replica::ADMIN_PASSWORD, "api").await;
        replica
            .send(call().bearer(api["access_token"].as_str().unwrap()))
            .await
            .assert_problem(401, "invalid_token");
        // A user with every other permission.
        let others: Vec<&str> = all.iter().copied().filter(|other| *other != needed).collect();
        let name = needed.replace(':', "-");
        replica.put_role(&root, &name, &others).await;
        let user = format!("without-{name}");
        if replica.send(post("/v1/login").json(&json!({"username": user, "password": PASSWORD}))).await.status
            == 401
        {
            replica.create_user(&root, &user, &[&name]).await;
            // A stranger has one try in each second.
            replica.advance(1).await;
        }
        let answer = replica.send(call().bearer(&token_of(&replica, &user).await)).await;
        answer.assert_problem(403, "insufficient_scope");
        let challenge = format!(r#"Bearer error="insufficient_scope", scope="{needed}""#);
        assert_eq!(answer.header("www-authenticate"), Some(challenge.as_str()));
    }
}

fn permission(access: Access) -> Option<&'static str> {
    match access {
        Access::Permission(permission) => Some(permission.as_str()),
        Access::Open | Access::Session => None,
    }
}

#[tokio::test]
async fn an_operator_cannot_grant_or_change_permissions_they_lack() {
    let replica = Replica::start().await;
    let root = replica.admin_token().await;
    let admin_id =
        replica.send(admin_get("/admin/v1/users").bearer(&root)).await.json()["users"][0]["id"].clone();
    let admin_id = admin_id.as_str().unwrap();
    replica
        .put_role(&root, "helpdesk", &["users:read", "users:write", "roles:write", "sessions:write"])
        .await;
    replica.put_role(&root, "clerk", &["orders:read"]).await;
    replica.create_user(&root, "helper", &["helpdesk"]).await;
    let clerk = replica.create_user(&root, "clara", &["clerk"]).await;
    let token = token_of(&replica, "helper").await;
    let session = replica.login("clara", PASSWORD, "api").await["session_id"].as_str().unwrap().to_owned();
    let refused = [
        (
            Method::POST,
            "/admin/v1/users".to_owned(),
            json!({"username": "x", "password": PASSWORD, "roles": ["admin"]}),
        ),
        (Method::PATCH, format!("/admin/v1/users/{admin_id}"), json!({"disabled": true})),
        (Method::PATCH, format!("/admin/v1/users/{clerk}"), json!({"roles": ["helpdesk"]})),
        (
            Method::POST,
            format!("/admin/v1/users/{admin_id}/password"),
            json!({"password": "quiet-lantern-meadow-71"}),
        ),
        (Method::DELETE, format!("/admin/v1/users/{admin_id}"), Value::Null),
        (Method::DELETE, format!("/admin/v1/users/{clerk}/sessions"), Value::Null),
        (Method::DELETE, format!("/admin/v1/sessions/{session}"), Value::Null),
        (Method::PUT, "/admin/v1/roles/helpdesk".to_owned(), json!({"permissions": ["keys:write"]})),
        (Method::DELETE, "/admin/v1/roles/admin".to_owned(), Value::Null),
    ];
    for (method, path, body) in refused {
        let call = admin(method.clone(), &path).bearer(&token);
        let call = if body.is_null() { call } else { call.json(&body) };
        let answer = replica.send(call).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["code"].as_str()),
            (403, Some("privilege_escalation")),
            "{method} {path}"
        );
    }
    replica.admin_token().await;
    replica.login("clara", PASSWORD, "api").await;
}

#[tokio::test]
async fn the_admin_role_is_built_in() {
    let replica = Replica::start().await;
    let root = replica.admin_token().await;
    let all: Vec<&str> = AdminPermission::ALL.iter().map(|permission| permission.as_str()).collect();
    // As an earlier release with fewer permissions wrote it, and an operator extended it then.
    replica.execute("UPDATE roles SET permissions = 'audit:read orders:read' WHERE name = 'admin'").await;
    let mut with_stored = [&all[..], &["orders:read"]].concat();
    with_stored.sort_unstable();
    let expected = json!({"name": "admin", "permissions": with_stored});
    let path = "/admin/v1/roles/admin";
    assert_eq!(replica.send(admin_get(path).bearer(&root)).await.json(), expected);
    let roles = replica.send(admin_get("/admin/v1/roles").bearer(&root)).await.json();
    assert_eq!(roles["roles"], json!([expected]));

    let body = json!({"permissions": all});
    for call in [admin(Method::PUT, path).json(&body), admin(Method::DELETE, path)] {
        let refused = replica.send(call.bearer(&root)).await;
        refused.assert_problem(403, "privilege_escalation");
        let detail = "the role `admin` is built in: it can be granted, but not changed or deleted";
        assert_eq!(refused.json()["detail"], detail);
    }
    assert_eq!(replica.send(admin_get(path).bearer(&root)).await.json(), expected);

    // It can be granted, and counts in users, tokens and refreshes.
    let alice = replica.create_user(&root, "alice", &["admin"]).await;
    let found = replica.send(admin_get(&format!("/admin/v1/users/{alice}")).bearer(&root)).await.json();
    assert_eq!(found["permissions"], json!(with_stored));
    let tokens = replica.login("alice", PASSWORD, "auth-admin").await;
    assert_eq!(tokens["scope"], with_stored.join(" "));
    let refresh = post("/v1/refresh").json(&json!({"refresh_token": tokens["refresh_token"]}));
    assert_eq!(replica.send(refresh).await.json()["scope"], with_stored.join(" "));
}

#[tokio::test]
async fn the_admin_role_can_be_granted_after_an_earlier_release_deleted_it() {
    let replica = Replica::start().await;
    let root = replica.admin_token().await;
    replica.execute("DELETE FROM user_roles; DELETE FROM roles WHERE name = 'admin'").await;
    replica.send(admin_get("/admin/v1/users").bearer(&root)).await.assert_problem(403, "insufficient_scope");
    let admin = replica.app.store.find_user_named("admin").await.unwrap().unwrap();
    let patch = UserPatch { roles: Some(vec!["admin".to_owned()]), ..UserPatch::default() };
    let admin = users::change(
        &replica.app.settings(),
        &replica.app.store,
        Actor::command_line("alice@db1", None),
        admin.id,
        patch,
    )
    .await
    .unwrap();
    assert_eq!(admin.permissions, AdminPermission::all());
    assert_eq!(replica.send(admin_get("/admin/v1/users").bearer(&root)).await.status, 200);
}

#[tokio::test]
async fn the_last_administrator_can_be_neither_disabled_nor_demoted_nor_deleted() {
    let replica = Replica::start().await;
    let root = replica.admin_token().await;
    let all: Vec<&str> = AdminPermission::ALL.iter().map(|permission| permission.as_str()).collect();
    let admin_id = replica.app.store.find_user_named("admin").await.unwrap().unwrap().id;
    let path = format!("/admin/v1/users/{admin_id}");
    let attacks = || {
        [
            admin(Method::PATCH, &path).json(&json!({"disabled": true})),
            admin(Method::PATCH, &path).json(&json!({"roles": []})),
            admin(Method::DELETE, &path),
        ]
    };
    for attack in attacks() {
        let refused = replica.send(attack.bearer(&root)).await;
        refused.assert_problem(409, "last_administrator");
        let detail = "nobody else has full rights; give another user the role `admin` first";
        assert_eq!(refused.json()["detail"], detail);
    }
    // A second one, by a role that is not built in. Now the first may go, but then the role must stay.
    replica.put_role(&root, "owner", &all).await;
    replica.create_user(&root, "alice", &["owner"]).await;
    let alice = token_of(&replica, "alice").await;
    let [_, _, deletion] = attacks();
    assert_eq!(replica.send(deletion.bearer(&alice)).await.status, 204);
    let role = "/admin/v1/roles/owner";
    let fewer = json!({"permissions": all[1..]});
    for attack in [admin(Method::PUT, role).json(&fewer), admin(Method::DELETE, role)] {
        let refused = replica.send(attack.bearer(&alice)).await;
        refused.assert_problem(409, "last_administrator");
        let detail = "nobody would have full rights any more; give a user the role `admin` first";
        assert_eq!(refused.json()["detail"], detail);
    }
}

#[tokio::test]
async fn a_removed_permission_takes_effect_immediately_at_the_admin_api() {
    let replica = Replica::start().await;
    let root = replica.admin_token().await;
    replica.put_role(&root, "reader", &["users:read", "audit:read"]).await;
    replica.create_user(&root, "rita", &["reader"]).await;
    let token = token_of(&replica, "rita").await;
    assert_eq!(replica.send(admin_get("/admin/v1/users").bearer(&token)).await.status, 200);
    replica.put_role(&root, "reader", &["audit:read"]).await;
    replica.send(admin_get("/admin/v1/users").bearer(&token)).await.assert_problem(403, "insufficient_scope");
    assert_eq!(replica.send(admin_get("/admin/v1/audit").bearer(&token)).await.status, 200);
}

#[tokio::test]
async fn the_audit_log_records_events_in_one_chain() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    let alice = replica.create_user(&token, "alice", &[]).await;
    let wrong = json!({"username": "alice", "password": "wrong password here"});
    replica
        .send(post("/v1/login").from("192.0.2.7").json(&wrong))
        .await
        .assert_problem(401, "invalid_credentials");
    let events = replica.send(admin_get("/admin/v1/audit?limit=200").bearer(&token)).await.json();
    let events = events["events"].as_array().unwrap();
    let created = events.iter().find(|event| event["event"] == "user_created").unwrap();
    assert_eq!(created["subject"], json!(alice));
    let refused = events.iter().find(|event| event["event"] == "login_refused").unwrap();
    assert_eq!(refused["address"], json!("192.0.2.7"));
    for pair in events.windows(2) {
        assert_eq!(pair[0]["replica"], pair[1]["replica"]);
        assert_eq!(pair[1]["prev"], pair[0]["hash"]);
    }
}

fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}
