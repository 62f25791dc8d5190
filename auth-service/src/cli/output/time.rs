//! Times and ages for people, and as people type them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use verifier::{Seconds, UnixTime};

use auth_service::domain::rfc3339::rfc3339;

/// Names of units with their lengths in seconds, the longest first.
const UNITS: [(&str, i64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];

/// A time in UTC: `2026-12-01 05:14:03Z`.
pub(in crate::cli) fn moment(at: UnixTime) -> String {
    rfc3339(at).replacen('T', " ", 1)
}

/// The distance of a time from now: `in 14 min`, `3 h ago`, `now`.
pub(in crate::cli) fn relative(at: UnixTime, now: UnixTime) -> String {
    match (at - now).0 {
        0 => "now".to_owned(),
        ahead @ 1.. => format!("in {}", age(Seconds(ahead))),
        ago => format!("{} ago", age(Seconds(ago.saturating_neg()))),
    }
}

/// A length of time in its largest unit of which there are two, or as `1 min`: `90 s` is `90 s`, 3 hours are `3 h`.
pub(in crate::cli) fn age(length: Seconds) -> String {
    let is_exact = |unit: i64| length.0 == unit;
    let fits = |unit: i64| length.0 >= 2 * unit || is_exact(unit);
    let (name, unit) = UNITS.into_iter().find(|(_, unit)| fits(*unit)).unwrap_or(("s", 1));
    format!("{} {name}", length.0 / unit)
}

/// Parses a time in RFC 3339, a date, or an age such as `2h`, `30m` and `7d`, counted back from `now`.
pub(in crate::cli) fn parse(text: &str, now: UnixTime) -> Result<UnixTime, String> {
    let with_time = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
    if let Some(at) = with_time(text).or_else(|| with_time(&format!("{text}T00:00:00Z"))) {
        return Ok(UnixTime(at.unix_timestamp()));
    }
    let age = || {
        let unit = match text.as_bytes().last()? {
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            _ => return None,
        };
        let count: u32 = text.get(..text.len() - 1)?.parse().ok()?;
        Some(now - Seconds(i64::from(count) * unit))
    };
    age().ok_or_else(|| {
        format!("`{text}` is neither a time such as 2026-12-01T05:00:00Z, a date such as 2026-12-01, nor an age such as 30m, 2h or 7d")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_796_101_200);

    #[test]
    fn distances_are_in_the_largest_unit_that_says_enough() {
        for (distance, text) in [
            (0, "now"),
            (1, "in 1 s"),
            (60, "in 1 min"),
            (119, "in 119 s"),
            (120, "in 2 min"),
            (-3_600, "1 h ago"),
            (-7_199, "119 min ago"),
            (7_200, "in 2 h"),
            (-172_800, "2 d ago"),
        ] {
            assert_eq!(relative(NOW + Seconds(distance), NOW), text);
        }
    }

    #[test]
    fn times_dates_and_ages_are_parsed() {
        let parsed = |text| parse(text, NOW).map(moment);
        assert_eq!(parsed("2026-12-01T05:00:00Z").as_deref(), Ok("2026-12-01 05:00:00Z"));
        assert_eq!(parsed("2026-12-01T06:00:00+01:00").as_deref(), Ok("2026-12-01 05:00:00Z"));
        assert_eq!(parsed("2026-12-01").as_deref(), Ok("2026-12-01 00:00:00Z"));
        for (text, seconds) in [("45s", 45), ("30m", 1_800), ("2h", 7_200), ("7d", 604_800)] {
            assert_eq!(parse(text, NOW), Ok(NOW - Seconds(seconds)), "{text}");
        }
        for bad in ["", "h", "2 h", "-2h", "2w", "yesterday", "2026-13-01", "é"] {
            assert!(parse(bad, NOW).is_err(), "{bad}");
        }
    }
}
