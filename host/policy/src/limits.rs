//! Limits of a run: defaults, and the host's ceilings.

use std::time::Duration;

use serde::Deserialize;

use super::problem::{Location, PolicyError, Problem};
use super::units::{DURATION_FORM, SIZE_FORM, parse_duration, parse_size, show_duration, show_size};

/// The smallest `memory` limit: one page of WebAssembly memory.
pub const MEMORY_MIN: u64 = 64 * 1024;
/// The shortest `time` or `compile-time` limit.
pub const TIME_MIN: Duration = Duration::from_millis(1);

/// The limits of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of all instances of the run together, in bytes. Default: 2 GiB.
    pub memory: u64,
    /// Wall-clock time from the first guest instruction to the end. Default: 1 hour.
    pub time: Duration,
    /// Bytes in `/output`. Default: 1 GiB.
    pub output_bytes: u64,
    /// Files and directories in `/output`. Default: 10,000.
    pub output_files: u64,
    /// Wall-clock time for compilation. Default: 2 minutes.
    pub compile_time: Duration,
    /// Bytes of standard output and standard error together; further output is dropped and counted.
    /// Default: 16 MiB.
    pub log_bytes: u64,
    /// Requests for secrets; every name of a batch and every denial counts. Default: 10,000.
    pub requests: u64,
    /// Bytes of the values that the run writes to the vault, even if a write fails. Default: 16 MiB.
    pub secret_bytes: u64,
    /// Metric values, tags, logged parameters and progress reports. Default: 100,000.
    pub metrics: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 2 << 30,
            time: Duration::from_secs(60 * 60),
            output_bytes: 1 << 30,
            output_files: 10_000,
            compile_time: Duration::from_secs(2 * 60),
            log_bytes: 16 << 20,
            requests: 10_000,
            secret_bytes: 16 << 20,
            metrics: 100_000,
        }
    }
}

impl Limits {
    /// Returns each limit's name and its value in the policy's units.
    pub fn rows(&self) -> [(&'static str, String); 9] {
        [
            ("memory", show_size(self.memory)),
            ("time", show_duration(self.time)),
            ("output-bytes", show_size(self.output_bytes)),
            ("output-files", self.output_files.to_string()),
            ("compile-time", show_duration(self.compile_time)),
            ("log-bytes", show_size(self.log_bytes)),
            ("requests", self.requests.to_string()),
            ("secret-bytes", show_size(self.secret_bytes)),
            ("metrics", self.metrics.to_string()),
        ]
    }
}

/// The host's ceilings for the limits of a policy, from the configuration file. Names and units are
/// those of `[limits]`, and each ceiling is optional.
///
/// A default above a ceiling is lowered to it silently. A policy that *asks* for more than a
/// ceiling is an error; otherwise its author would notice only when a run is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ceilings {
    /// Ceiling of [`Limits::memory`].
    #[serde(deserialize_with = "memory")]
    pub memory: Option<u64>,
    /// Ceiling of [`Limits::time`].
    #[serde(deserialize_with = "time")]
    pub time: Option<Duration>,
    /// Ceiling of [`Limits::output_bytes`].
    #[serde(deserialize_with = "size")]
    pub output_bytes: Option<u64>,
    /// Ceiling of [`Limits::output_files`].
    pub output_files: Option<u64>,
    /// Ceiling of [`Limits::compile_time`].
    #[serde(deserialize_with = "time")]
    pub compile_time: Option<Duration>,
    /// Ceiling of [`Limits::log_bytes`].
    #[serde(deserialize_with = "size")]
    pub log_bytes: Option<u64>,
    /// Ceiling of [`Limits::requests`].
    pub requests: Option<u64>,
    /// Ceiling of [`Limits::secret_bytes`].
    #[serde(deserialize_with = "size")]
    pub secret_bytes: Option<u64>,
    /// Ceiling of [`Limits::metrics`].
    pub metrics: Option<u64>,
}

/// The names of the limits, in the order of the documentation.
pub(crate) const NAMES: [&str; 9] = [
    "memory",
    "time",
    "output-bytes",
    "output-files",
    "compile-time",
    "log-bytes",
    "requests",
    "secret-bytes",
    "metrics",
];

/// The limits that a policy sets, with their locations.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatedLimits {
    pub(crate) memory: Option<(u64, Location)>,
    pub(crate) time: Option<(Duration, Location)>,
    pub(crate) output_bytes: Option<(u64, Location)>,
    pub(crate) output_files: Option<(u64, Location)>,
    pub(crate) compile_time: Option<(Duration, Location)>,
    pub(crate) log_bytes: Option<(u64, Location)>,
    pub(crate) requests: Option<(u64, Location)>,
    pub(crate) secret_bytes: Option<(u64, Location)>,
    pub(crate) metrics: Option<(u64, Location)>,
}

impl StatedLimits {
    /// Returns the effective limits: the value that the policy sets, or the default lowered to the
    /// ceiling.
    ///
    /// # Errors
    /// Returns every limit that the policy sets above its ceiling.
    pub(crate) fn under(&self, ceilings: &Ceilings, origin: &str) -> Result<Limits, PolicyError> {
        let default = Limits::default();
        let mut problems = Vec::new();
        let count = |amount: u64| amount.to_string();
        let limits = Limits {
            memory: resolve_limit("memory", self.memory, default.memory, ceilings.memory, show_size, &mut problems),
            time: resolve_limit("time", self.time, default.time, ceilings.time, show_duration, &mut problems),
            output_bytes: resolve_limit(
                "output-bytes",
                self.output_bytes,
                default.output_bytes,
                ceilings.output_bytes,
                show_size,
                &mut problems,
            ),
            output_files: resolve_limit(
                "output-files",
                self.output_files,
                default.output_files,
                ceilings.output_files,
                count,
                &mut problems,
            ),
            compile_time: resolve_limit(
                "compile-time",
                self.compile_time,
                default.compile_time,
                ceilings.compile_time,
                show_duration,
                &mut problems,
            ),
            log_bytes: resolve_limit(
                "log-bytes",
                self.log_bytes,
                default.log_bytes,
                ceilings.log_bytes,
                show_size,
                &mut problems,
            ),
            requests: resolve_limit(
                "requests",
                self.requests,
                default.requests,
                ceilings.requests,
                count,
                &mut problems,
            ),
            secret_bytes: resolve_limit(
                "secret-bytes",
                self.secret_bytes,
                default.secret_bytes,
                ceilings.secret_bytes,
                show_size,
                &mut problems,
            ),
            metrics: resolve_limit("metrics", self.metrics, default.metrics, ceilings.metrics, count, &mut problems),
        };
        PolicyError::unless_empty(origin, problems).map_or(Ok(limits), Err)
    }
}

fn resolve_limit<T: Copy + Ord>(
    name: &str,
    stated: Option<(T, Location)>,
    default: T,
    ceiling: Option<T>,
    show: impl Fn(T) -> String,
    problems: &mut Vec<Problem>,
) -> T {
    let capped = |value| ceiling.map_or(value, |ceiling| std::cmp::min(value, ceiling));
    let Some((value, location)) = stated else {
        return capped(default);
    };
    if let Some(ceiling) = ceiling
        && value > ceiling
    {
        problems.push(Problem {
            location: Some(location),
            field: format!("limits.{name}"),
            message: format!(
                "{} exceeds the ceiling of this host, {}; lower the limit, or raise `ceilings.{name}` in the configuration",
                show(value),
                show(ceiling)
            ),
        });
    }
    capped(value)
}

/// Parses a size of at least [`MEMORY_MIN`].
pub(crate) fn parse_memory(text: &str) -> Result<u64, String> {
    match parse_size(text).map_err(|error| error.to_string())? {
        bytes if bytes < MEMORY_MIN => Err("expected at least 64KiB, one page of WebAssembly memory".into()),
        bytes => Ok(bytes),
    }
}

/// Parses a duration of at least [`TIME_MIN`].
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    match parse_duration(text).map_err(|error| error.to_string())? {
        time if time < TIME_MIN => Err("expected at least 1ms".into()),
        time => Ok(time),
    }
}

fn memory<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    text(deserializer, SIZE_FORM, parse_memory)
}

fn size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    text(deserializer, SIZE_FORM, |text| parse_size(text).map_err(|error| error.to_string()))
}

fn time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    text(deserializer, DURATION_FORM, parse_time)
}

/// Deserializes text with the unit parsers of policies, so that configuration and policy use the
/// same syntax.
fn text<'de, D: serde::Deserializer<'de>, T>(
    deserializer: D,
    form: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    struct Text<P>(&'static str, P);
    impl<T, P: Fn(&str) -> Result<T, String>> serde::de::Visitor<'_> for Text<P> {
        type Value = Option<T>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            (self.1)(text).map(Some).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text(form, parse))
}
