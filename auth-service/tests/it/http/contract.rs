//! Checks responses against `openapi.yaml`. Supports the part of `OpenAPI` 3.1 and JSON Schema that the document uses, and panics
//! at the rest, so that nothing in it goes unchecked.

use std::sync::OnceLock;

use auth_service::http::{Listener, OPENAPI};
use http::{HeaderMap, Method, StatusCode};
use regex::Regex;
use serde_json::{Map, Value};

pub(crate) struct Contract(Value);

/// One method of one path.
pub(crate) struct Operation<'a> {
    pub(crate) path: &'a str,
    pub(crate) method: Method,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) value: &'a Value,
}

impl Contract {
    pub(crate) fn shared() -> &'static Self {
        static CONTRACT: OnceLock<Contract> = OnceLock::new();
        CONTRACT.get_or_init(|| {
            // YAML 1.2: `y` is a letter, as OpenAPI wants it.
            let options = serde_saphyr::options! { strict_booleans: true };
            Self(serde_saphyr::from_str_with_options(OPENAPI, options).expect("openapi.yaml is YAML"))
        })
    }

    pub(crate) fn document(&self) -> &Value {
        &self.0
    }

    pub(crate) fn operations(&self) -> Vec<Operation<'_>> {
        let mut operations = Vec::new();
        for (path, item) in object(&self.0["paths"]) {
            for (name, value) in object(item) {
                let method = match name.as_str() {
                    "get" => Method::GET,
                    "post" => Method::POST,
                    "put" => Method::PUT,
                    "patch" => Method::PATCH,
                    "delete" => Method::DELETE,
                    "servers" | "parameters" => continue,
                    other => panic!("{path} has a member {other} that this test does not know"),
                };
                let listeners = array(&value["tags"])
                    .iter()
                    .map(|tag| if tag == "public" { Listener::Public } else { Listener::Admin })
                    .collect();
                operations.push(Operation { path, method, listeners, value });
            }
        }
        operations
    }

    /// Panics unless the document describes this response.
    pub(crate) fn check(
        &self,
        (listener, method, path): (Listener, &Method, &str),
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) {
        let path = path.split('?').next().unwrap_or_default();
        let what = format!("{method} {path} on {listener:?} answered {status}");
        let here: Vec<_> = self
            .operations()
            .into_iter()
            .filter(|operation| operation.listeners.contains(&listener) && matches(operation.path, path))
            .collect();
        let wanted = if method == Method::HEAD { Method::GET } else { method.clone() };
        // A fixed path outranks a variable one.
        let operation = here
            .iter()
            .filter(|operation| operation.method == wanted)
            .min_by_key(|operation| operation.path.contains('{'));
        let described = match operation {
            Some(operation) => operation.value["responses"].get(status.as_str()).map(|it| self.resolve(it)),
            None => None,
        };
        match (described, status) {
            (Some(response), _) => {
                self.check_response(&what, &response, headers, body, method == Method::HEAD);
            }
            (None, StatusCode::NOT_FOUND) if here.is_empty() => self.check_problem(&what, headers, body),
            (None, StatusCode::METHOD_NOT_ALLOWED) if operation.is_none() && !here.is_empty() => {
                assert!(headers.contains_key("allow"), "{what} without allow");
                self.check_problem(&what, headers, body);
            }
            (None, StatusCode::INTERNAL_SERVER_ERROR) => self.check_problem(&what, headers, body),
            (None, _) => {
                panic!("{what}, which openapi.yaml does not describe: {}", String::from_utf8_lossy(body))
            }
        }
    }

    fn check_problem(&self, what: &str, headers: &HeaderMap, body: &[u8]) {
        let response = self.resolve(&self.0["components"]["responses"]["NotFound"]);
        self.check_response(what, &response, headers, body, false);
    }

    fn check_response(&self, what: &str, response: &Value, headers: &HeaderMap, body: &[u8], is_head: bool) {
        for (name, header) in response.get("headers").map(object).into_iter().flatten() {
            let header = self.resolve(header);
            match headers.get(name).map(|value| value.to_str().expect("a header of ours is ASCII")) {
                None => assert!(header["required"] != true, "{what} without {name}"),
                Some(text) => {
                    let value = match header["schema"]["type"].as_str() {
                        Some("integer") => text.parse::<i64>().expect("a whole number").into(),
                        _ => Value::from(text),
                    };
                    self.assert_valid(&format!("{what}: header {name}"), &header["schema"], &value);
                }
            }
        }
        let Some(content) = response.get("content") else {
            return assert!(body.is_empty(), "{what} with a body that is not described");
        };
        let content_type =
            headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default();
        let described = content.get(essence);
        let schema =
            &described.unwrap_or_else(|| panic!("{what} as {essence:?}, which is not described"))["schema"];
        if essence.ends_with("json") && !is_head {
            let value = serde_json::from_slice(body).unwrap_or_else(|error| panic!("{what}: {error}"));
            self.assert_valid(what, schema, &value);
        }
    }

    fn assert_valid(&self, what: &str, schema: &Value, value: &Value) {
        let violations = self.violations(schema, value, "");
        assert!(violations.is_empty(), "{what}: {violations:#?}\nin {value:#}");
    }

    /// Where `value` violates `schema`.
    pub(crate) fn violations(&self, schema: &Value, value: &Value, at: &str) -> Vec<String> {
        let schema = self.resolve(schema);
        let mut found = Vec::new();
        for (keyword, rule) in object(&schema) {
            let holds = match keyword.as_str() {
                "description" | "examples" | "discriminator" | "default" => true,
                "type" => is_of_type(rule, value),
                "const" => rule == value,
                "enum" => array(rule).contains(value),
                "required" => array(rule).iter().all(|name| value.get(text(name)).is_some()),
                "additionalProperties" if rule == true => true,
                "additionalProperties" => {
                    let known = object(&schema["properties"]);
                    value
                        .as_object()
                        .is_none_or(|members| members.keys().all(|name| known.contains_key(name)))
                }
                "properties" => {
                    for (name, rule) in object(rule) {
                        if let Some(member) = value.get(name) {
                            found.extend(self.violations(rule, member, &format!("{at}.{name}")));
                        }
                    }
                    true
                }
                "items" => {
                    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                        found.extend(self.violations(rule, item, &format!("{at}[{i}]")));
                    }
                    true
                }
                "oneOf" => {
                    array(rule).iter().filter(|one| self.violations(one, value, at).is_empty()).count() == 1
                }
                "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= number(rule)),
                "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= number(rule)),
                "uniqueItems" => value
                    .as_array()
                    .is_none_or(|items| (1..items.len()).all(|i| !items[..i].contains(&items[i]))),
                "minLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 >= number(rule)),
                "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 <= number(rule)),
                "pattern" => value
                    .as_str()
                    .is_none_or(|value| Regex::new(text(rule)).expect("a pattern").is_match(value)),
                "minimum" => value.as_i64().is_none_or(|value| value >= rule.as_i64().expect("a number")),
                "maximum" => value.as_i64().is_none_or(|value| value <= rule.as_i64().expect("a number")),
                "format" => value.as_str().is_none_or(|value| has_format(text(rule), value)),
                other => panic!("the keyword {other} of openapi.yaml is not checked by this test"),
            };
            if !holds {
                found.push(format!("{at}: {keyword} {rule}"));
            }
        }
        found
    }

    /// Follows `$ref` and adds the members beside it.
    pub(crate) fn resolve(&self, value: &Value) -> Value {
        let Some(reference) = value.get("$ref") else { return value.clone() };
        let pointer = text(reference).strip_prefix('#').expect("references stay inside the document");
        let mut target =
            self.resolve(self.0.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is missing")));
        let members = target.as_object_mut().expect("a referenced object");
        for (name, beside) in object(value).iter().filter(|(name, _)| *name != "$ref") {
            match members.get_mut(name) {
                Some(Value::Array(there)) if beside.is_array() => there.extend_from_slice(array(beside)),
                _ => drop(members.insert(name.clone(), beside.clone())),
            }
        }
        target
    }
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let fits =
        |(part, actual): (&&str, &&str)| part == actual || (part.starts_with('{') && !actual.is_empty());
    template.len() == path.len() && template.iter().zip(&path).all(fits)
}

fn is_of_type(rule: &Value, value: &Value) -> bool {
    let is = |name: &Value| match text(name) {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the type {other} is not checked by this test"),
    };
    match rule {
        Value::Array(names) => names.iter().any(is),
        name => is(name),
    }
}

fn has_format(format: &str, value: &str) -> bool {
    match format {
        "uuid" => uuid::Uuid::try_parse(value).is_ok_and(|id| id.hyphenated().to_string() == value),
        "uri" => value.parse::<http::Uri>().is_ok_and(|uri| uri.scheme().is_some()),
        "uri-reference" => value.parse::<http::Uri>().is_ok(),
        // `date-time` comes with a pattern that says more.
        "date-time" | "password" => true,
        other => panic!("the format {other} is not checked by this test"),
    }
}

pub(crate) fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("not an object: {value}"))
}

pub(crate) fn array(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"))
}
