//! Formats sizes, times and numbers, and parses timestamps.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Formats a size with about three digits, such as `12.3 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while amount >= 1023.95 {
        let Some(next) = units.next() else { break };
        amount /= 1024.0;
        unit = Some(next);
    }
    let unit = unit.unwrap_or(&"");
    if amount < 99.95 { format!("{amount:.1} {unit}") } else { format!("{amount:.0} {unit}") }
}

/// Formats a duration with about three digits, such as `1.24 s` or `2 h 05 min`.
pub(super) fn duration(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    if seconds < 0.9995 {
        let millis = seconds * 1000.0;
        return if millis < 9.95 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") };
    }
    if seconds < 9.995 {
        return format!("{seconds:.2} s");
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 { format!("{hours} h {minutes:02} min") } else { format!("{minutes} min {rest:02} s") }
}

/// Formats a duration that may be far below a millisecond.
pub(super) fn brief_duration(span: Duration) -> String {
    if span < Duration::from_millis(1) { format!("{:.1} µs", span.as_secs_f64() * 1e6) } else { duration(span) }
}

/// Formats the value of a metric with six digits.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let magnitude = value.abs().log10().floor();
    if !(-5.0..9.0).contains(&magnitude) {
        return format!("{value:.5e}");
    }
    let decimals = (5.0 - magnitude).clamp(0.0, 10.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Returns at most the first `max` characters of a text.
pub(super) fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Formats a timestamp to the second, in UTC.
pub(super) fn timestamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Formats a count of uses, such as `once` or `3 times`.
pub(super) fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        _ => format!("{count} times"),
    }
}

/// Parses an RFC 3339 timestamp, or a date as its midnight in UTC.
pub(super) fn parse_timestamp(text: &str) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let date = Date::strptime("%Y-%m-%d", text).ok();
    match date.and_then(|date| date.to_zoned_datetime(TimeZone::UTC).ok()) {
        Some(start) => Ok(start.timestamp()),
        None => {
            Err("expected a time such as `2030-12-01T08:00:00Z`, or a date such as `2030-12-01` (midnight UTC)"
                .to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (102_400, "100 KiB"),
            (1_048_575, "1.0 MiB"),
            (12_900_000, "12.3 MiB"),
            (2 << 30, "2.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn durations_have_three_digits() {
        for (micros, text) in [
            (0, "0.0 ms"),
            (800, "0.8 ms"),
            (76_000, "76 ms"),
            (999_600, "1.00 s"),
            (1_240_000, "1.24 s"),
            (12_340_000, "12.3 s"),
            (59_990_000, "1 min 00 s"),
            (185_000_000, "3 min 05 s"),
            (7_500_000_000, "2 h 05 min"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn numbers_have_six_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.102_345_67, "0.102346"),
            (200.0, "200"),
            (-1.5, "-1.5"),
            (123_456_789.0, "123456789"),
            (1e12, "1.00000e12"),
            (1e-9, "1.00000e-9"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn timestamps_are_parsed_and_formatted() {
        let day = parse_timestamp("2030-12-01").unwrap();
        assert_eq!(day, parse_timestamp("2030-12-01T01:00:00+01:00").unwrap());
        assert_eq!(timestamp(day), "2030-12-01T00:00:00Z");
        for bad in ["", "soon", "90d", "2026-13-01", "2030-12-01 08:00", "01.12.2026"] {
            assert!(parse_timestamp(bad).is_err(), "{bad}");
        }
    }
}
