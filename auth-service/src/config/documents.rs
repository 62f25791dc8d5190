//! Tests that the documents list every configuration key, and nothing else.

use super::*;

const CONFIGURATION: &str = include_str!("../../../docs/configuration.md");
const OPERATOR_GUIDE: &str = include_str!("../../../docs/operator-guide.md");
const EXAMPLE: &str = include_str!("../../../deploy/example.toml");

/// The cells of each row of the only table whose header is `header`.
fn rows<'a>(document: &'a str, header: &str) -> Vec<Vec<&'a str>> {
    let mut lines = document.lines().skip_while(|line| *line != header);
    assert!(lines.next().is_some(), "no table has the header {header}");
    let cells = |line: &'a str| line.trim_matches('|').split('|').map(str::trim).collect();
    lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
}

fn sorted<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names
}

#[test]
fn table_of_keys_lists_every_key_and_marks_live_ones() {
    let rows = rows(CONFIGURATION, "| key | default | live | meaning |");
    let listed = rows.iter().map(|cells| cells[0].trim_matches('`'));
    assert_eq!(sorted(listed), sorted(source::keys()));
    for cells in &rows {
        let key = cells[0].trim_matches('`');
        assert_eq!(cells[2] == "live", is_live(key), "{key}");
    }
}

#[test]
fn table_of_keys_shows_the_defaults() {
    let shown: Vec<_> = [Config::default().shown(), Settings::default().shown()].concat();
    for cells in rows(CONFIGURATION, "| key | default | live | meaning |") {
        let key = cells[0].trim_matches('`');
        let (_, default) = shown.iter().find(|(name, _)| *name == key).unwrap();
        // Some defaults are described instead: "none", "one per CPU, ...".
        if let (Some(listed), Some(default)) =
            (cells[1].strip_prefix('`').and_then(|cell| cell.strip_suffix('`')), default)
        {
            let bare = |text: &str| text.replace(['"', ' '], "");
            assert_eq!(bare(listed), bare(default), "{key}");
        }
    }
}

#[test]
fn example_file_lists_every_key_with_its_default_and_marks_live_ones() {
    let (mut listed, mut values, mut is_marked) = (Vec::new(), String::new(), false);
    for line in EXAMPLE.lines().skip_while(|line| !line.starts_with("# ---")) {
        // "# key = value" is a key without a fixed default; every other comment is prose.
        let assignment = line.strip_prefix("# ").unwrap_or(line).split_once(" = ");
        if let Some((key, _)) = assignment.filter(|(key, _)| source::keys().any(|known| known == *key)) {
            assert_eq!(is_marked, is_live(key), "{key}");
            listed.push(key);
            is_marked = false;
            if !line.starts_with('#') {
                values.push_str(line);
                values.push('\n');
            }
        } else if line.starts_with("# (*) ") {
            is_marked = true;
        }
    }
    assert_eq!(sorted(listed), sorted(source::keys()));
    let table: toml::Table = values.parse().unwrap();
    let defaults = [Config::default().shown(), Settings::default().shown()].concat();
    for (key, value) in table {
        let (_, default) = defaults.iter().find(|(name, _)| *name == key).unwrap();
        let default = read_toml(default.as_deref().unwrap_or_default()).unwrap();
        assert_eq!(value, default, "{key}");
    }
}

#[test]
fn operator_guide_lists_every_live_setting() {
    let rows = rows(OPERATOR_GUIDE, "| setting | takes effect |");
    let listed = rows.iter().flat_map(|cells| cells[0].split('`').skip(1).step_by(2));
    assert_eq!(sorted(listed), sorted(Settings::KEYS.iter().copied()));
}
