//! Durations as people write them: `90s`, `15m`, `30d`, `500ms`.

use std::time::Duration;

/// Ten years. A longer value is a mistake, and the sum of two values at the maximum still fits everywhere.
const MAX: Duration = Duration::from_hours(3650 * 24);

/// Units as (suffix, milliseconds): the smallest, then all others from the largest.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

/// Parses a whole number and one unit. The error is a phrase such as "must be …".
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let unit = UNITS.iter().find(|(name, _)| *name == suffix);
    let (Ok(number), Some((_, unit))) = (number.parse::<u64>(), unit) else {
        return Err("must be a whole number with its unit, such as 500ms, 90s, 15m, 12h or 30d".to_owned());
    };
    number
        .checked_mul(*unit)
        .map(Duration::from_millis)
        .filter(|duration| *duration <= MAX)
        .ok_or_else(|| "must be at most 3650d".to_owned())
}

/// Formats a duration in the largest unit that is exact.
pub(super) fn format(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (name, unit) = match millis {
        0 => ("s", 1_000),
        _ => UNITS[1..].iter().copied().find(|(_, unit)| millis % unit == 0).unwrap_or(UNITS[0]),
    };
    format!("{}{name}", millis / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_with_a_unit_is_a_duration() {
        for (text, millis) in
            [("500ms", 500), ("90s", 90_000), ("15m", 900_000), ("12h", 43_200_000), ("30d", 2_592_000_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn malformed_and_too_long_durations_are_refused() {
        for text in ["", "5", "s", "-5s", "1.5h", "5 m", "5M", "5m30s", "٥s", "18446744073709551616s", "+5s"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("3650d").is_ok());
        assert!(parse("3651d").is_err());
        assert!(parse("18446744073709551615d").is_err());
    }

    #[test]
    fn durations_are_formatted_in_the_largest_exact_unit() {
        for text in ["0s", "1ms", "500ms", "90s", "15m", "25h", "30d"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(format(parse("60s").unwrap()), "1m");
        assert_eq!(format(parse("1000ms").unwrap()), "1s");
    }
}
