//! What one run may do: reads the policy and decides each request.
//!
//! A [`Policy`] is the parsed and checked text. [`Decisions`] holds one run's budgets and hands out a [`Grant`] for each request that
//! is allowed; nothing else makes one, and the vault's guest-facing path takes nothing else. Everything here is pure: no
//! input or output, no clock (the time is passed in), so that every decision can be tested and repeated.
//!
//! Rules that hold throughout, each with a test:
//! - Nothing by default: [`Policy::empty`] grants nothing, unknown fields are errors, no wildcard is implied.
//! - Names are folded to lower case once, when parsed ([`SecretName`](strongroom_core::ids::SecretName)); entries of `[secrets]` too.
//! - The most specific entry decides alone: an exact name beats a prefix, a longer prefix a shorter one.
//! - One stored secret is reached by one name: `stored-as` may not lead to a secret that another entry grants.
//!
//! `docs/policy.md` is the reference for people.

mod address;
mod decide;
mod entries;
mod grant;
mod limits;
mod parse;
mod problem;
mod rules;
mod schema;
mod starter;
mod suggest;
mod tcp;
#[cfg(test)]
mod tests;
mod units;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use self::limits::Stated;
use self::rules::Rules;
use strongroom_core::ids::Digest;

pub use self::address::{is_loopback, refused_address};
pub use self::decide::{Decisions, Explanation, Overruled, Refusal, RefusalReason};
pub use self::entries::EntryInfo;
pub use self::grant::{Grant, ListGrant};
pub use self::limits::{Ceilings, Limits, MEMORY_MIN, TIME_MIN};
pub use self::parse::{ENTRIES_MAX, TEXT_MAX};
pub use self::problem::{Place, PolicyError, Problem};
pub use self::schema::SCHEMA;
pub use self::starter::{Asks, starter};
pub use self::suggest::{Observed, SecretAsked, SuggestError, TcpAsked, Usage, suggest};
pub use self::tcp::{InvalidTarget, TARGETS_MAX, TcpHost, TcpTarget};
pub use self::units::{DURATION_MAX, UnitError, parse_duration, parse_size, show_duration, show_size};

/// What a component may do with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Read the value.
    Get,
    /// Store a value.
    Set,
    /// See the name among those that exist.
    List,
    /// See version, content type and times.
    Describe,
    /// Delete with all versions.
    Delete,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Operation; 5] =
        [Operation::Get, Operation::Set, Operation::List, Operation::Describe, Operation::Delete];

    /// The operation as the policy, the audit and the run record write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Get => "get",
            Operation::Set => "set",
            Operation::List => "list",
            Operation::Describe => "describe",
            Operation::Delete => "delete",
        }
    }

    /// Reads what [`Operation::as_str`] writes; none for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == text)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A policy that was parsed and checked. It does not change; the budgets of a run are in [`Decisions`].
pub struct Policy {
    text: String,
    origin: String,
    digest: Digest,
    component: Option<Digest>,
    tcp: Vec<TcpTarget>,
    rules: Arc<Rules>,
    environment: BTreeMap<String, String>,
    stated: Stated,
    limits: Limits,
}

impl Policy {
    /// Reads a policy. `origin` is what messages call it: the file's name.
    ///
    /// # Errors
    /// [`PolicyError`] with everything that is wrong, each with line, column, field and what would be right.
    pub fn parse(text: &str, origin: &str) -> Result<Policy, PolicyError> {
        let parsed = parse::parse(text, origin)?;
        let limits = parsed.stated.under(&Ceilings::default(), origin)?;
        Ok(Policy {
            text: text.to_owned(),
            origin: origin.to_owned(),
            digest: Digest::of(text.as_bytes()),
            component: parsed.component,
            tcp: parsed.tcp,
            rules: Arc::new(parsed.rules),
            environment: parsed.environment,
            stated: parsed.stated,
            limits,
        })
    }

    /// The policy of a run without one: it grants nothing, its text is empty, and the default limits hold.
    pub fn empty() -> Policy {
        Policy {
            text: String::new(),
            origin: String::new(),
            digest: Digest::of(b""),
            component: None,
            tcp: Vec::new(),
            rules: Arc::default(),
            environment: BTreeMap::new(),
            stated: Stated::default(),
            limits: Limits::default(),
        }
    }

    /// The text as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The one component that this policy serves; none where it serves any.
    pub fn component(&self) -> Option<&Digest> {
        self.component.as_ref()
    }

    /// Whether this policy serves a component.
    ///
    /// # Errors
    /// [`PinMismatch`] where it is written for another one.
    pub fn serves(&self, component: &Digest) -> Result<(), PinMismatch> {
        match self.component {
            Some(expected) if expected != *component => Err(PinMismatch { expected, found: *component }),
            _ => Ok(()),
        }
    }

    /// Where the component may open TCP connections, in the order written.
    pub fn tcp(&self) -> &[TcpTarget] {
        &self.tcp
    }

    /// What the component sees as environment variables.
    pub fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// The limits that hold where the host has no ceilings.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The limits that hold on a host with ceilings: a default above a ceiling is lowered to it.
    ///
    /// # Errors
    /// [`PolicyError`] where the policy itself asks for more than a ceiling; it names both.
    pub fn limits_under(&self, ceilings: &Ceilings) -> Result<Limits, PolicyError> {
        self.stated.under(ceilings, &self.origin)
    }
}

/// The values of `[environment]` stay out of it.
impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("origin", &self.origin).field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// A policy is written for another component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the policy serves the component {expected} alone, and this is {found}; run that component, or change `component` in the policy \
     after a review of this one"
)]
pub struct PinMismatch {
    /// The component that the policy names.
    pub expected: Digest,
    /// The component that was to run.
    pub found: Digest,
}
