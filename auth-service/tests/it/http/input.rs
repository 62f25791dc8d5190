//! Invalid input on every route is refused, and changes nothing.

use auth_service::http::{Listener, route_table};
use http::Method;
use serde_json::{Value, json};

use super::contract::{Contract, Operation, array, object};
use super::replica::{Answer, Call, Replica, admin_get, get, post};

/// A string that no response may contain.
const CANARY: &str = "canary-9f3b1c";

/// A route with a body, a valid path, and a valid body.
struct Target {
    listener: Listener,
    method: Method,
    path: String,
    example: Value,
    schema: Value,
}

fn targets() -> Vec<Target> {
    let contract = Contract::shared();
    let operations = contract.operations();
    let with_body = operations.iter().filter(|operation| operation.value.get("requestBody").is_some());
    with_body
        .map(|operation: &Operation<'_>| {
            let schema = &operation.value["requestBody"]["content"]["application/json"]["schema"];
            let schema = contract.resolve(schema);
            let id = "00000000-0000-4000-8000-000000000000";
            Target {
                listener: operation.listeners[0],
                method: operation.method.clone(),
                path: operation.path.replace("{id}", id).replace("{name}", "clerk"),
                example: array(&schema["examples"]).last().unwrap().clone(),
                schema,
            }
        })
        .collect()
}

impl Target {
    fn call(&self, token: &str) -> Call {
        Call::new(self.listener, self.method.clone(), &self.path).bearer(token)
    }
}

/// The state as an operator sees it.
async fn state(replica: &Replica, token: &str) -> Vec<Value> {
    let mut state = Vec::new();
    for path in ["users", "roles", "keys"] {
        state.push(replica.send(admin_get(&format!("/admin/v1/{path}")).bearer(token)).await.json());
    }
    state
}

#[track_caller]
fn assert_refused(answer: &Answer, what: &str) {
    assert!(answer.status.is_client_error(), "{what}: {} {}", answer.status, answer.text());
    assert!(!answer.text().contains(CANARY), "{what} was echoed: {}", answer.text());
}

#[tokio::test]
async fn a_malformed_body_is_refused_on_every_route() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    let before = state(&replica, &token).await;
    for target in targets() {
        let example = target.example.to_string();
        let call = || target.call(&token);
        let what = format!("{} {}", target.method, target.path);
        for content_type in
            ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp"]
        {
            let answer =
                replica.send(call().header("content-type", content_type).bytes(example.clone())).await;
            answer.assert_problem(415, "unsupported_media_type");
        }
        replica.send(call().bytes(example.clone())).await.assert_problem(415, "unsupported_media_type");

        let json = || call().header("content-type", "application/json");
        for broken in
            ["{", "nul", "[]", "\"x\"", "5", "{}x", "{'a': 1}", "\u{feff}{}", "[[[[[[", "{\"a\": NaN}"]
        {
            let answer = replica.send(json().bytes(broken)).await;
            assert_refused(&answer, &format!("{what} with {broken}"));
            answer.assert_problem(400, "malformed_request");
        }
        replica.send(json().bytes(&b"{\"\xff\": 1}"[..])).await.assert_problem(400, "malformed_request");
        let large = format!("{{\"{CANARY}\": \"{}\"}}", "x".repeat(1_000_000));
        let answer = replica.send(json().bytes(large)).await;
        assert_refused(&answer, &what);
        answer.assert_problem(413, "body_too_large");

        let mut surplus = target.example.clone();
        surplus[CANARY] = CANARY.into();
        let answer = replica.send(call().json(&surplus)).await;
        assert_refused(&answer, &what);
        answer.assert_problem(400, "malformed_request");
    }
    assert_eq!(state(&replica, &token).await, before);
}

#[tokio::test]
async fn a_member_of_another_type_is_refused_on_every_route() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    let before = state(&replica, &token).await;
    let numbers = ["-1", "0", "1.5", "9223372036854775808", "1e308", "-1e400"];
    for target in targets() {
        for (member, schema) in object(&target.schema["properties"]) {
            let schema = Contract::shared().resolve(schema);
            let mut values =
                vec![Value::Null, json!(true), json!([CANARY]), json!({"a": CANARY}), json!(CANARY)];
            values.extend(numbers.iter().filter_map(|number| serde_json::from_str(number).ok()));
            for value in values
                .into_iter()
                .filter(|value| !Contract::shared().violations(&schema, value, "").is_empty())
            {
                let mut body = target.example.clone();
                body[member] = value.clone();
                let answer = replica.send(target.call(&token).json(&body)).await;
                assert_refused(
                    &answer,
                    &format!("{} {} with {member} = {value}", target.method, target.path),
                );
            }
        }
        for required in target.schema.get("required").map(array).into_iter().flatten() {
            let mut body = target.example.clone();
            body.as_object_mut().unwrap().remove(required.as_str().unwrap());
            replica.send(target.call(&token).json(&body)).await.assert_problem(400, "malformed_request");
        }
    }
    assert_eq!(state(&replica, &token).await, before);
}

#[tokio::test]
async fn members_that_would_grant_more_rights_are_refused() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    let before = state(&replica, &token).await;
    for target in targets() {
        for member in [
            "id",
            "role",
            "admin",
            "password_hash",
            "tenant",
            "created_at",
            "disabled_at",
            "permission",
            "sub",
        ] {
            let mut body = target.example.clone();
            body[member] = json!("admin");
            replica.send(target.call(&token).json(&body)).await.assert_problem(400, "malformed_request");
        }
    }
    assert_eq!(state(&replica, &token).await, before);
}

#[tokio::test]
async fn a_login_with_hostile_strings_is_a_failed_login() {
    let replica = Replica::start().await;
    for hostile in [
        "' OR 1=1 --",
        "admin'--",
        "${jndi:ldap://x}",
        "\u{0}",
        "\u{202e}",
        "../../etc/passwd",
        "%00",
        "\r\nx: y",
        "\u{1b}[31m",
    ] {
        let body = json!({"username": hostile, "password": hostile});
        replica.send(post("/v1/login").json(&body)).await.assert_problem(401, "invalid_credentials");
    }
}

#[tokio::test]
async fn other_methods_are_405_with_allow_and_other_paths_404() {
    let replica = Replica::start().await;
    let table = route_table();
    // That path accepts every method; see `forward_auth`.
    for route in table.iter().filter(|route| route.path != "/v1/verify") {
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
            Method::TRACE,
        ] {
            let is_routed = table.iter().any(|other| {
                other.listener == route.listener && other.path == route.path && other.method == method
            });
            if is_routed {
                continue;
            }
            let path = route.path.replace(['{', '}'], "");
            let answer = replica.send(Call::new(route.listener, method, &path)).await;
            answer.assert_problem(405, "method_not_allowed");
            assert!(answer.header("allow").unwrap().contains(route.method.as_str()));
        }
    }
    for path in [
        "/",
        "/v1",
        "/v1/login/",
        "//v1/login",
        "/V1/login",
        "/v1/me/sessions/a/b",
        "/.well-known/",
        "/%2e%2e/x",
    ] {
        replica.send(get(path)).await.assert_problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_path_with_an_unknown_or_malformed_part_is_404() {
    let replica = Replica::start().await;
    let token = replica.admin_token().await;
    for route in
        route_table().iter().filter(|route| route.path.contains('{') && route.method == Method::DELETE)
    {
        for part in [
            "x",
            "%00",
            "%ff",
            "00000000-0000-4000-8000-000000000000",
            "00000000000040008000000000000000",
            "'--",
        ] {
            let path = route.path.replace("{id}", part).replace("{name}", part);
            let answer =
                replica.send(Call::new(route.listener, route.method.clone(), &path).bearer(&token)).await;
            answer.assert_problem(404, "not_found");
        }
    }
}

#[tokio::test]
async fn every_response_has_a_request_id_and_keeps_a_well_formed_one() {
    let replica = Replica::start().await;
    let answer = replica.send(get("/livez").header("x-request-id", "from-balancer-1")).await;
    assert_eq!(answer.header("x-request-id"), Some("from-balancer-1"));
    let answer = replica.send(get("/livez").header("x-request-id", "no spaces")).await;
    assert!(answer.header("x-request-id").unwrap().len() > 16);
}

#[tokio::test]
async fn only_scripts_of_configured_origins_may_call() {
    let replica =
        Replica::with(|config| config.cors_allowed_origins = vec!["https://app.example.com".to_owned()])
            .await;
    let allowed = |answer: &Answer| answer.header("access-control-allow-origin").map(str::to_owned);
    let answer = replica.send(get("/livez").header("origin", "https://app.example.com")).await;
    assert_eq!(allowed(&answer).as_deref(), Some("https://app.example.com"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    for other in ["https://evil.example", "https://app.example.com.evil.example", "null"] {
        assert_eq!(allowed(&replica.send(get("/livez").header("origin", other)).await), None, "{other}");
    }
    let preflight = Call::new(Listener::Public, Method::OPTIONS, "/v1/login")
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type");
    let (status, headers) = replica.send_to_layers(preflight).await;
    assert_eq!(status, 200);
    assert_eq!(headers["access-control-allow-headers"], "authorization,content-type");
    assert!(headers.contains_key("x-request-id"));
}
