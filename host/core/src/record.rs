//! The run record: the machine-readable result of one run, format version 1. `docs/run-record.md`
//! describes it.
//!
//! A record is plain data without I/O. No field contains a secret value: text from the guest is
//! redacted and has no control characters.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use crate::ids::{Digest, RunId};

/// The format version that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// The maximum number of distinct metric names in a record.
pub const METRIC_NAMES_MAX: usize = 1_000;
/// The maximum number of points of each metric in a record. A metric with more points is
/// downsampled.
pub const METRIC_POINTS_MAX: usize = 10_000;
/// The number of points of all metrics together from which on the longest metrics are downsampled.
pub const RUN_POINTS_MAX: usize = 100_000;

/// The maximum number of values of each text metric in a record. A text metric with more values
/// keeps the newest.
pub const TEXT_POINTS_MAX: usize = 1_000;
/// The bound on the tags, logged parameters and text metrics of a record together, in bytes of names
/// and values with an allowance for each.
pub const RUN_TEXT_MAX: usize = 1024 * 1024;

/// The warning of a run without an output directory whose component wrote files.
pub const OUTPUTS_DISCARDED: &str = "the outputs were discarded: the run has no output directory";

/// The result of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// The format version: [`FORMAT`].
    pub format: u32,
    /// The run ID.
    pub id: RunId,
    /// The audit segment of the process that executed the run. If that process is gone, a record
    /// with [`Outcome::Running`] means that the run is lost.
    pub segment: String,
    /// The component.
    pub component: ComponentRef,
    /// SHA-256 of the policy's text; of the empty text if there was no policy.
    pub policy: Digest,
    /// SHA-256 of the canonical form of the run specification
    /// ([`RunSpec::digest`](crate::spec::RunSpec::digest)).
    pub spec: Digest,
    /// The vault as configured: `local:` and its folder, or its address. Absent if the vault does
    /// not report it, and in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<String>,
    /// When the run started.
    pub started: Timestamp,
    /// When it ended; `None` while it runs and if it was lost.
    pub ended: Option<Timestamp>,
    /// The outcome.
    pub outcome: Outcome,
    /// Who caused an outcome other than `finished`.
    pub blame: Option<Blame>,
    /// The reason in one or two sentences: the trap, the error of `train`, the limit, or the
    /// refused import.
    pub reason: Option<String>,
    /// The component's exit code; `None` if it did not exit.
    pub exit_code: Option<i32>,
    /// The limit that stopped the run.
    pub limit: Option<Limit>,
    /// Requests for secrets, by requested name and operation.
    pub secrets: Vec<SecretUse>,
    /// Network operations, allowed and denied, by operation and destination. Absent if there were
    /// none, and in records of older versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network: Vec<NetworkUse>,
    /// The peak linear memory of all memories of the run together, in bytes.
    pub peak_memory_bytes: u64,
    /// The CPU time of the run, in microseconds: thread CPU time over its polls.
    pub cpu_micros: u64,
    /// Metrics by name.
    pub metrics: BTreeMap<String, Metric>,
    /// Text metrics by name. Absent if there are none, and in records of older versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub text_metrics: BTreeMap<String, TextMetric>,
    /// The tags that the component set. Absent if there are none, and in records of older versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub logged_tags: BTreeMap<String, String>,
    /// The parameters that the component logged; those that it was given are not among them. Absent
    /// if there are none, and in records of older versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub logged_parameters: BTreeMap<String, String>,
    /// The last progress report.
    pub progress: Option<Progress>,
    /// The files in the output directory, sorted by path.
    pub outputs: Vec<Output>,
    /// The number of further outputs, which are not listed because the record would be too large.
    /// Absent if there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub outputs_omitted: u64,
    /// The number of secret values redacted from the output.
    pub redactions: u64,
    /// Bytes of log text kept and dropped.
    pub log: LogCount,
    /// Why the log is missing or incomplete. Absent if it is complete, or no log was to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_failure: Option<String>,
    /// The position of the audit log after the run's last event.
    pub audit: Option<AuditPosition>,
    /// The time spent in each stage. Absent unless it was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// Warnings that the person who started the run should see.
    #[serde(default)]
    pub warnings: Vec<String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The time spent in each stage of a run, in nanoseconds. The stages are consecutive; `secrets` and
/// `audit` lie within other stages and are also counted separately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timings {
    /// Reading the component, even if that happened before it was passed to the runner, and
    /// compiling it or loading its compiled code.
    pub load: u64,
    /// Linking the component, if no run of this process has linked it before.
    pub link: u64,
    /// Creating the instance.
    pub instantiate: u64,
    /// Checking the specification, recording the start, and creating the run's folder and sandbox.
    pub start: u64,
    /// The component's own code and its system calls.
    pub guest: u64,
    /// The component's requests for secrets.
    pub secrets: u64,
    /// Writing the audit log.
    pub audit: u64,
    /// Finishing: remaining log output, output files and the record, except its last write.
    pub finish: u64,
}

impl Timings {
    /// Returns the stages by name, in nanoseconds.
    pub fn stages(&self) -> [(&'static str, u64); 8] {
        [
            ("load", self.load),
            ("link", self.link),
            ("instantiate", self.instantiate),
            ("start", self.start),
            ("guest", self.guest),
            ("secrets", self.secrets),
            ("audit", self.audit),
            ("finish", self.finish),
        ]
    }
}

/// The component that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentRef {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// The path of its file, as given.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
}

impl ComponentRef {
    /// Creates a reference to a component, with its path escaped.
    pub fn new(path: &Path, digest: Digest, bytes: u64) -> Self {
        Self { digest, path: crate::escape::escape_controls(&path.to_string_lossy()), bytes }
    }
}

/// The outcome of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Outcome {
    /// The run is in progress, or its process died and this has not been noticed yet.
    Running,
    /// The component succeeded.
    Finished,
    /// The component failed or trapped.
    Failed,
    /// The component imports something that the policy does not grant; no guest code ran.
    Refused,
    /// A limit stopped the run.
    Limit,
    /// A person or the embedder cancelled the run.
    Cancelled,
    /// The host or the vault failed.
    HostFault,
    /// The process that executed the run died without recording an outcome.
    Lost,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Returns the outcome's name in the record.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The cause of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// The component.
    Guest,
    /// The policy of the run.
    Policy,
    /// strongroom, the vault or the machine.
    Host,
    /// The person or program that started the run.
    Operator,
}

/// A limit that can stop a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Limit {
    /// `limits.memory`
    Memory,
    /// Table elements, a fixed limit (`docs/policy.md`).
    Tables,
    /// The guest's stack, a fixed limit of the engine.
    Stack,
    /// `limits.time`
    Time,
    /// `limits.compile-time`, or the compiler's memory.
    Compile,
    /// `limits.output-bytes`
    OutputBytes,
    /// `limits.output-files`
    OutputFiles,
    /// `limits.requests`
    Requests,
    /// `limits.secret-bytes`
    SecretBytes,
    /// `limits.metrics`
    Metrics,
    /// Bytes in the arguments of one host call, a fixed limit.
    HostCall,
    /// Open resources of a component, a fixed limit.
    Resources,
}

impl Limit {
    /// Returns the limit's name in the record and, unless it is fixed, in policies.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The requests for one operation on one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretUse {
    /// The requested name, folded to lower case; if it is invalid, redacted and escaped; `*` for
    /// `list`.
    pub name: String,
    /// `get`, `set`, `list`, `describe` or `delete`.
    pub operation: String,
    /// The number of requests that were served.
    pub count: u64,
    /// The number of requests that were denied, exhausted or expired.
    pub denied: u64,
    /// The policy line that would allow the request, if it was denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_allow: Option<String>,
}

/// A network operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum NetworkOperation {
    /// Open a TCP connection.
    Connect,
    /// Look up the addresses of a name.
    LookUp,
    /// Listen on an address of the host. No policy allows this.
    Listen,
}

impl NetworkOperation {
    /// Returns the operation's name in the record and the audit log.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The attempts at one operation on one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkUse {
    /// The operation.
    pub operation: NetworkOperation,
    /// `ADDRESS:PORT`, or the name that was looked up, redacted and escaped; `(others)` for the
    /// total of destinations beyond the bound.
    pub target: String,
    /// The number of attempts that were allowed. An allowed connection may still have failed.
    pub count: u64,
    /// The number of attempts that were denied.
    pub denied: u64,
    /// The entry of the policy's `tcp` that allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The entry of `tcp` that would allow it, if it was denied and a policy can allow it. For a
    /// name, the port is the text `PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_allow: Option<String>,
}

/// The values of one metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// The kept points, in logging order. If points were dropped, these are the first and the last
    /// point and the finite extremes between them, at even distances. In records of older versions
    /// they are the first points.
    pub points: Vec<Point>,
    /// The last value.
    pub last: Option<Number>,
    /// The number of points that were not kept.
    #[serde(default)]
    pub dropped: u64,
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// The step, if the component gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// The value.
    pub value: Number,
}

/// The values of one text metric.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextMetric {
    /// The newest values, in logging order.
    pub points: Vec<TextPoint>,
    /// The number of older values that were not kept.
    #[serde(default)]
    pub dropped: u64,
}

/// One value of a text metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextPoint {
    /// The step, if the component gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// The value, redacted and escaped.
    pub value: String,
}

/// A floating-point number in JSON; NaN and the infinities are strings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            serializer.serialize_f64(self.0)
        } else if self.0.is_nan() {
            serializer.serialize_str("NaN")
        } else if self.0 > 0.0 {
            serializer.serialize_str("Infinity")
        } else {
            serializer.serialize_str("-Infinity")
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(f64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(value) => Ok(Number(value)),
            Either::Text(text) => match text.as_str() {
                "NaN" => Ok(Number(f64::NAN)),
                "Infinity" => Ok(Number(f64::INFINITY)),
                "-Infinity" => Ok(Number(f64::NEG_INFINITY)),
                _ => Err(serde::de::Error::custom("a metric value is a number, `NaN`, `Infinity` or `-Infinity`")),
            },
        }
    }
}

/// A progress report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The amount done.
    pub done: u64,
    /// The total amount; 0 if unknown.
    pub total: u64,
    /// The component's message.
    pub message: String,
}

/// One file in the output directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The path relative to the output directory, redacted and escaped.
    pub path: String,
    /// The size in bytes.
    pub bytes: u64,
    /// SHA-256 of the content.
    pub sha256: Digest,
}

/// The amount of log output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogCount {
    /// Bytes that the component wrote and that were shown or stored.
    pub kept: u64,
    /// Bytes beyond `log-bytes`, which were dropped.
    pub dropped: u64,
}

/// A position in the audit log: a segment, its number of events, and the hash of the last event. A
/// copy that is kept elsewhere lets `strongroom audit verify --expect SEGMENT:COUNT:HASH` detect an
/// audit log that was truncated or rewritten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditPosition {
    /// The segment's ID.
    pub segment: String,
    /// The number of its events.
    pub count: u64,
    /// The chain hash of the last event, 64 hexadecimal digits.
    pub head: String,
}
