//! Limits with room above what was used.

use std::time::Duration;

use super::Usage;
use crate::limits::Limits;
use crate::{Policy, show_duration, show_size};

/// Times that a person would write, in seconds.
const TIMES: [u64; 14] = [1, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400];
/// The least that is suggested for a time: machines differ, and are busy.
const TIME_LEAST: Duration = Duration::from_secs(5);
/// The least that is suggested for memory.
const MEMORY_LEAST: u64 = 1 << 20;

/// What is known of one limit.
struct Seen {
    /// Its name.
    name: &'static str,
    /// As the run's policy states it, as TOML writes it; none where the default held.
    stated: Option<String>,
    /// A lower value that would have done, as TOML writes it.
    enough: Option<String>,
    /// How much was used, for a person; empty where that is not known.
    used: String,
}

/// The lines of `[limits]`, each with a remark. What the run's policy states stays as it is: leaving it out would allow more. The others
/// are in comments, where they are lower than what holds without them.
pub(super) fn limits(usage: &Usage, policy: Option<&Policy>) -> Vec<(String, String)> {
    seen(usage, policy).into_iter().filter_map(line).collect()
}

fn line(seen: Seen) -> Option<(String, String)> {
    let Seen { name, stated, enough, used } = seen;
    match (stated, enough) {
        (Some(value), enough) => {
            let used = if used.is_empty() { "as in the run's policy".to_owned() } else { used };
            let less = enough.map(|enough| format!(", so {enough} would do")).unwrap_or_default();
            Some((format!("{name} = {value}"), format!("{used}{less}")))
        }
        (None, Some(enough)) => Some((format!("#{name} = {enough}"), used)),
        (None, None) => None,
    }
}

fn seen(usage: &Usage, policy: Option<&Policy>) -> Vec<Seen> {
    let default = Limits::default();
    let holding = policy.map_or(&default, Policy::limits);
    let is_stated = policy.map_or([false; 8], stated);
    let size = |used: Option<u64>, least: u64, holding: u64, what: &str| {
        let enough =
            used.map(|used| if used == 0 { least } else { room(used).next_power_of_two().max(least).max(1 << 10) });
        let enough = enough.filter(|enough| *enough < holding).map(|enough| quoted(&show_size(enough)));
        (enough, used.map(|used| format!("{} {what}", about(used))).unwrap_or_default())
    };
    let count = |used: Option<u64>, holding: u64, what: &str| {
        let enough =
            used.map(|used| round(room(used))).filter(|enough| *enough < holding).map(|enough| enough.to_string());
        (enough, used.map(|used| format!("{used} {what}")).unwrap_or_default())
    };
    let of_limit = |name: &str| match name {
        "memory" => size(usage.memory.filter(|used| *used > 0), MEMORY_LEAST, holding.memory, "used"),
        "time" => {
            let enough = usage.time.and_then(times_three).filter(|enough| *enough < holding.time);
            let used = usage.time.map(|used| format!("{} ms taken", used.as_millis())).unwrap_or_default();
            (enough.map(|enough| quoted(&show_duration(enough))), used)
        }
        "output-bytes" => size(usage.output_bytes, 0, holding.output_bytes, "left in /output"),
        "output-files" => {
            // What it leaves is what it means to leave; one file more is a surprise.
            let enough = usage.output_files.filter(|used| *used < holding.output_files);
            let used = usage.output_files.map(|used| format!("{used} made")).unwrap_or_default();
            (enough.map(|enough| enough.to_string()), used)
        }
        "log-bytes" => size(usage.log_bytes, 1 << 10, holding.log_bytes, "printed"),
        "requests" => count(usage.requests, holding.requests, "made"),
        "metrics" => count(usage.metrics, holding.metrics, "logged"),
        // Whether it had to be compiled depends on the host.
        _ => (None, String::new()),
    };
    let limits = holding.rows().into_iter().zip(is_stated);
    let seen = limits.map(|((name, value), is_stated)| {
        let (enough, used) = of_limit(name);
        let is_count = value.bytes().all(|byte| byte.is_ascii_digit());
        let stated = is_stated.then(|| if is_count { value } else { quoted(&value) });
        Seen { name, stated, enough, used }
    });
    seen.collect()
}

/// Which limits a policy states, in the order of [`Limits::rows`].
fn stated(policy: &Policy) -> [bool; 8] {
    let stated = &policy.stated;
    [
        stated.memory.is_some(),
        stated.time.is_some(),
        stated.output_bytes.is_some(),
        stated.output_files.is_some(),
        stated.compile_time.is_some(),
        stated.log_bytes.is_some(),
        stated.requests.is_some(),
        stated.metrics.is_some(),
    ]
}

fn quoted(value: &str) -> String {
    format!("\"{value}\"")
}

/// Twice what was used, below anything that could overflow.
fn room(used: u64) -> u64 {
    used.min(1 << 50).saturating_mul(2)
}

/// Three times a time, or what a person would write above that.
fn times_three(used: Duration) -> Option<Duration> {
    let most = used.saturating_mul(3).max(TIME_LEAST);
    TIMES.into_iter().map(Duration::from_secs).find(|time| *time >= most)
}

/// The next number with one digit that is not zero; at least 10.
fn round(number: u64) -> u64 {
    let mut step = 10u64;
    while step.saturating_mul(10) <= number {
        step = step.saturating_mul(10);
    }
    number.max(1).div_ceil(step).saturating_mul(step)
}

/// A size to the next whole unit.
fn about(bytes: u64) -> String {
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
    fn numbers_are_rounded_up() {
        for (number, rounded) in [(0, 10), (10, 10), (11, 20), (99, 100), (100, 100), (101, 200), (12_345, 20_000)] {
            assert_eq!(round(number), rounded, "{number}");
        }
        assert_eq!(times_three(Duration::from_millis(12)), Some(Duration::from_secs(5)));
        assert_eq!(times_three(Duration::from_secs(50)), Some(Duration::from_secs(300)));
        assert_eq!(times_three(Duration::from_secs(86_400)), None);
        assert_eq!(
            (about(1023).as_str(), about(1025).as_str(), about(12_900_000).as_str()),
            ("1023 B", "2 KiB", "13 MiB")
        );
    }
}
