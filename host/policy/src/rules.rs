//! The entries of `[secrets]`, and which of them decides about a name.
//!
//! There is one look-up, by [`Rules::deciding`]: decisions, lists and the check for ambiguous aliases all ask it, so precedence cannot
//! come to mean two things.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;

use super::Operation;
use super::problem::Place;
use strongroom_core::ids::{SecretName, SecretVersion};

/// What an entry's key matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// One name.
    Exact(SecretName),
    /// Every name that is longer than this folded text and begins with it.
    Prefix(String),
}

impl Pattern {
    /// The key as TOML writes it, in lower case.
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
    pub(crate) place: Place,
}

impl Entry {
    /// The entry's name in audit and messages: `secrets.db-password` or `secrets."db-*"`.
    pub(crate) fn rule(&self) -> String {
        format!("secrets.{}", self.pattern.key())
    }

    /// The name in the vault of a name that this entry decides.
    pub(crate) fn stored<'a>(&'a self, asked: &'a SecretName) -> &'a SecretName {
        self.stored_as.as_ref().unwrap_or(asked)
    }

    /// The entry as a line of `[secrets]`.
    pub(crate) fn line(&self) -> String {
        let allow = self.allow.iter().map(|op| format!("\"{op}\"")).collect::<Vec<_>>().join(", ");
        let mut more = String::new();
        // Writing to a `String` has no way to fail.
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

/// An entry's place in [`Rules`].
pub(crate) type EntryId = usize;

/// All entries of a policy.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    entries: Vec<Entry>,
    /// What [`Entry::rule`] says of each: every grant has a copy.
    names: Vec<Arc<str>>,
    exact: HashMap<String, EntryId>,
    prefixes: HashMap<String, EntryId>,
    /// Names in the vault that exact entries with another name lead to.
    aliases: HashMap<String, EntryId>,
    expiring: bool,
}

impl Rules {
    /// Adds an entry.
    ///
    /// # Errors
    /// The place of the entry that has this key already; the new one is not added.
    pub(crate) fn add(&mut self, entry: Entry) -> Result<(), Place> {
        let (map, key) = match &entry.pattern {
            Pattern::Exact(name) => (&mut self.exact, name.as_str()),
            Pattern::Prefix(prefix) => (&mut self.prefixes, prefix.as_str()),
        };
        if let Some(other) = map.get(key).and_then(|id| self.entries.get(*id)) {
            return Err(other.place);
        }
        let id = self.entries.len();
        map.insert(key.to_owned(), id);
        if let (Pattern::Exact(name), Some(stored)) = (&entry.pattern, &entry.stored_as)
            && name != stored
            && !entry.allow.is_empty()
        {
            self.aliases.entry(stored.as_str().to_owned()).or_insert(id);
        }
        self.expiring |= entry.expires.is_some();
        self.names.push(entry.rule().into());
        self.entries.push(entry);
        Ok(())
    }

    /// The entry that alone decides about a name: the exact one, else that of the longest prefix.
    pub(crate) fn deciding(&self, name: &SecretName) -> Option<(EntryId, &Entry)> {
        let id = self.ids(name).next()?;
        self.entries.get(id).map(|entry| (id, entry))
    }

    /// What an entry is called: [`Entry::rule`].
    pub(crate) fn name(&self, id: EntryId) -> Arc<str> {
        self.names.get(id).cloned().unwrap_or_default()
    }

    /// Whether a folded name stands in the policy in full.
    pub(crate) fn spells(&self, name: &str) -> bool {
        self.exact.contains_key(name) || self.aliases.contains_key(name)
    }

    /// Every entry that matches a name, the one that decides first, then by falling length of the prefix.
    pub(crate) fn matching(&self, name: &SecretName) -> impl Iterator<Item = &Entry> {
        self.ids(name).filter_map(|id| self.entries.get(id))
    }

    fn ids(&self, name: &SecretName) -> impl Iterator<Item = EntryId> {
        let name = name.as_str();
        // A prefix stands for at least one more character, so the whole name is not among them.
        let prefixes = (1..name.len()).rev().filter_map(move |length| self.prefixes.get(name.get(..length)?));
        self.exact.get(name).into_iter().chain(prefixes).copied()
    }

    /// The entry through which a run would reach the stored secret that `entry`, asked for as `name`, leads to; none where that is
    /// the only way. Two ways to one secret have two budgets and, in one batch, two values: a policy with two is refused.
    pub(crate) fn other_way(&self, name: &SecretName, entry: &Entry) -> Option<&Entry> {
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
        let (_, own) = self.deciding(stored)?;
        (!own.allow.is_empty() && own.stored(stored) == stored).then_some(own)
    }

    /// All entries with their identities, in the order of the file.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (EntryId, &Entry)> {
        self.entries.iter().enumerate()
    }
}
