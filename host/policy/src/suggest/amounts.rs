//! Suggests limits with headroom above the actual use.

use std::time::Duration;

use super::Usage;
use crate::limits::Limits;
use crate::{Policy, show_duration, show_size};

/// Round times, in seconds.
const TIMES: [u64; 14] = [1, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400];
/// The smallest suggested time: the speed and load of machines vary.
const TIME_LEAST: Duration = Duration::from_secs(5);
/// The smallest suggested memory.
const MEMORY_LEAST: u64 = 1 << 20;

/// One limit and its use.
struct LimitUse {
    /// The limit's name.
    name: &'static str,
    /// The value in the run's policy, in TOML notation; `None` if the default applied.
    stated: Option<String>,
    /// A lower value that would be enough, in TOML notation.
    enough: Option<String>,
    /// A description of the use; empty if unknown.
    used: String,
}

/// Returns the lines of `[limits]`, each with a remark. A limit that the run's policy sets is kept,
/// because omitting it would allow more. Other limits are commented out and appear only if they are
/// lower than the default.
pub(super) fn limits(usage: &Usage, policy: Option<&Policy>) -> Vec<(String, String)> {
    limit_uses(usage, policy).into_iter().filter_map(line).collect()
}

fn line(limit: LimitUse) -> Option<(String, String)> {
    let LimitUse { name, stated, enough, used } = limit;
    match (stated, enough) {
        (Some(value), enough) => {
            let used = if used.is_empty() { "as in the run's policy".to_owned() } else { used };
            let less = enough.map(|enough| format!("; {enough} is enough")).unwrap_or_default();
            Some((format!("{name} = {value}"), format!("{used}{less}")))
        }
        (None, Some(enough)) => Some((format!("#{name} = {enough}"), used)),
        (None, None) => None,
    }
}

fn limit_uses(usage: &Usage, policy: Option<&Policy>) -> Vec<LimitUse> {
    let default = Limits::default();
    let effective = policy.map_or(&default, Policy::limits);
    let is_stated = policy.map_or([false; 9], stated);
    let size = |used: Option<u64>, least: u64, effective: u64, what: &str| {
        let enough =
            used.map(
                |used| if used == 0 { least } else { with_headroom(used).next_power_of_two().max(least).max(1 << 10) },
            );
        let enough = enough.filter(|enough| *enough < effective).map(|enough| quoted(&show_size(enough)));
        (enough, used.map(|used| format!("{} {what}", rounded_size(used))).unwrap_or_default())
    };
    let count = |used: Option<u64>, effective: u64, what: &str| {
        let enough = used
            .map(|used| round(with_headroom(used)))
            .filter(|enough| *enough < effective)
            .map(|enough| enough.to_string());
        (enough, used.map(|used| format!("{used} {what}")).unwrap_or_default())
    };
    let of_limit = |name: &str| match name {
        "memory" => size(usage.memory.filter(|used| *used > 0), MEMORY_LEAST, effective.memory, "used"),
        "time" => {
            let enough = usage.time.and_then(times_three).filter(|enough| *enough < effective.time);
            let used = usage.time.map(|used| format!("{} ms taken", used.as_millis())).unwrap_or_default();
            (enough.map(|enough| quoted(&show_duration(enough))), used)
        }
        "output-bytes" => size(usage.output_bytes, 0, effective.output_bytes, "left in /output"),
        "output-files" => {
            // No headroom: a run leaves the files that it means to leave, and one more is
            // unexpected.
            let enough = usage.output_files.filter(|used| *used < effective.output_files);
            let used = usage.output_files.map(|used| format!("{used} created")).unwrap_or_default();
            (enough.map(|enough| enough.to_string()), used)
        }
        "log-bytes" => size(usage.log_bytes, 1 << 10, effective.log_bytes, "printed"),
        "requests" => count(usage.requests, effective.requests, "made"),
        "metrics" => count(usage.metrics, effective.metrics, "logged"),
        // The use of `compile-time` depends on the state of the host's cache, and that of
        // `secret-bytes` is not in the record.
        _ => (None, String::new()),
    };
    let limits = effective.rows().into_iter().zip(is_stated);
    let uses = limits.map(|((name, value), is_stated)| {
        let (enough, used) = of_limit(name);
        let is_count = value.bytes().all(|byte| byte.is_ascii_digit());
        let stated = is_stated.then(|| if is_count { value } else { quoted(&value) });
        LimitUse { name, stated, enough, used }
    });
    uses.collect()
}

/// Returns which limits a policy sets, in the order of [`Limits::rows`].
fn stated(policy: &Policy) -> [bool; 9] {
    let stated = &policy.stated;
    [
        stated.memory.is_some(),
        stated.time.is_some(),
        stated.output_bytes.is_some(),
        stated.output_files.is_some(),
        stated.compile_time.is_some(),
        stated.log_bytes.is_some(),
        stated.requests.is_some(),
        stated.secret_bytes.is_some(),
        stated.metrics.is_some(),
    ]
}

fn quoted(value: &str) -> String {
    format!("\"{value}\"")
}

/// Returns twice the use, capped so that later arithmetic cannot overflow.
fn with_headroom(used: u64) -> u64 {
    used.min(1 << 50).saturating_mul(2)
}

/// Returns three times the use, rounded up to a round time.
fn times_three(used: Duration) -> Option<Duration> {
    let most = used.saturating_mul(3).max(TIME_LEAST);
    TIMES.into_iter().map(Duration::from_secs).find(|time| *time >= most)
}

/// Rounds up to a number with one significant digit, at least 10.
fn round(number: u64) -> u64 {
    let mut step = 10u64;
    while step.saturating_mul(10) <= number {
        step = step.saturating_mul(10);
    }
    number.max(1).div_ceil(step).saturating_mul(step)
}

/// Formats a size, rounded up to a whole unit.
fn rounded_size(bytes: u64) -> String {
    match bytes {
        0..0x400 => format!("{bytes} B"),
        0x400..0x10_0000 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amount_is_rounded_up() {
        for (number, rounded) in [(0, 10), (10, 10), (11, 20), (99, 100), (100, 100), (101, 200), (12_345, 20_000)] {
            assert_eq!(round(number), rounded, "{number}");
        }
        assert_eq!(times_three(Duration::from_millis(12)), Some(Duration::from_secs(5)));
        assert_eq!(times_three(Duration::from_secs(50)), Some(Duration::from_secs(300)));
        assert_eq!(times_three(Duration::from_secs(86_400)), None);
        assert_eq!(
            (rounded_size(1023).as_str(), rounded_size(1025).as_str(), rounded_size(12_900_000).as_str()),
            ("1023 B", "2 KiB", "13 MiB")
        );
    }
}
