//! Request bodies that every route must refuse.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::CANARY;
use super::routes::Route;

pub(super) struct Case {
    pub(super) what: String,
    pub(super) content_type: Option<&'static str>,
    pub(super) body: Bytes,
    /// The status, if only one is correct.
    pub(super) status: Option<StatusCode>,
}

const JSON: Option<&str> = Some("application/json");
const MALFORMED: Option<StatusCode> = Some(StatusCode::BAD_REQUEST);
const TOO_LARGE: Option<StatusCode> = Some(StatusCode::PAYLOAD_TOO_LARGE);

/// All bad bodies for a route that accepts a body; none for other routes.
pub(super) fn cases(route: &Route) -> Vec<Case> {
    let Some(good) = &route.good else { return Vec::new() };
    let mut cases = wrong_content_types(good);
    cases.extend(not_json(good, route.body_is_optional));
    cases.extend(wrong_members(good));
    for name in good.as_object().into_iter().flatten().map(|(name, _)| name) {
        cases.extend(wrong_values(good, name));
    }
    cases
}

fn wrong_content_types(good: &Value) -> Vec<Case> {
    let types = [
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("application/xml"),
        Some("multipart/form-data; boundary=x"),
        Some("application/jsonx"),
        Some(";"),
        None,
    ];
    let status = Some(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    types
        .map(|content_type| Case {
            what: format!("content-type {content_type:?}"),
            content_type,
            body: good.to_string().into(),
            status,
        })
        .into()
}

fn not_json(good: &Value, optional: bool) -> Vec<Case> {
    let text = good.to_string();
    let mut bodies: Vec<(&str, Vec<u8>)> = vec![
        ("half an object", text.as_bytes()[..text.len() / 2].to_vec()),
        ("something after the object", [text.as_bytes(), b"x"].concat()),
        ("two objects", text.repeat(2).into_bytes()),
        ("null", b"null".to_vec()),
        ("a number", b"7".to_vec()),
        ("a string", format!("\"{CANARY}\"").into_bytes()),
        ("a list", format!("[{text}]").into_bytes()),
        ("not a number", b"NaN".to_vec()),
        ("words", CANARY.as_bytes().to_vec()),
        ("a form", format!("username=a&password={CANARY}").into_bytes()),
        ("a byte order mark", [b"\xef\xbb\xbf", text.as_bytes()].concat()),
        ("UTF-16", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("a thousand lists", "[".repeat(1000).into_bytes()),
    ];
    if !optional {
        bodies.push(("nothing", Vec::new()));
    }
    bodies
        .into_iter()
        .map(|(what, body)| Case {
            what: what.into(),
            content_type: JSON,
            body: body.into(),
            status: MALFORMED,
        })
        .collect()
}

fn wrong_members(good: &Value) -> Vec<Case> {
    let mut extra = good.clone();
    extra["surplus"] = json!(CANARY);
    let mut bodies = vec![("an unknown member".to_owned(), extra.to_string(), MALFORMED)];
    for (name, value) in good.as_object().into_iter().flatten() {
        // Written as text: a JSON object in memory cannot have duplicate names.
        let twice = good.to_string().replacen('{', &format!("{{\"{name}\":{value},"), 1);
        bodies.push((format!("{name} twice"), twice, MALFORMED));
    }
    let mut padded = good.clone();
    padded["surplus"] = json!(CANARY.repeat(100_000));
    bodies.push(("a megabyte too much".to_owned(), padded.to_string(), TOO_LARGE));
    bodies
        .into_iter()
        .map(|(what, body, status)| Case { what, content_type: JSON, body: body.into(), status })
        .collect()
}

fn wrong_values(good: &Value, name: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |what: &str, value: &[u8], status| {
        let what = format!("{name}: {what}");
        cases.push(Case { what, content_type: JSON, body: with_raw(good, name, value), status });
    };
    let of_another_type = [
        ("null", json!(null)),
        ("a boolean", json!(true)),
        ("zero", json!(0)),
        ("minus one", json!(-1)),
        ("a fraction", json!(1.5)),
        ("a string", json!(CANARY)),
        ("a list", json!([])),
        ("a list of numbers", json!([1])),
        ("an object", json!({})),
        ("an object with a secret name", json!({ CANARY: CANARY })),
    ];
    for (what, value) in &of_another_type {
        let is_list_of_numbers = value.as_array().is_some_and(|items| !items.is_empty());
        if is_list_of_numbers || kind(value) != kind(&good[name]) {
            add(what, value.to_string().as_bytes(), MALFORMED);
        }
    }
    add("a huge number", b"99999999999999999999999999999999", MALFORMED);
    add("a huge negative number", b"-99999999999999999999999999999999", MALFORMED);
    add("a number beyond every float", b"1e999", MALFORMED);
    add("invalid UTF-8", b"\"abc\xff\xfe\"", MALFORMED);
    add("half a surrogate", br#""abc\ud800""#, MALFORMED);
    add("a raw control character", b"\"abc\n\"", MALFORMED);
    if good[name].is_string() {
        let megabyte = format!("\"{}\"", CANARY.repeat(1_000_000 / CANARY.len()));
        add("a megabyte", megabyte.as_bytes(), TOO_LARGE);
        // All of them are strings; the error depends on the member.
        add("empty", b"\"\"", None);
        add("a NUL", br#""ab\u0000c""#, None);
        add("ten thousand characters", format!("\"{}\"", CANARY.repeat(770)).as_bytes(), None);
        add("only spaces", b"\"   \"", None);
        add("emoji and directions", "\"\u{202e}\u{1f512}\u{0}\"".replace('\0', "").as_bytes(), None);
    }
    cases
}

/// The valid body with the raw text `value` for the member `name`.
fn with_raw(good: &Value, name: &str, value: &[u8]) -> Bytes {
    let mut body = b"{".to_vec();
    for (place, (member, usual)) in good.as_object().into_iter().flatten().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        body.extend(format!("\"{member}\":").bytes());
        if member == name { body.extend(value) } else { body.extend(usual.to_string().bytes()) }
    }
    body.push(b'}');
    body.into()
}

const fn kind(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}
