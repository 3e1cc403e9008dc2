//! Durations and sizes as people write them on the command line, and as they read them in its answers.
//!
//! A bare number is refused: whether `--timeout 5` means seconds or minutes is a guess that ends the wrong task.

/// What a duration may look like; ends every refusal.
const DURATIONS: &str = "allowed: a number and a unit, as in 500ms, 1s, 5m, 2h, 1d";
/// What a size may look like; ends every refusal.
const SIZES: &str =
    "allowed: a number and a unit, as in 100B, 512KB, 64MB, 1GB (1 MB = 1,000,000 bytes), 64MiB";

/// Seconds in each unit of time.
const TIME_UNITS: [(&str, f64); 5] =
    [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0), ("d", 86_400.0)];

/// Bytes in each unit of size. Without the B (`64M`) it would be open which of the two families is meant.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// The longest number that is read; more digits are a slip, and would leave the range of what follows.
const MAX_DIGITS: usize = 18;

/// A duration, in seconds: `500ms`, `1.5h`.
pub(crate) fn duration(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text).ok_or_else(|| format!("not a duration; {DURATIONS}"))?;
    if unit.is_empty() {
        return Err(format!("it has no unit; {DURATIONS}"));
    }
    let seconds = TIME_UNITS
        .iter()
        .find_map(|(name, seconds)| (*name == unit).then_some(*seconds))
        .ok_or_else(|| format!("no such unit of time: `{unit}`; {DURATIONS}"))?;
    let value: f64 = number.parse().map_err(|_| format!("not a duration; {DURATIONS}"))?;
    // Milliseconds are divided, not multiplied, so that 100ms is exactly the 0.1 that people mean.
    Ok(if unit == "ms" { value / 1_000.0 } else { value * seconds })
}

/// A duration longer than zero.
pub(crate) fn positive_duration(text: &str) -> Result<f64, String> {
    match duration(text)? {
        seconds if seconds > 0.0 => Ok(seconds),
        _ => Err("it must be longer than 0s".to_owned()),
    }
}

/// A size, in bytes: `64MB`, `1.5GiB`; units in any case.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text).ok_or_else(|| format!("not a size; {SIZES}"))?;
    if unit.is_empty() {
        return Err(format!("it has no unit; {SIZES}"));
    }
    let bytes = SIZE_UNITS
        .iter()
        .find_map(|(name, bytes)| name.eq_ignore_ascii_case(unit).then_some(*bytes))
        .ok_or_else(|| format!("no such unit of size: `{unit}`; {SIZES}"))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| format!("not a size; {SIZES}"))?;
    let scale = fraction.chars().fold(1_u128, |scale, _| scale * 10);
    u64::try_from(digits * u128::from(bytes) / scale)
        .map_err(|_| "it is more than this machine can count".to_owned())
}

/// A number of processor cores.
pub(crate) fn cpus(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(cores) if cores.is_finite() && cores > 0.0 => Ok(cores),
        _ => Err("allowed: a number of cores above 0, as in 0.5 or 2".to_owned()),
    }
}

/// The number in front and the unit behind it; none if there is no number, or one that is no decimal.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    let dots = number.len() - digits;
    let decimal = number.starts_with(|c: char| c.is_ascii_digit()) && !number.ends_with('.');
    (decimal && dots <= 1 && digits <= MAX_DIGITS).then_some((number, unit))
}

/// A duration for people: exact where it is a round one (`5s`, `500ms`), its two largest parts elsewhere (`2h5m`).
pub(crate) fn show_duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "0s".to_owned();
    }
    if seconds > 0.0 && seconds < 1.0 {
        return format!("{:.0}ms", (seconds * 1_000.0).max(1.0));
    }
    if seconds < 60.0 {
        return if (seconds - seconds.round()).abs() < 0.05 {
            format!("{seconds:.0}s")
        } else {
            format!("{seconds:.1}s")
        };
    }
    let whole = std::time::Duration::try_from_secs_f64(seconds).unwrap_or(std::time::Duration::MAX).as_secs();
    let (large, large_unit, small, small_unit) = match whole {
        0..3_600 => (whole / 60, "m", whole % 60, "s"),
        3_600..86_400 => (whole / 3_600, "h", whole % 3_600 / 60, "m"),
        _ => (whole / 86_400, "d", whole % 86_400 / 3_600, "h"),
    };
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

/// A size for people, in decimal units: `64MB`, `63.9MB`.
pub(crate) fn show_size(bytes: u64) -> String {
    let (name, unit) = match bytes {
        0..1_000 => ("B", 1),
        1_000..1_000_000 => ("KB", 1_000),
        1_000_000..1_000_000_000 => ("MB", 1_000_000),
        1_000_000_000..1_000_000_000_000 => ("GB", 1_000_000_000),
        _ => ("TB", 1_000_000_000_000_u64),
    };
    match (bytes / unit, bytes % unit * 10 / unit) {
        (whole, 0) => format!("{whole}{name}"),
        (whole, tenth) => format!("{whole}.{tenth}{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_number_and_a_unit() {
        for (text, seconds) in [
            ("500ms", 0.5),
            ("100ms", 0.1),
            ("1s", 1.0),
            ("0s", 0.0),
            ("5m", 300.0),
            ("2h", 7_200.0),
            ("1d", 86_400.0),
            ("1.5h", 5_400.0),
        ] {
            assert_eq!(duration(text), Ok(seconds), "{text}");
        }
        for (text, error) in [
            ("5", "it has no unit; "),
            ("", "not a duration; "),
            ("s", "not a duration; "),
            (".5s", "not a duration; "),
            ("5.s", "not a duration; "),
            ("1.2.3s", "not a duration; "),
            ("-5s", "not a duration; "),
            ("1234567890123456789s", "not a duration; "),
            ("5 s", "no such unit of time: ` s`; "),
            ("1h30m", "no such unit of time: `h30m`; "),
            ("5S", "no such unit of time: `S`; "),
            ("1e3s", "no such unit of time: `e3s`; "),
        ] {
            assert_eq!(duration(text), Err(format!("{error}{DURATIONS}")), "{text}");
        }
        assert_eq!(positive_duration("0s"), Err("it must be longer than 0s".to_owned()));
    }

    #[test]
    fn sizes_are_decimal_unless_they_say_binary() {
        for (text, bytes) in [
            ("100B", 100),
            ("512KB", 512_000),
            ("64MB", 64_000_000),
            ("64mb", 64_000_000),
            ("1GB", 1_000_000_000),
            ("1.5GB", 1_500_000_000),
            ("64MiB", 67_108_864),
            ("1GiB", 1_073_741_824),
            ("1KiB", 1_024),
            ("0B", 0),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, error) in [
            ("64", "it has no unit; "),
            ("64M", "no such unit of size: `M`; "),
            ("MB", "not a size; "),
            ("-1MB", "not a size; "),
        ] {
            assert_eq!(size(text), Err(format!("{error}{SIZES}")), "{text}");
        }
        assert_eq!(size("999999999999999999TB"), Err("it is more than this machine can count".to_owned()));
    }

    #[test]
    fn what_is_shown_is_short_and_not_wrong() {
        for (seconds, text) in [
            (0.0, "0s"),
            (0.0001, "1ms"),
            (0.5, "500ms"),
            (5.0, "5s"),
            (2.34, "2.3s"),
            (60.0, "1m"),
            (192.0, "3m12s"),
            (7_500.0, "2h5m"),
            (90_000.0, "1d1h"),
            (f64::NAN, "0s"),
        ] {
            assert_eq!(show_duration(seconds), text);
        }
        for (bytes, text) in
            [(0, "0B"), (999, "999B"), (64_000_000, "64MB"), (63_990_000, "63.9MB"), (1_500_000_000, "1.5GB")]
        {
            assert_eq!(show_size(bytes), text);
        }
    }
}
