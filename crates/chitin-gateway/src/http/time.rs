//! Times on the wire: RFC 3339 in UTC, with milliseconds.

use jiff::Timestamp;

/// `2026-01-31T12:00:00.123Z`. A time no calendar holds is shown as the epoch.
pub(crate) fn show(wall_ms: i64) -> String {
    let timestamp = Timestamp::from_millisecond(wall_ms).unwrap_or_default();
    format!("{timestamp:.3}")
}

/// Milliseconds since the Unix epoch.
pub(crate) fn parse(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(|timestamp| timestamp.as_millisecond())
}

/// Whole milliseconds as seconds.
pub(crate) fn seconds(ms: i64) -> f64 {
    let sign = if ms < 0 { -1.0 } else { 1.0 };
    sign * std::time::Duration::from_millis(ms.unsigned_abs()).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_and_come_back() {
        assert_eq!(show(1_900_000_000_123), "2030-03-17T17:46:40.123Z");
        assert_eq!(parse("2030-03-17T17:46:40.123Z"), Some(1_900_000_000_123));
        assert_eq!(parse("2030-03-17T18:46:40.123+01:00"), Some(1_900_000_000_123));
        assert_eq!(parse("yesterday"), None);
        assert!((seconds(1_500) - 1.5).abs() < f64::EPSILON);
    }
}
