//! What an audit event says. Names, versions, decisions and outcomes; never a value, nor a plain hash of one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use strongroom_core::ids::{RunId, SecretName, SecretVersion};

/// One thing that happened. Sequence number, time and chain hash are added by the writer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What happened.
    pub event: Kind,
    /// The run concerned; none for an operator's own command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The operation asked for, as the policy writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Cow<'static, str>>,
    /// The secret, as the vault knows it where that is decided, else as it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretName>,
    /// The name under which the component asked, where it differs (`stored-as`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The version used or made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<SecretVersion>,
    /// Whether it was allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The policy entry that decided.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "shared")]
    pub rule: Option<Arc<str>>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Cow<'static, str>>,
    /// How often, in an event that stands for several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Anything else, by name: the digests of a run's first event, the outcome of its last, the operating-system user.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detail: BTreeMap<Cow<'static, str>, Cow<'static, str>>,
}

/// A shared text, as a text.
mod shared {
    use super::*;

    pub(super) fn serialize<S: Serializer>(text: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
        text.as_deref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<str>>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Arc::from))
    }
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The first event of a segment: program version, process, user.
    #[default]
    SegmentStart,
    /// The last event of a segment that was closed in good order.
    SegmentEnd,
    /// A run begins: component, policy and specification digests.
    RunStart,
    /// A run has ended: outcome and blame.
    RunEnd,
    /// A request for a secret was decided. Written before the vault is asked.
    Decision,
    /// What the vault answered to the decided request. Written before a value is released.
    Outcome,
    /// Decision and outcome of a request that was answered from the cache or denied, in one event.
    Use,
    /// The first connection to a destination, or the first look-up of a name, was decided. Written before it is opened or answered.
    Network,
    /// Repeated reads of a value that the run already held, in sum.
    Repeats,
    /// A number of refused requests: those that a limit cut off, or those beyond what a run has events for.
    Summary,
    /// An operator's own command on a secret is about to be done.
    Operator,
    /// What came of an operator's command.
    OperatorOutcome,
}

/// Allowed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// The policy grants it.
    Allowed,
    /// The policy does not grant it.
    Denied,
}
