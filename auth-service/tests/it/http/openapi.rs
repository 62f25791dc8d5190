//! The route table and `openapi.yaml` agree.

use std::collections::BTreeSet;

use auth_service::http::{Access, Code, Listener, Route, route_table};
use serde_json::Value;

use super::contract::{Contract, array, object};
use super::documents;

type Line = (Listener, String, String, String);

#[test]
fn every_route_is_described_and_everything_described_is_routed() {
    let access = |access: Access| match access {
        Access::Open => "open".to_owned(),
        Access::Session => "session".to_owned(),
        Access::Permission(permission) => permission.as_str().to_owned(),
    };
    let routed: BTreeSet<Line> = route_table()
        .into_iter()
        .map(|Route { listener, method, path, access: needed, .. }| {
            (listener, path.to_owned(), method.to_string(), access(needed))
        })
        .collect();
    let described: BTreeSet<Line> = Contract::shared()
        .operations()
        .into_iter()
        .flat_map(|operation| {
            let security = access_of(&operation.value["security"]);
            let line = move |listener| {
                (listener, operation.path.to_owned(), operation.method.to_string(), security.clone())
            };
            operation.listeners.clone().into_iter().map(line)
        })
        .collect();
    assert_eq!(routed, described);
}

/// `[]` or with an empty choice: open; `bearer: []`: a session; `bearer: [permission]`.
fn access_of(security: &Value) -> String {
    let choices = array(security);
    match choices.iter().find_map(|choice| choice.get("bearer")) {
        Some(scopes) if choices.len() == 1 => {
            array(scopes).first().and_then(Value::as_str).unwrap_or("session").to_owned()
        }
        _ => "open".to_owned(),
    }
}

#[test]
fn every_example_is_valid() {
    let contract = Contract::shared();
    let document = contract.document();
    let mut examples = 0;
    for (name, schema) in object(&document["components"]["schemas"]) {
        for example in schema.get("examples").map(array).into_iter().flatten() {
            let violations = contract.violations(schema, example, name);
            assert!(violations.is_empty(), "{name}: {violations:#?}");
            examples += 1;
        }
    }
    assert!(examples > 30);
}

#[test]
fn the_enum_of_codes_is_the_table_of_codes() {
    let document = Contract::shared().document();
    let listed = array(&document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]);
    let described: Vec<&str> = listed.iter().filter_map(Value::as_str).collect();
    let used: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(used, described);
}

#[test]
fn the_description_lists_every_code_with_its_status_and_title() {
    let document = Contract::shared().document();
    documents::assert_codes(document["info"]["description"].as_str().unwrap());
}
