//! Durations as people write them: `90s`, `15m`, `30d`, `500ms`.

use std::time::Duration;

/// Ten years; longer is a slip of the pen, and the sum of two still fits everywhere.
const LONGEST: Duration = Duration::from_hours(3650 * 24);

/// Units from the largest, as (suffix, milliseconds); `ms` stands before `m` and `s` so that suffixes match whole.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

/// Reads a whole number and one unit. The error completes the sentence "must be …".
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
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| "must be at most 3650d".to_owned())
}

/// Writes the duration with the largest unit that loses nothing.
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
    fn a_number_and_a_unit_make_a_duration() {
        for (text, millis) in
            [("500ms", 500), ("90s", 90_000), ("15m", 900_000), ("12h", 43_200_000), ("30d", 2_592_000_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "5", "s", "-5s", "1.5h", "5 m", "5M", "5m30s", "٥s", "18446744073709551616s", "+5s"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("3650d").is_ok());
        assert!(parse("3651d").is_err());
        assert!(parse("18446744073709551615d").is_err());
    }

    #[test]
    fn formatting_uses_the_largest_exact_unit_and_reads_back() {
        for text in ["0s", "1ms", "500ms", "90s", "15m", "25h", "30d"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(format(parse("60s").unwrap()), "1m");
        assert_eq!(format(parse("1000ms").unwrap()), "1s");
    }
}
