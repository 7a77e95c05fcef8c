//! The entries of a policy for people and programs that look at it, as plain data.

use jiff::Timestamp;
use serde::Serialize;

use super::rules::{Entry, Pattern};
use super::{Operation, Policy};

/// One entry of `[secrets]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryInfo {
    /// The key, in lower case: a name, or a prefix with its `*`.
    pub key: String,
    /// The line on which it stands.
    pub line: usize,
    /// The operations that it allows; none where it denies.
    pub allow: Vec<&'static str>,
    /// How many uses it has in one run.
    pub max_uses: Option<u64>,
    /// From when on it grants nothing.
    pub expires: Option<Timestamp>,
    /// The name in the vault, where it differs.
    pub stored_as: Option<String>,
    /// The version that is read.
    pub secret_version: Option<String>,
}

impl From<&Entry> for EntryInfo {
    fn from(entry: &Entry) -> Self {
        Self {
            key: match &entry.pattern {
                Pattern::Exact(name) => name.to_string(),
                Pattern::Prefix(prefix) => format!("{prefix}*"),
            },
            line: entry.place.line,
            allow: entry.allow.iter().copied().map(Operation::as_str).collect(),
            max_uses: entry.max_uses,
            expires: entry.expires,
            stored_as: entry.stored_as.as_ref().map(ToString::to_string),
            secret_version: entry.version.as_ref().map(ToString::to_string),
        }
    }
}

impl Policy {
    /// The entries of `[secrets]`, in the order of the file.
    pub fn entries(&self) -> Vec<EntryInfo> {
        self.rules.iter().map(|(_, entry)| EntryInfo::from(entry)).collect()
    }
}
