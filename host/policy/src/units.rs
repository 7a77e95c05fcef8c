//! Sizes and durations in policies and configurations: a whole number and its unit, such as `2GiB`
//! or `90s`.
//!
//! Only binary size units are accepted: `MB` is ambiguous.

use std::time::Duration;

/// The maximum duration: 365 days. A longer one is probably a mistake, and adding it to a timestamp
/// could overflow.
pub const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const DURATIONS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The form of a size, for messages.
pub(crate) const SIZE_FORM: &str = "a size: a whole number with B, KiB, MiB or GiB, such as \"512MiB\"";
/// The form of a duration, for messages.
pub(crate) const DURATION_FORM: &str =
    "a duration of at most 365d: a whole number with ms, s, m, h or d, such as \"90s\"";

/// The text is not a size or duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}{}", .hint.map(|hint| format!(" ({hint})")).unwrap_or_default())]
pub struct UnitError {
    expected: &'static str,
    hint: Option<&'static str>,
}

/// Parses a size and returns it in bytes.
///
/// # Errors
/// Returns [`UnitError`] unless the text is digits and one of `B`, `KiB`, `MiB` and `GiB`, and the
/// size is below 2^63 bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let error = |hint| UnitError { expected: SIZE_FORM, hint };
    let (number, unit) = split(text).ok_or(error(None))?;
    let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        return Err(error(match unit.to_ascii_lowercase().as_str() {
            "" => Some("the unit is missing"),
            "k" | "kb" | "kib" => Some("1KiB is 1,024 bytes"),
            "m" | "mb" | "mib" => Some("1MiB is 1,048,576 bytes"),
            "g" | "gb" | "gib" => Some("1GiB is 1,073,741,824 bytes"),
            _ => None,
        }));
    };
    number.checked_mul(*factor).filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or(error(Some("too large")))
}

/// Parses a duration, exact to the millisecond.
///
/// # Errors
/// Returns [`UnitError`] unless the text is digits and one of `ms`, `s`, `m`, `h` and `d`, and the
/// duration is at most [`DURATION_MAX`].
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let error = |hint| UnitError { expected: DURATION_FORM, hint };
    let (number, unit) = split(text).ok_or(error(None))?;
    let Some((_, factor)) = DURATIONS.iter().find(|(name, _)| *name == unit) else {
        return Err(error(unit.is_empty().then_some("the unit is missing")));
    };
    number
        .checked_mul(*factor)
        .map(Duration::from_millis)
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or(error(Some("too long")))
}

/// Formats a size in the largest unit that is exact. [`parse_size`] parses the result.
pub fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES, "B")
}

/// Formats a duration in the largest unit that is exact to the millisecond. [`parse_duration`]
/// parses the result.
pub fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS, "s")
}

fn show(amount: u64, units: &[(&str, u64)], zero: &str) -> String {
    units
        .iter()
        .find(|(_, factor)| amount > 0 && amount.is_multiple_of(*factor))
        .map_or_else(|| format!("{amount}{zero}"), |(name, factor)| format!("{}{name}", amount / factor))
}

/// Splits text into a number and the rest; `None` if the number does not fit into 64 bits.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn size_parses_and_formats() {
        for (text, bytes) in [("0B", 0), ("17B", 17), ("1KiB", 1024), ("16MiB", 16 << 20), ("2GiB", 2 << 30)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(show_size(bytes), text);
        }
        for bad in [
            "",
            "5",
            "GiB",
            "2 GiB",
            "2gib",
            "2GB",
            "2K",
            "-1B",
            "+1B",
            "1.5GiB",
            "1_000B",
            "0x1B",
            "99999999999GiB",
            "99999999999999999999B",
            "9223372036854775808B",
            "2GiBB",
            "２GiB",
        ] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!(
            parse_size("2GB").unwrap_err().to_string(),
            "expected a size: a whole number with B, KiB, MiB or GiB, such as \"512MiB\" (1GiB is 1,073,741,824 bytes)"
        );
    }

    #[test]
    fn duration_parses_and_formats() {
        for (text, millis) in
            [("250ms", 250), ("1s", 1_000), ("2m", 120_000), ("1h", 3_600_000), ("365d", 31_536_000_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(show_duration(Duration::from_millis(millis)), text);
        }
        for bad in ["", "60", "s", "1 h", "1H", "1h30m", "1.5h", "-1s", "366d", "99999999999999999999s", "1w", "1us"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(show_duration(Duration::ZERO), "0s");
    }

    proptest! {
        #[test]
        fn formatted_size_and_duration_parse_back(amount in 0..=u64::MAX >> 1, millis in 0..=31_536_000_000u64) {
            prop_assert_eq!(parse_size(&show_size(amount)), Ok(amount));
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }

        #[test]
        fn parse_never_panics(text in ".{0,30}", number in any::<u128>(), unit in "[a-zA-Z]{0,3}") {
            let _ = (parse_size(&text), parse_duration(&text));
            let text = format!("{number}{unit}");
            let _ = (parse_size(&text), parse_duration(&text));
        }
    }
}
