//! Proof that the policy allowed one operation.
//!
//! Only this crate can construct a [`Grant`] or a [`ListGrant`]. Each guest-facing vault method takes
//! one, so code that skips the policy decision does not compile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::rules::{EntryId, Rules};
use crate::Operation;
use strongroom_core::ids::{SecretName, SecretVersion};

/// Allows one operation on one secret. A clone stands for the same decision, whose use was already
/// counted.
#[derive(Clone, Debug)]
pub struct Grant {
    operation: Operation,
    asked: SecretName,
    stored: SecretName,
    version: Option<SecretVersion>,
    rule: Arc<str>,
}

impl Grant {
    pub(crate) fn new(
        operation: Operation,
        asked: SecretName,
        stored: SecretName,
        version: Option<SecretVersion>,
        rule: Arc<str>,
    ) -> Self {
        Self { operation, asked, stored, version, rule }
    }

    /// Returns a grant without a policy, for tests of this crate.
    #[cfg(test)]
    pub(crate) fn for_test(operation: Operation, name: &str) -> Self {
        let name = SecretName::parse(name).expect("the name is valid");
        Self { operation, asked: name.clone(), stored: name, version: None, rule: "test".into() }
    }

    /// Returns the allowed operation.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Returns the name that the component requested.
    pub fn asked(&self) -> &SecretName {
        &self.asked
    }

    /// Returns the name in the vault: `stored-as` of the entry, or the requested name.
    pub fn stored(&self) -> &SecretName {
        &self.stored
    }

    /// Returns the version to read; `None` for the latest.
    pub fn version(&self) -> Option<&SecretVersion> {
        self.version.as_ref()
    }

    /// Pins a grant without a version to one version, so that a run continues to see the version
    /// that it saw first.
    #[must_use]
    pub fn at_version(mut self, version: SecretVersion) -> Self {
        self.version.get_or_insert(version);
        self
    }

    /// Returns the policy entry that allowed this, such as `secrets."db-*"`.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// Returns [`Grant::rule`] as a shared string.
    pub fn shared_rule(&self) -> Arc<str> {
        Arc::clone(&self.rule)
    }
}

/// Allows a list: which names of the vault a component may see, and under which names.
#[derive(Clone)]
pub struct ListGrant {
    exact: BTreeMap<SecretName, SecretName>,
    rules: Arc<Rules>,
    prefixes: BTreeSet<EntryId>,
    rule: String,
}

impl ListGrant {
    /// `exact` maps each requested name to the name in the vault. `prefixes` are the entries of
    /// `rules` that currently grant `list`.
    pub(crate) fn new(
        exact: BTreeMap<SecretName, SecretName>,
        rules: Arc<Rules>,
        prefixes: BTreeSet<EntryId>,
        rule: String,
    ) -> Self {
        Self { exact, rules, prefixes, rule }
    }

    /// Returns the grant of a policy with these entries of `[secrets]`, for tests of this crate.
    #[cfg(test)]
    pub(crate) fn for_test(entries: &str) -> Self {
        let policy =
            crate::Policy::parse(&format!("version = 1\n[secrets]\n{entries}"), "test").expect("the entries are valid");
        let now = jiff::Timestamp::UNIX_EPOCH;
        crate::Decisions::new(Arc::new(policy)).decide_list(now).expect("the entries grant `list`")
    }

    /// Returns the exact names that may be listed, as (name in the vault, name for the component).
    /// A vault looks these up one by one, so that a list of exact names never pages through the
    /// whole vault.
    pub fn exact(&self) -> impl Iterator<Item = (&SecretName, &SecretName)> {
        self.exact.iter().map(|(asked, stored)| (stored, asked))
    }

    /// Returns whether the vault has to be paged, because a prefix grants `list`.
    pub fn needs_paging(&self) -> bool {
        !self.prefixes.is_empty()
    }

    /// Returns whether a name in the vault may be listed because of a prefix: the entry that
    /// decides about the name is a prefix that grants `list`. [`ListGrant::exact`] covers exact
    /// names.
    pub fn admits(&self, stored: &SecretName) -> bool {
        self.rules.deciding_entry(stored).is_some_and(|(id, _)| self.prefixes.contains(&id))
    }

    /// Returns the policy entries that allowed this; at most eight are named.
    pub fn rule(&self) -> &str {
        &self.rule
    }
}

impl fmt::Debug for ListGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListGrant").field("rule", &self.rule).finish_non_exhaustive()
    }
}
