//! The run record: the machine-readable account of one run, format version 1 (`docs/run-record.md` describes it).
//!
//! A record is plain data without I/O. No field holds a secret value: text that came from the guest has been through the run's
//! redactor and has no control characters.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{Digest, RunId};

/// The version of the format that this program writes and the newest that it reads.
pub const FORMAT: u32 = 1;

/// How many distinct metric names a record keeps, and how many points of each. Later points beyond it are counted, not kept.
pub const METRIC_NAMES_MAX: usize = 1_000;
/// See [`METRIC_NAMES_MAX`].
pub const METRIC_POINTS_MAX: usize = 10_000;

/// The account of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// The format's version: [`FORMAT`].
    pub format: u32,
    /// The run.
    pub id: RunId,
    /// The audit segment of the process that ran it. A record that says [`Outcome::Running`] in a segment whose process is gone is `lost`.
    pub segment: String,
    /// The component.
    pub component: ComponentRef,
    /// SHA-256 of the policy's text; of the empty text where there was none.
    pub policy: Digest,
    /// SHA-256 of the specification's canonical form (`spec::RunSpec::digest`).
    pub spec: Digest,
    /// The vault, in the form in which it is configured: `local:` and its folder, or its address. Absent where the vault does not say, and
    /// from records of programs that did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<String>,
    /// When the run started.
    pub started: Timestamp,
    /// When it ended; none while it runs and where it was lost.
    pub ended: Option<Timestamp>,
    /// What became of it.
    pub outcome: Outcome,
    /// Who caused an outcome other than `finished`.
    pub blame: Option<Blame>,
    /// One or two sentences for a person: the trap, the error of `train`, the limit, the import refused.
    pub reason: Option<String>,
    /// The component's own exit code: 0 or 1; none where it did not get that far.
    pub exit_code: Option<i32>,
    /// The limit that stopped it.
    pub limit: Option<Limit>,
    /// Secrets used and asked for, by name as the component knows it and operation.
    pub secrets: Vec<SecretUse>,
    /// What it wanted of the network and whether it got it, by operation and destination. Absent where there was nothing, and from
    /// records of programs that did not keep it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network: Vec<NetworkUse>,
    /// The largest linear memory (all memories of the run together) in bytes.
    pub peak_memory_bytes: u64,
    /// Thread CPU time over the run's polls, in microseconds.
    pub cpu_micros: u64,
    /// Metrics by name.
    pub metrics: BTreeMap<String, Metric>,
    /// The last progress report.
    pub progress: Option<Progress>,
    /// What the run left in its output folder, sorted by path.
    pub outputs: Vec<Output>,
    /// How many times a secret was removed from what the component printed.
    pub redactions: u64,
    /// Bytes of log text kept and dropped.
    pub log: LogCount,
    /// Where the audit stood after the run's last event.
    pub audit: Option<AuditPosition>,
    /// Where its time went. Absent where nobody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// Warnings that the person who started the run should see.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Where a run's time went, in nanoseconds. The stages follow each other; `secrets` and `audit` lie within them and are counted apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timings {
    /// Reading the component, also where that was done before it was given to the runner; and compiling it or finding its code.
    pub load: u64,
    /// Linking it, where no run of this process has.
    pub link: u64,
    /// Making the instance.
    pub instantiate: u64,
    /// Checking, recording that the run begins, making its folder and its sandbox.
    pub start: u64,
    /// The component's own code, and what it asks of the system.
    pub guest: u64,
    /// What it asks of secrets.
    pub secrets: u64,
    /// Writing the audit.
    pub audit: u64,
    /// Ending it: output, outputs and the record, but for the last write of it.
    pub finish: u64,
}

impl Timings {
    /// The stages by name, in nanoseconds.
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
    /// The file it came from, as it was named.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
}

impl ComponentRef {
    /// A component, and the file that it came from, whose name is escaped.
    pub fn new(path: &Path, digest: Digest, bytes: u64) -> Self {
        Self { digest, path: crate::escape::escape_controls(&path.to_string_lossy()), bytes }
    }
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Under way, or cut off and not yet noticed.
    Running,
    /// The component ended with success.
    Finished,
    /// The component ended with failure, or trapped.
    Failed,
    /// It imports what the policy does not grant; no guest code ran.
    Refused,
    /// It was stopped at a limit.
    Limit,
    /// A person or the embedder ended it.
    Cancelled,
    /// The host or the vault failed.
    HostFault,
    /// The process that ran it is gone without having written an end.
    Lost,
}

impl Outcome {
    /// Every outcome there is.
    pub const ALL: [Self; 8] = [
        Self::Running,
        Self::Finished,
        Self::Failed,
        Self::Refused,
        Self::Limit,
        Self::Cancelled,
        Self::HostFault,
        Self::Lost,
    ];

    /// The exit code of `strongroom run` for this outcome.
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Finished => 0,
            Outcome::Failed => 1,
            Outcome::Refused => 3,
            Outcome::Limit => 4,
            Outcome::Running | Outcome::HostFault | Outcome::Lost => 5,
            Outcome::Cancelled => 130,
        }
    }

    /// The outcome as the record writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Running => "running",
            Outcome::Finished => "finished",
            Outcome::Failed => "failed",
            Outcome::Refused => "refused",
            Outcome::Limit => "limit",
            Outcome::Cancelled => "cancelled",
            Outcome::HostFault => "host-fault",
            Outcome::Lost => "lost",
        }
    }
}

/// Who caused an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// The component.
    Guest,
    /// The policy that was written for this run.
    Policy,
    /// strongroom, the vault or the machine.
    Host,
    /// The person or program that started the run.
    Operator,
}

/// The limits that can stop a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// `limits.memory`
    Memory,
    /// Table elements: fixed, see `docs/policy.md`.
    Tables,
    /// The guest's stack: the engine's.
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
    /// `limits.metrics`
    Metrics,
    /// Bytes that one host call may carry: fixed.
    HostCall,
    /// Handles that a component may hold: fixed.
    Resources,
}

impl Limit {
    /// The limit as the record and, where there is one, the policy writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Memory => "memory",
            Limit::Tables => "tables",
            Limit::Stack => "stack",
            Limit::Time => "time",
            Limit::Compile => "compile",
            Limit::OutputBytes => "output-bytes",
            Limit::OutputFiles => "output-files",
            Limit::Requests => "requests",
            Limit::Metrics => "metrics",
            Limit::HostCall => "host-call",
            Limit::Resources => "resources",
        }
    }
}

/// One operation on one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretUse {
    /// The name as the component asked for it, folded; redacted and escaped where it is no valid name; `*` for `list`.
    pub name: String,
    /// `get`, `set`, `list`, `describe` or `delete`.
    pub operation: String,
    /// How often it was served.
    pub count: u64,
    /// How often it was denied, exhausted or expired.
    pub denied: u64,
    /// The policy line that would allow it, where it was denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_allow: Option<String>,
}

/// What a component wants of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkOperation {
    /// Open a TCP connection.
    Connect,
    /// Look the addresses of a name up.
    LookUp,
    /// Take an address of the host, to be connected to. No policy allows it.
    Listen,
}

impl NetworkOperation {
    /// The operation as the record and the audit write it.
    pub fn as_str(self) -> &'static str {
        match self {
            NetworkOperation::Connect => "connect",
            NetworkOperation::LookUp => "look-up",
            NetworkOperation::Listen => "listen",
        }
    }
}

/// One operation on one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkUse {
    /// What was wanted.
    pub operation: NetworkOperation,
    /// `ADDRESS:PORT`, or the name that was looked up, redacted and escaped; `(others)` for the sum of what is over the bound.
    pub target: String,
    /// How often it was allowed. A connection that was allowed may still have failed.
    pub count: u64,
    /// How often it was denied.
    pub denied: u64,
    /// The entry of the policy's `tcp` that allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The entry of `tcp` that would allow it, where it was denied and a policy can; of a name the port is left as `PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_allow: Option<String>,
}

/// The values of one metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// The points kept, in the order logged.
    pub points: Vec<Point>,
    /// The last value, kept even where points were dropped.
    pub last: Option<Number>,
    /// How many points were not kept.
    #[serde(default)]
    pub dropped: u64,
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// The step, where the component gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// The value.
    pub value: Number,
}

/// A floating-point number that JSON can carry: NaN and the infinities are written as text.
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
                _ => Err(serde::de::Error::custom("a metric's value is a number, `NaN`, `Infinity` or `-Infinity`")),
            },
        }
    }
}

/// A progress report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// How much is done.
    pub done: u64,
    /// Of how much; 0 where that is unknown.
    pub total: u64,
    /// What the component says.
    pub message: String,
}

/// One thing in the output folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The path below the output folder, redacted and escaped.
    pub path: String,
    /// The size in bytes.
    pub bytes: u64,
    /// SHA-256 of the content.
    pub sha256: Digest,
}

/// How much log text there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogCount {
    /// Bytes that the component wrote and that were shown or stored.
    pub kept: u64,
    /// Bytes beyond `log-bytes`, dropped.
    pub dropped: u64,
}

/// A place in the audit: the segment, how many events it held, and the hash of the last one. Kept elsewhere, it lets
/// `strongroom audit verify --expect SEGMENT:COUNT:HASH` detect a trail that was cut or rewritten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditPosition {
    /// The segment's identity.
    pub segment: String,
    /// How many events it held.
    pub count: u64,
    /// The chain hash of the last of them, 64 hexadecimal digits.
    pub head: String,
}
