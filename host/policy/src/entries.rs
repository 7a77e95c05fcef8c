//! The entries of a policy as plain data, for display and serialization.

use jiff::Timestamp;
use serde::Serialize;

use super::rules::{Entry, Pattern};
use super::{Operation, Policy};

/// One entry of `[secrets]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryInfo {
    /// The key in lower case: a name, or a prefix with its `*`.
    pub key: String,
    /// The line in the file.
    pub line: usize,
    /// The operations that it allows; empty if it denies.
    pub allow: Vec<&'static str>,
    /// The uses in one run; `None` if not counted.
    pub max_uses: Option<u64>,
    /// The time from which it grants nothing.
    pub expires: Option<Timestamp>,
    /// The name in the vault, if it differs.
    pub stored_as: Option<String>,
    /// The pinned version.
    pub secret_version: Option<String>,
}

impl From<&Entry> for EntryInfo {
    fn from(entry: &Entry) -> Self {
        Self {
            key: match &entry.pattern {
                Pattern::Exact(name) => name.to_string(),
                Pattern::Prefix(prefix) => format!("{prefix}*"),
            },
            line: entry.location.line,
            allow: entry.allow.iter().copied().map(Operation::as_str).collect(),
            max_uses: entry.max_uses,
            expires: entry.expires,
            stored_as: entry.stored_as.as_ref().map(ToString::to_string),
            secret_version: entry.version.as_ref().map(ToString::to_string),
        }
    }
}

impl Policy {
    /// Returns the entries of `[secrets]` in file order.
    pub fn entries(&self) -> Vec<EntryInfo> {
        self.rules.iter().map(|(_, entry)| EntryInfo::from(entry)).collect()
    }
}
