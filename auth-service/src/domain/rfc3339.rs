//! Instants as text.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use verifier::UnixTime;

/// An instant in RFC 3339: UTC, whole seconds. Clamped to the years 1970 to 9999.
pub fn rfc3339(at: UnixTime) -> String {
    let seconds = at.0.clamp(0, 253_402_300_799);
    let text = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|at| at.format(&Rfc3339).ok());
    text.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_is_utc_in_whole_seconds_with_clamped_years() {
        for (seconds, text) in [
            (i64::MIN, "1970-01-01T00:00:00Z"),
            (0, "1970-01-01T00:00:00Z"),
            (1_772_366_400, "2026-03-01T12:00:00Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(UnixTime(seconds)), text);
        }
    }
}
