//! Audit events. They contain names, versions, decisions and outcomes; never a value or an unkeyed
//! hash of one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use strongroom_core::ids::{RunId, SecretName, SecretVersion};

/// An audit event. The writer adds sequence number, time and chain hash.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The kind of event.
    pub event: Kind,
    /// The run; absent for an operator command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The requested operation, as policies name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Cow<'static, str>>,
    /// The secret: as the vault knows it once that is decided, otherwise as it was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretName>,
    /// The name that the component used, if it differs (`stored-as`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The version that was read or written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<SecretVersion>,
    /// The decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The policy entry that determined the decision.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "shared")]
    pub rule: Option<Arc<str>>,
    /// The outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Cow<'static, str>>,
    /// The number of requests, in an event that aggregates several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Other fields by name, such as the digests in a run's first event, the outcome in its last,
    /// and the operating system's user.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detail: BTreeMap<Cow<'static, str>, Cow<'static, str>>,
}

/// Serializes a shared text like a string.
mod shared {
    use super::*;

    pub(super) fn serialize<S: Serializer>(text: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
        text.as_deref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<str>>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Arc::from))
    }
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The first event of a segment: program version, process, user.
    #[default]
    SegmentStart,
    /// A later process continues a shared segment: the same facts as in the first event.
    SegmentResume,
    /// The last event of a segment that was closed normally.
    SegmentEnd,
    /// A run starts: digests of component, policy and specification.
    RunStart,
    /// The outputs of a run are about to be published. Written before they are moved to their
    /// directory.
    Publish,
    /// A run has ended: outcome and blame.
    RunEnd,
    /// A request for a secret was decided. Written before the vault is asked.
    Decision,
    /// The vault's answer to the request. Written before a value is released.
    Outcome,
    /// Decision and outcome of a request that was denied or answered from the cache, in one event.
    Use,
    /// The first connection to a destination, or the first lookup of a name, was decided. Written
    /// before the connection is opened or the lookup is answered.
    Network,
    /// Aggregate of repeated reads of a value that the run already held.
    Repeats,
    /// Aggregate of refused requests: those above a limit, or those above the run's number of
    /// events.
    Summary,
    /// An operator command on a secret is about to run.
    Operator,
    /// Outcome of an operator command.
    OperatorOutcome,
}

/// A policy decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// The policy grants the request.
    Allowed,
    /// The policy does not grant the request.
    Denied,
}
