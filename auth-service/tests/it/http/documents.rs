//! The tables of the documents list what the code has, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use auth_service::domain::audit::EventKind;
use auth_service::domain::authority::AdminPermission;
use auth_service::http::{Access, Code, Listener, route_table};
use auth_service::runtime::metric::{METRICS, MetricKind};
use regex::Regex;

const PROTOCOLS: &str = include_str!("../../../../docs/protocols.md");
const OPERATOR_GUIDE: &str = include_str!("../../../../docs/operator-guide.md");

/// The cells of each row of the only table whose header begins with `header`.
pub(crate) fn rows<'a>(document: &'a str, header: &str) -> Vec<Vec<&'a str>> {
    let mut lines = document.lines().map(str::trim).skip_while(|line| !line.starts_with(header));
    assert!(lines.next().is_some(), "no table begins with {header}");
    let cells = |line: &'a str| line.trim_matches('|').split('|').map(str::trim).collect();
    lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// The names in backticks.
pub(crate) fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Panics unless the table of error codes in `document` has these columns first: code, status, title.
#[track_caller]
pub(crate) fn assert_codes(document: &str) {
    let listed: Vec<String> =
        rows(document, "| `code` | status | title |").iter().map(|cells| cells[..3].join(" | ")).collect();
    let expected: Vec<String> = Code::ALL
        .iter()
        .map(|code| format!("`{}` | {} | {}", code.as_str(), code.status().as_u16(), code.title()))
        .collect();
    assert_eq!(listed, expected);
}

#[test]
fn protocols_lists_every_code_with_its_status_and_title() {
    assert_codes(PROTOCOLS);
}

#[test]
fn every_admin_permission_is_required_by_a_route_and_every_admin_route_requires_one() {
    let routes = route_table().into_iter().filter(|route| route.path.starts_with("/admin/"));
    let used: BTreeSet<AdminPermission> = routes
        .map(|route| match route.access {
            Access::Permission(permission) if route.listener == Listener::Admin => permission,
            access => panic!("{} {} requires {access:?}", route.method, route.path),
        })
        .collect();
    assert_eq!(used, AdminPermission::ALL.iter().copied().collect());
}

#[test]
fn protocols_lists_every_admin_permission() {
    let listed: Vec<&str> = PROTOCOLS.lines().filter(|line| line.starts_with("`audit:read` ")).collect();
    assert_eq!(listed.len(), 1, "one list of admin permissions");
    let paragraph = &PROTOCOLS[PROTOCOLS.find(listed[0]).unwrap()..];
    let listed = names(paragraph.split("\n\n").next().unwrap());
    assert_eq!(listed, AdminPermission::ALL.iter().map(|permission| permission.as_str()).collect::<Vec<_>>());
}

#[test]
fn protocols_lists_every_audit_event() {
    let list = PROTOCOLS.split("Events: ").nth(1).expect("a list of events");
    let listed = names(list.split("\n\n").next().unwrap());
    assert_eq!(listed, EventKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>());
}

#[test]
fn the_operator_guide_lists_every_metric_with_its_labels() {
    let mut listed = BTreeMap::new();
    for cells in rows(OPERATOR_GUIDE, "| metric | labels | meaning |") {
        // "`outcome`: `success`, …" is a label and its values.
        let labels = names(cells[1].split(':').next().unwrap());
        for metric in names(cells[0]) {
            assert!(listed.insert(metric, labels.clone()).is_none(), "{metric} is listed twice");
        }
    }
    let expected = METRICS.iter().map(|metric| (metric.name, metric.labels.to_vec())).collect();
    assert_eq!(listed, expected);
}

#[test]
fn the_operator_guide_mentions_no_other_metric() {
    let monitoring = OPERATOR_GUIDE.split("\n## ").find(|section| section.contains("| metric | labels |"));
    for name in Regex::new(r"\bauth_[a-z_]+").unwrap().find_iter(monitoring.unwrap()) {
        let is_known = METRICS.iter().any(|metric| metric.name == name.as_str());
        assert!(is_known || name.as_str() == "auth_service", "{}", name.as_str());
    }
}

/// The text of each source file in a folder and its subfolders.
fn sources(folder: &Path) -> Vec<String> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths
        .flat_map(
            |path| {
                if path.is_dir() { sources(&path) } else { vec![fs::read_to_string(&path).unwrap()] }
            },
        )
        .collect()
}

/// The macro calls that record metrics, each without its last parenthesis.
fn recordings() -> Vec<String> {
    let call = Regex::new(r"\b(counter|gauge|histogram)!\(").unwrap();
    let whole = |call: &str| {
        let mut depth = 0;
        let end = call.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            c == ')' && depth == 0
        });
        call[..end.unwrap()].to_owned()
    };
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let calls = sources.iter().flat_map(|text| call.find_iter(text).map(|found| &text[found.start()..]));
    calls.map(whole).collect()
}

#[test]
fn the_code_records_every_metric_of_the_table_with_its_labels_and_no_other() {
    let shape = Regex::new(r#"^(counter|gauge)!\(\s*"([a-z_]+)""#).unwrap();
    let label = Regex::new(r#""([a-z_]+)" =>"#).unwrap();
    let mut recorded = BTreeSet::new();
    for recording in recordings() {
        let Some(found) = shape.captures(&recording) else { panic!("the name is a literal: {recording}") };
        let metric = METRICS.iter().find(|metric| metric.name == &found[2]);
        let metric = metric.unwrap_or_else(|| panic!("{} is not in the table", &found[2]));
        let kind = if &found[1] == "counter" { MetricKind::Counter } else { MetricKind::Gauge };
        let labels: Vec<&str> =
            label.captures_iter(&recording).map(|found| found.get(1).unwrap().as_str()).collect();
        assert_eq!((metric.kind, metric.labels), (kind, &labels[..]), "{}", metric.name);
        recorded.insert(metric.name);
    }
    assert_eq!(recorded, METRICS.iter().map(|metric| metric.name).collect());
}
