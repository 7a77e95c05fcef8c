//! The entries of `[secrets]` and their precedence.
//!
//! Decisions, lists and the check for conflicting entries all use [`Rules::deciding_entry`], so
//! there is only one implementation of precedence.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;

use super::Operation;
use super::problem::Location;
use strongroom_core::ids::{SecretName, SecretVersion};

/// The names that an entry matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// One name.
    Exact(SecretName),
    /// Every name that starts with this lower-case text and is longer.
    Prefix(String),
}

impl Pattern {
    /// Returns the key in TOML notation, in lower case.
    pub(crate) fn key(&self) -> String {
        match self {
            Pattern::Exact(name) => name.to_string(),
            Pattern::Prefix(prefix) => format!("\"{prefix}*\""),
        }
    }
}

/// One entry of `[secrets]`.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) pattern: Pattern,
    pub(crate) allow: BTreeSet<Operation>,
    pub(crate) max_uses: Option<u64>,
    pub(crate) expires: Option<Timestamp>,
    /// Only on exact entries.
    pub(crate) stored_as: Option<SecretName>,
    /// Only on exact entries that allow neither set nor delete.
    pub(crate) version: Option<SecretVersion>,
    pub(crate) location: Location,
}

impl Entry {
    /// Returns the entry's name in the audit log and in messages: `secrets.db-password` or
    /// `secrets."db-*"`.
    pub(crate) fn rule(&self) -> String {
        format!("secrets.{}", self.pattern.key())
    }

    /// Returns the name in the vault for a requested name.
    pub(crate) fn stored<'a>(&'a self, asked: &'a SecretName) -> &'a SecretName {
        self.stored_as.as_ref().unwrap_or(asked)
    }

    /// Returns the entry as a line of `[secrets]`.
    pub(crate) fn line(&self) -> String {
        let allow = self.allow.iter().map(|op| format!("\"{op}\"")).collect::<Vec<_>>().join(", ");
        let mut more = String::new();
        // Writing to a `String` cannot fail.
        if let Some(max_uses) = self.max_uses {
            let _ = write!(more, ", max-uses = {max_uses}");
        }
        if let Some(expires) = self.expires {
            let _ = write!(more, ", expires = {expires}");
        }
        if let Some(stored) = &self.stored_as {
            let _ = write!(more, ", stored-as = \"{stored}\"");
        }
        if let Some(version) = &self.version {
            let _ = write!(more, ", secret-version = \"{version}\"");
        }
        let key = self.pattern.key();
        if more.is_empty() { format!("{key} = [{allow}]") } else { format!("{key} = {{ allow = [{allow}]{more} }}") }
    }
}

/// The index of an entry in [`Rules`].
pub(crate) type EntryId = usize;

/// The entries of a policy.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    entries: Vec<Entry>,
    /// [`Entry::rule`] of each entry, shared because every grant has a copy.
    names: Vec<Arc<str>>,
    exact: HashMap<String, EntryId>,
    prefixes: HashMap<String, EntryId>,
    /// The `stored-as` names that differ from the entry's own name.
    aliases: HashMap<String, EntryId>,
    has_expiry: bool,
}

impl Rules {
    /// Adds an entry.
    ///
    /// # Errors
    /// Returns the location of the existing entry with the same key; the new entry is not added.
    pub(crate) fn add(&mut self, entry: Entry) -> Result<(), Location> {
        let (map, key) = match &entry.pattern {
            Pattern::Exact(name) => (&mut self.exact, name.as_str()),
            Pattern::Prefix(prefix) => (&mut self.prefixes, prefix.as_str()),
        };
        if let Some(other) = map.get(key).and_then(|id| self.entries.get(*id)) {
            return Err(other.location);
        }
        let id = self.entries.len();
        map.insert(key.to_owned(), id);
        if let (Pattern::Exact(name), Some(stored)) = (&entry.pattern, &entry.stored_as)
            && name != stored
            && !entry.allow.is_empty()
        {
            self.aliases.entry(stored.as_str().to_owned()).or_insert(id);
        }
        self.has_expiry |= entry.expires.is_some();
        self.names.push(entry.rule().into());
        self.entries.push(entry);
        Ok(())
    }

    /// Returns the entry that decides about a name: the exact one, or that of the longest prefix.
    pub(crate) fn deciding_entry(&self, name: &SecretName) -> Option<(EntryId, &Entry)> {
        let id = self.ids(name).next()?;
        self.entries.get(id).map(|entry| (id, entry))
    }

    /// Returns [`Entry::rule`] of an entry.
    pub(crate) fn name(&self, id: EntryId) -> Arc<str> {
        self.names.get(id).cloned().unwrap_or_default()
    }

    /// Returns whether the policy contains a lower-case name in full.
    pub(crate) fn contains_name(&self, name: &str) -> bool {
        self.exact.contains_key(name) || self.aliases.contains_key(name)
    }

    /// Returns every entry that matches a name, most specific first. The first one decides.
    pub(crate) fn matching(&self, name: &SecretName) -> impl Iterator<Item = &Entry> {
        self.ids(name).filter_map(|id| self.entries.get(id))
    }

    fn ids(&self, name: &SecretName) -> impl Iterator<Item = EntryId> {
        let name = name.as_str();
        // A prefix matches at least one more character, so the whole name is not a candidate.
        let prefixes = (1..name.len()).rev().filter_map(move |length| self.prefixes.get(name.get(..length)?));
        self.exact.get(name).into_iter().chain(prefixes).copied()
    }

    /// Returns the entry that also grants the stored secret that `entry`, requested as `name`,
    /// grants; `None` if there is no such entry. Two entries for one secret would have two budgets
    /// and, in one batch, could set two values, so such a policy is refused.
    pub(crate) fn conflicting_entry(&self, name: &SecretName, entry: &Entry) -> Option<&Entry> {
        if entry.allow.is_empty() {
            return None;
        }
        let stored = entry.stored(name);
        let alias = self.aliases.get(stored.as_str()).and_then(|id| self.entries.get(*id));
        if let Some(alias) = alias.filter(|alias| alias.pattern != Pattern::Exact(name.clone())) {
            return Some(alias);
        }
        if stored == name {
            return None;
        }
        let (_, own) = self.deciding_entry(stored)?;
        (!own.allow.is_empty() && own.stored(stored) == stored).then_some(own)
    }

    /// Returns all entries with their IDs, in file order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (EntryId, &Entry)> {
        self.entries.iter().enumerate()
    }
}
