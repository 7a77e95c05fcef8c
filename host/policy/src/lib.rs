//! Parses the policy of one run and decides each request.
//!
//! A [`Policy`] is the parsed and validated text. [`Decisions`] counts the budgets of one run and
//! returns a [`Grant`] for each allowed request. Only this crate can construct a `Grant`, and the
//! guest-facing methods of the vault require one. The crate does no I/O and reads no clock (the
//! time is passed in), so every decision can be tested and repeated.
//!
//! The following rules always hold, and each has a test:
//! - **Deny by default.** [`Policy::empty`] grants nothing, unknown fields are errors, and no
//!   wildcard is implied.
//! - **Names are case-insensitive.** Names in requests and in `[secrets]` are folded to lower case
//!   once, when they are parsed ([`SecretName`](strongroom_core::ids::SecretName)).
//! - **Only the most specific entry decides.** An exact name beats a prefix, and a longer prefix
//!   beats a shorter one.
//! - **One name per stored secret.** `stored-as` must not name a secret that another entry grants.
//!
//! `docs/policy.md` is the reference for policy authors.

mod address;
mod decide;
mod entries;
mod explain;
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

use self::limits::StatedLimits;
use self::rules::Rules;
use strongroom_core::ids::Digest;

pub use self::address::{is_loopback, refused_address, with_embedded_addresses};
pub use self::decide::{Decisions, Refusal, RefusalReason};
pub use self::entries::EntryInfo;
pub use self::explain::{Explanation, OverriddenEntry};
pub use self::grant::{Grant, ListGrant};
pub use self::limits::{Ceilings, Limits, MEMORY_MIN, TIME_MIN};
pub use self::parse::{ENTRIES_MAX, TEXT_MAX};
pub use self::problem::{Location, PolicyError, Problem};
pub use self::schema::SCHEMA;
pub use self::starter::{Imports, starter};
pub use self::suggest::{ObservedRun, SecretRequests, SuggestError, TcpAttempts, Usage, suggest};
pub use self::tcp::{InvalidTarget, TARGETS_MAX, TcpHost, TcpTarget};
pub use self::units::{DURATION_MAX, UnitError, parse_duration, parse_size, show_duration, show_size};

/// An operation of a component on a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Read the value.
    Get,
    /// Store a value.
    Set,
    /// See the name in a list.
    List,
    /// Read version, content type and times.
    Describe,
    /// Delete the secret with all its versions.
    Delete,
}

impl Operation {
    /// All operations.
    pub const ALL: [Operation; 5] =
        [Operation::Get, Operation::Set, Operation::List, Operation::Describe, Operation::Delete];

    /// Returns the operation's name in policies, the audit log and the run record.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Get => "get",
            Operation::Set => "set",
            Operation::List => "list",
            Operation::Describe => "describe",
            Operation::Delete => "delete",
        }
    }

    /// Parses the output of [`Operation::as_str`]; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == text)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A parsed and validated policy. It is immutable; [`Decisions`] counts the budgets of a run.
pub struct Policy {
    text: String,
    origin: String,
    digest: Digest,
    component: Option<Digest>,
    tcp: Vec<TcpTarget>,
    rules: Arc<Rules>,
    environment: BTreeMap<String, String>,
    stated: StatedLimits,
    limits: Limits,
}

impl Policy {
    /// Parses a policy. Messages refer to the policy as `origin`, usually the file name.
    ///
    /// # Errors
    /// Returns [`PolicyError`] with every problem, each with line, column, field and the expected
    /// value.
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

    /// Returns the policy of a run without a policy file: it has no text, grants nothing and has
    /// the default limits.
    pub fn empty() -> Policy {
        Policy {
            text: String::new(),
            origin: String::new(),
            digest: Digest::of(b""),
            component: None,
            tcp: Vec::new(),
            rules: Arc::default(),
            environment: BTreeMap::new(),
            stated: StatedLimits::default(),
            limits: Limits::default(),
        }
    }

    /// Returns the text that was parsed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the SHA-256 of the text.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the component that the policy is pinned to; `None` if it applies to any component.
    pub fn component(&self) -> Option<&Digest> {
        self.component.as_ref()
    }

    /// Checks that the policy applies to a component.
    ///
    /// # Errors
    /// Returns [`PinMismatch`] if the policy is pinned to another component.
    pub fn check_component(&self, component: &Digest) -> Result<(), PinMismatch> {
        match self.component {
            Some(expected) if expected != *component => Err(PinMismatch { expected, found: *component }),
            _ => Ok(()),
        }
    }

    /// Returns the TCP destinations that the component may connect to, in file order.
    pub fn tcp(&self) -> &[TcpTarget] {
        &self.tcp
    }

    /// Returns the environment variables that the component sees.
    pub fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// Returns the limits on a host without ceilings.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the limits on a host with ceilings: a default above a ceiling is lowered to it.
    ///
    /// # Errors
    /// Returns [`PolicyError`] if the policy itself asks for more than a ceiling. The message names
    /// both.
    pub fn limits_under(&self, ceilings: &Ceilings) -> Result<Limits, PolicyError> {
        self.stated.under(ceilings, &self.origin)
    }
}

/// Omits the values of `[environment]`, which may be sensitive.
impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("origin", &self.origin).field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// The policy is pinned to another component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the policy is pinned to component {expected}, but this component is {found}; run the pinned component, or review this one and \
     change `component` in the policy"
)]
pub struct PinMismatch {
    /// The component that the policy is pinned to.
    pub expected: Digest,
    /// The component that was checked.
    pub found: Digest,
}
