//! Compares what was printed with what a document shows. Names, numbers and times differ from run to run; the
//! members of a JSON object and the words of a line do not.

use serde_json::{Deserializer, Value};

use super::document::{Block, Format, Kind};

/// Compares `printed` with the block of an expected output.
pub(super) fn compare(output: &Block, printed: &str) -> Result<(), String> {
    match output.kind {
        Kind::Output(Format::Json) => compare_json(&output.lines.join("\n"), printed),
        _ => compare_text(&output.lines, printed),
    }
}

/// Returns the first error response in `printed` whose code the document does not show.
pub(super) fn find_undocumented_error(expected: &str, printed: &str) -> Option<String> {
    printed.lines().find_map(|line| {
        let body: Value = serde_json::from_str(line).ok()?;
        let code = body["code"].as_str().filter(|_| body["status"].is_u64())?;
        (!expected.contains(&format!("{code:?}")))
            .then(|| format!("an error that the document does not show: {code}"))
    })
}

fn compare_json(expected: &str, printed: &str) -> Result<(), String> {
    let expected = values(expected).map_err(|error| format!("the document's JSON: {error}"))?;
    // Remarks on standard error stand between the values.
    let printed: Vec<&str> =
        printed.lines().filter(|line| line.starts_with(['{', '[', ' ', '}', ']'])).collect();
    let printed = values(&printed.join("\n")).map_err(|error| format!("the printed JSON: {error}"))?;
    if expected.len() != printed.len() {
        return Err(format!("{} JSON values instead of {}", printed.len(), expected.len()));
    }
    expected.iter().zip(&printed).try_for_each(|(expected, printed)| compare_values("", expected, printed))
}

fn values(text: &str) -> serde_json::Result<Vec<Value>> {
    Deserializer::from_str(text).into_iter().collect()
}

fn compare_values(at: &str, expected: &Value, printed: &Value) -> Result<(), String> {
    match (expected, printed) {
        (Value::Object(expected), Value::Object(printed)) => {
            let (mut shown, mut real): (Vec<_>, Vec<_>) =
                (expected.keys().collect(), printed.keys().collect());
            shown.sort_unstable();
            real.sort_unstable();
            if shown != real {
                return Err(format!(
                    "members of {at:?}: the document shows {shown:?}, printed were {real:?}"
                ));
            }
            expected
                .iter()
                .try_for_each(|(key, value)| compare_values(&format!("{at}.{key}"), value, &printed[key]))
        }
        (Value::Array(expected), Value::Array(printed)) => {
            let Some(first) = expected.first() else { return Ok(()) };
            printed.iter().try_for_each(|value| compare_values(&format!("{at}[]"), first, value))
        }
        (Value::String(shown), Value::String(real)) if is_decided_by(at) => {
            if shown == real {
                Ok(())
            } else {
                Err(format!("{at}: {real:?} instead of {shown:?}"))
            }
        }
        (Value::Null, _) | (_, Value::Null) => Ok(()),
        _ if std::mem::discriminant(expected) == std::mem::discriminant(printed) => Ok(()),
        _ => Err(format!("{at}: {printed} instead of {expected}")),
    }
}

/// Whether programs decide by the value of this member, so that another one is another answer.
fn is_decided_by(at: &str) -> bool {
    matches!(at.rsplit_once('.'), Some((_, "code" | "result" | "label")))
}

/// Each expected line must be printed, in this order. Other lines may stand between them only where the
/// document has a line `...`; which database a command uses need not be shown.
fn compare_text(expected: &[String], printed: &str) -> Result<(), String> {
    let shows_database = expected.iter().any(|line| line.starts_with("database: "));
    let mut printed = printed
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && (shows_database || !line.starts_with("database: ")));
    let mut may_skip = false;
    for line in expected.iter().map(|line| line.trim_end()).filter(|line| !line.is_empty()) {
        if line.trim() == "..." {
            may_skip = true;
            continue;
        }
        let found = if may_skip {
            printed.by_ref().any(|printed| is_alike(line, printed)).then_some(line)
        } else {
            printed.next().filter(|printed| is_alike(line, printed))
        };
        found.ok_or_else(|| format!("this line was not printed here: {line}"))?;
        may_skip = false;
    }
    match printed.next() {
        Some(line) if !may_skip => Err(format!("this line is not in the document: {line}")),
        _ => Ok(()),
    }
}

/// Whether two lines differ only in spaces and in words that vary.
fn is_alike(expected: &str, printed: &str) -> bool {
    let (expected, printed) = (steady(expected), steady(printed));
    if let Some(start) = expected.strip_suffix("...") {
        return printed.starts_with(start.trim_end());
    }
    expected == printed
}

/// The words of a line, with a star for each that may vary: with a digit, of more than 20 letters, a path, an
/// address or the name of this machine. A distance in time, such as `(in 14 min)`, `(3 h ago)` or `(now)`, is
/// one such word.
fn steady(line: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    let mut parts = line.split_whitespace();
    while let Some(word) = parts.next() {
        let begins_distance = |word: &str| {
            word.strip_prefix('(').is_some_and(|rest| {
                rest == "in" || rest == "now)" || rest.starts_with(|c: char| c.is_ascii_digit())
            })
        };
        if begins_distance(word) && (word.ends_with(')') || parts.any(|part| part.ends_with(')'))) {
            words.push("(*)");
            continue;
        }
        let varies = word.len() > 20
            || word.contains(|c: char| c.is_ascii_digit() || c == '/' || c == '@')
            || rustix::system::uname().nodename().to_str() == Ok(word);
        words.push(if varies { "*" } else { word });
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(expected: &str, printed: &str) -> Result<(), String> {
        compare_json(expected, printed)
    }

    fn text(expected: &[&str], printed: &str) -> Result<(), String> {
        compare_text(&expected.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>(), printed)
    }

    #[test]
    fn json_may_differ_in_values_but_not_in_members() {
        assert_eq!(json(r#"{"a":1,"b":{"c":null}}"#, "database: x\n{\"b\":{\"c\":\"now\"},\"a\":2}"), Ok(()));
        assert!(json(r#"{"a":1}"#, r#"{"a":1,"b":2}"#).is_err());
        assert!(json(r#"{"a":1,"b":2}"#, r#"{"a":1}"#).is_err());
        assert!(json(r#"{"a":[{"b":1}]}"#, r#"{"a":[{"c":1}]}"#).is_err());
        assert!(json(r#"{"a":1}"#, r#"{"a":"1"}"#).is_err());
        assert!(json(r#"{"a":1}"#, "{\"a\":1}\n{\"a\":1}").is_err());
        assert!(json(r#"{"code":"invalid_token"}"#, r#"{"code":"forbidden"}"#).is_err());
    }

    #[test]
    fn lines_may_differ_in_names_and_times_but_not_in_words() {
        let row =
            "yVf4kq3XUeVtZQc8qvDEmBJc0dYPUD6zUO1cyY8Kw6c  ES256  active   2026-12-01 05:14:03Z (in 14 min)";
        let other = "QZ  ES256 active 2027-01-01 00:00:00Z (now)".replace("QZ", &"z".repeat(43));
        assert_eq!(
            text(&["KID ALG PHASE", row], &format!("database: x\nKID  ALG  PHASE\n{other}\n")),
            Ok(())
        );
        assert!(text(&[row], &other.replace("active", "pending")).is_err());
        assert!(text(&["KID ALG"], "KID ALG PHASE").is_err());
    }

    #[test]
    fn other_lines_stand_only_at_an_ellipsis() {
        assert_eq!(text(&["a", "...", "d"], "a\nb\nc\nd"), Ok(()));
        assert!(text(&["a", "d"], "a\nb\nc\nd").is_err());
        assert!(text(&["a"], "a\nb").is_err());
        assert_eq!(text(&["a", "..."], "a\nb"), Ok(()));
        assert!(text(&["b", "a"], "a\nb").is_err());
        assert_eq!(text(&["error: no database at ..."], "error: no database at /x (y)"), Ok(()));
    }

    #[test]
    fn error_response_must_be_in_the_document() {
        let refused = r#"{"title":"Invalid access token","status":401,"code":"invalid_token"}"#;
        assert!(find_undocumented_error("", refused).is_some());
        assert_eq!(find_undocumented_error(refused, refused), None);
    }
}
