//! The proof that one operation on one secret was allowed.
//!
//! Only this crate can make a [`Grant`] or a [`ListGrant`], and the guest-facing methods of a vault take nothing else: a path to
//! the vault that skips the decision does not compile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::rules::{EntryId, Rules};
use crate::Operation;
use strongroom_core::ids::{SecretName, SecretVersion};

/// One allowed operation on one secret. A clone stands for the same decision, whose use was counted when it was made.
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

    /// A grant for the tests of this crate.
    #[cfg(test)]
    pub(crate) fn for_test(operation: Operation, name: &str) -> Self {
        let name = SecretName::parse(name).expect("a test names its secret rightly");
        Self { operation, asked: name.clone(), stored: name, version: None, rule: "test".into() }
    }

    /// What is allowed.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The name as the component knows it.
    pub fn asked(&self) -> &SecretName {
        &self.asked
    }

    /// The name as the vault knows it: `stored-as` of the policy entry, or the name asked for.
    pub fn stored(&self) -> &SecretName {
        &self.stored
    }

    /// The version that the policy pins, or none for the latest.
    pub fn version(&self) -> Option<&SecretVersion> {
        self.version.as_ref()
    }

    /// Narrows a grant without a pinned version to one version, so that a run keeps seeing what it saw first.
    #[must_use]
    pub fn at_version(mut self, version: SecretVersion) -> Self {
        self.version.get_or_insert(version);
        self
    }

    /// The policy entry that made this decision, as it is written there.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// The policy entry, shared.
    pub fn shared_rule(&self) -> Arc<str> {
        Arc::clone(&self.rule)
    }
}

/// Permission to list names: which names of the vault a component may see, and under which name it knows each.
#[derive(Clone)]
pub struct ListGrant {
    exact: BTreeMap<SecretName, SecretName>,
    rules: Arc<Rules>,
    prefixes: BTreeSet<EntryId>,
    rule: String,
}

impl ListGrant {
    /// `exact`: the name asked for, and the name in the vault. `prefixes`: those entries of `rules` that grant `list` now.
    pub(crate) fn new(
        exact: BTreeMap<SecretName, SecretName>,
        rules: Arc<Rules>,
        prefixes: BTreeSet<EntryId>,
        rule: String,
    ) -> Self {
        Self { exact, rules, prefixes, rule }
    }

    /// A grant for the tests of this crate: the entries of `[secrets]` as a policy writes them, one a line.
    #[cfg(test)]
    pub(crate) fn for_test(entries: &str) -> Self {
        let policy = crate::Policy::parse(&format!("version = 1\n[secrets]\n{entries}"), "test")
            .expect("a test writes its entries rightly");
        let now = jiff::Timestamp::UNIX_EPOCH;
        crate::Decisions::new(Arc::new(policy)).decide_list(now).expect("a test's entries grant `list`")
    }

    /// The exact names that may be listed: the name in the vault, and the name that the component knows. A vault answers these one
    /// by one, so that a list over exact names never pages through a whole vault.
    pub fn exact(&self) -> impl Iterator<Item = (&SecretName, &SecretName)> {
        self.exact.iter().map(|(asked, stored)| (stored, asked))
    }

    /// Whether the vault has to be paged: some prefix grants `list`.
    pub fn needs_paging(&self) -> bool {
        !self.prefixes.is_empty()
    }

    /// Whether a name found in the vault may be seen through a prefix: the entry that decides about it is one of the prefixes that
    /// grant `list`. Exact names are not asked here.
    pub fn admits(&self, stored: &SecretName) -> bool {
        self.rules.deciding(stored).is_some_and(|(id, _)| self.prefixes.contains(&id))
    }

    /// The policy entries that made this decision, as they are written there; of many the first.
    pub fn rule(&self) -> &str {
        &self.rule
    }
}

impl fmt::Debug for ListGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListGrant").field("rule", &self.rule).finish_non_exhaustive()
    }
}
