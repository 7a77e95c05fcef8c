//! Explains decisions, and finds the policy line that would allow a refused request.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::decide::{RefusalReason, evaluate, refusal};
use super::problem::Location;
use super::rules::{Entry, Pattern, Rules};
use super::{Operation, Policy};
use strongroom_core::ids::{SecretName, SecretVersion};

/// The decision about one request at the start of a run, before any use is consumed. `Display`
/// describes it for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The requested operation.
    pub operation: Operation,
    /// The requested name.
    pub name: SecretName,
    /// Why the request is refused; `None` if it is allowed.
    pub reason: Option<RefusalReason>,
    /// The deciding entry, such as `secrets."db-*"`; `None` if no entry matches.
    pub rule: Option<String>,
    /// The line of that entry in the policy.
    pub line: Option<usize>,
    /// The other entries that match the name, most specific first. They have no effect.
    pub overridden: Vec<OverriddenEntry>,
    /// The name in the vault, if the request is allowed.
    pub stored: Option<SecretName>,
    /// The pinned version, if the request is allowed.
    pub version: Option<SecretVersion>,
    /// The uses of the entry in the whole run; `None` if not counted.
    pub max_uses: Option<u64>,
    /// The time at which the entry expires.
    pub expires: Option<Timestamp>,
    /// The line of `[secrets]` that would allow the request, if it is refused.
    pub would_allow: Option<String>,
}

/// An entry that matches a name but is overridden by a more specific one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OverriddenEntry {
    /// The entry, such as `secrets."db-*"`.
    pub rule: String,
    /// The line in the policy.
    pub line: usize,
    /// Whether it lists the requested operation.
    pub allows: bool,
}

impl Explanation {
    /// Returns whether the request is allowed.
    pub fn allowed(&self) -> bool {
        self.reason.is_none()
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            None => write!(f, "yes: `{}` of `{}` is allowed", self.operation, self.name)?,
            Some(RefusalReason::Expired) => {
                write!(f, "no: the entry that allows `{}` of `{}` has expired", self.operation, self.name)?;
            }
            Some(reason) => write!(f, "no: `{}` of `{}` is {reason}", self.operation, self.name)?,
        }
        match (&self.rule, self.line) {
            (Some(rule), Some(line)) => write!(f, "\n  decided by {rule} (line {line})")?,
            _ => f.write_str("\n  no entry of [secrets] matches this name")?,
        }
        for other in &self.overridden {
            let verb = if other.allows { "allows" } else { "does not allow" };
            let (rule, line) = (&other.rule, other.line);
            write!(f, "\n  less specific and ignored: {rule} (line {line}), which {verb} it")?;
        }
        if let Some(stored) = self.stored.as_ref().filter(|stored| **stored != self.name) {
            write!(f, "\n  name in the vault: `{stored}`")?;
        }
        if let Some(version) = &self.version {
            write!(f, "\n  version: `{version}`")?;
        }
        if let Some(max_uses) = self.max_uses {
            write!(f, "\n  uses per run, over all names and operations of the entry: {max_uses}")?;
        }
        if let Some(expires) = self.expires {
            write!(f, "\n  expires: {expires}")?;
        }
        if let Some(line) = &self.would_allow {
            write!(f, "\n  this line under [secrets] would allow it:\n    {line}")?;
        }
        Ok(())
    }
}

impl Policy {
    /// Explains the decision that a run starting at `now` would get.
    pub fn explain(&self, operation: Operation, name: &SecretName, now: Timestamp) -> Explanation {
        let (entry, reason) = match evaluate(&self.rules, operation, name, now, |_| 0) {
            Ok((_, entry)) => (Some(entry), None),
            Err((reason, entry)) => (entry, Some(reason)),
        };
        let granting = entry.filter(|_| reason.is_none());
        Explanation {
            operation,
            name: name.clone(),
            reason,
            rule: entry.map(Entry::rule),
            line: entry.map(|entry| entry.location.line),
            overridden: self.rules.matching(name).skip(1).map(|other| OverriddenEntry::of(other, operation)).collect(),
            stored: granting.map(|entry| entry.stored(name).clone()),
            version: granting.and_then(|entry| entry.version.clone()),
            max_uses: entry.and_then(|entry| entry.max_uses),
            expires: entry.and_then(|entry| entry.expires),
            would_allow: reason
                .map(|reason| refusal(&self.rules, operation, name, now, reason, entry, |_| 1).would_allow),
        }
    }
}

impl OverriddenEntry {
    fn of(entry: &Entry, operation: Operation) -> Self {
        Self { rule: entry.rule(), line: entry.location.line, allows: entry.allow.contains(&operation) }
    }
}

/// Returns the line of `[secrets]` that would allow a request and otherwise as little as possible
/// beyond what is already allowed.
pub(crate) fn would_allow(
    rules: &Rules,
    operation: Operation,
    name: &SecretName,
    now: Timestamp,
    reason: RefusalReason,
    entry: Option<&Entry>,
    needed: u64,
) -> String {
    let mut entry = match entry {
        Some(entry) => amended(entry, operation, now, needed),
        None => Entry {
            pattern: Pattern::Exact(name.clone()),
            allow: BTreeSet::from([operation]),
            max_uses: None,
            expires: None,
            stored_as: None,
            version: None,
            location: Location { line: 0, column: 0 },
        },
    };
    // An operation that a prefix does not list is added for this name only. The exact entry decides
    // alone, so it keeps what the prefix allows.
    if reason == RefusalReason::Denied {
        entry.pattern = Pattern::Exact(name.clone());
    }
    // A policy must not grant one stored secret twice. One line cannot fix that, so a comment says
    // it.
    match rules.conflicting_entry(name, &entry) {
        Some(other) => {
            let stored = entry.stored(name);
            format!("{} # also change {} so that it does not grant `{stored}`", entry.line(), other.rule())
        }
        None => entry.line(),
    }
}

/// Returns the entry with the operation allowed, not expired at `now`, and with at least `needed`
/// uses.
pub(crate) fn amended(entry: &Entry, operation: Operation, now: Timestamp, needed: u64) -> Entry {
    let mut entry = entry.clone();
    entry.allow.insert(operation);
    if matches!(operation, Operation::Set | Operation::Delete) {
        entry.version = None;
    }
    entry.max_uses = entry.max_uses.map(|max_uses| max_uses.max(needed));
    if entry.expires.is_some_and(|expires| now >= expires) {
        // One day from now, in whole seconds.
        entry.expires = Timestamp::from_second(now.as_second().saturating_add(24 * 60 * 60)).ok();
    }
    entry
}
