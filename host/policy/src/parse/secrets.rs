//! Parses the table `[secrets]`.
//!
//! Authors may put secret values here by mistake. Messages therefore repeat no string except names
//! and close misspellings of known words.

use std::collections::BTreeSet;
use std::ops::Range;

use jiff::Timestamp;
use jiff::civil::DateTime;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use toml::value::{Datetime, Offset};

use super::{ENTRIES_MAX, Parser, Value, found, kind, whole};
use crate::Operation;
use crate::problem::{key, nearest};
use crate::rules::{Entry, Pattern, Rules};
use strongroom_core::ids::{NAME_MAX, SecretName, SecretVersion};

const FIELDS: [&str; 5] = ["allow", "max-uses", "expires", "stored-as", "secret-version"];
const OPERATIONS: [&str; 5] = ["get", "set", "list", "describe", "delete"];
const ALLOW_FORM: &str = "a list of operations, such as [\"get\"] (get, set, list, describe, delete)";

impl Parser<'_> {
    pub(super) fn secrets(&mut self, value: &Value<'_>) -> Rules {
        let mut rules = Rules::default();
        let Some(table) = self.table(value, "secrets") else { return rules };
        if table.len() > ENTRIES_MAX {
            let message = format!("expected at most {ENTRIES_MAX} entries, found {}", table.len());
            self.problem(&value.span(), "secrets", message);
            return rules;
        }
        // The tree is sorted by key. File order makes the later of two entries for one name the one
        // that is reported.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let Some(entry) = self.entry(name, value) else { continue };
            if let Err(first) = rules.add(entry) {
                let message = format!(
                    "line {} already has an entry for this name (names are case-insensitive); keep one",
                    first.line
                );
                self.problem(&name.span(), field(name, ""), message);
            }
        }
        self.check_conflicts(&rules);
        rules
    }

    fn entry(&mut self, name: &Spanned<DeString<'_>>, value: &Value<'_>) -> Option<Entry> {
        let pattern = match pattern(name.get_ref()) {
            Ok(pattern) => Some(pattern),
            Err(message) => {
                self.problem(&name.span(), field(name, ""), message);
                None
            }
        };
        let mut entry = Entry {
            pattern: pattern?,
            allow: BTreeSet::new(),
            max_uses: None,
            expires: None,
            stored_as: None,
            version: None,
            location: self.location(&name.span()),
        };
        let before = self.problems.len();
        match value.get_ref() {
            DeValue::Array(_) => entry.allow = self.allow(&field(name, ""), value),
            DeValue::Table(table) => self.fields(name, table, &mut entry),
            other => {
                let message = format!(
                    "expected {ALLOW_FORM}, or {{ allow = [...], ... }}, found {}; a policy holds no values",
                    kind(other)
                );
                self.problem(&value.span(), field(name, ""), message);
            }
        }
        (self.problems.len() == before).then_some(entry)
    }

    fn fields(&mut self, name: &Spanned<DeString<'_>>, table: &DeTable<'_>, entry: &mut Entry) {
        if !table.contains_key("allow") {
            self.problem(&name.span(), field(name, "allow"), format!("missing: expected {ALLOW_FORM}"));
        }
        let exact = matches!(entry.pattern, Pattern::Exact(_));
        let mut pinned: Option<Range<usize>> = None;
        for (inner, value) in table {
            let path = field(name, inner.get_ref());
            match inner.get_ref().as_ref() {
                "allow" => entry.allow = self.allow(&path, value),
                "max-uses" => entry.max_uses = self.max_uses(&path, value),
                "expires" => entry.expires = self.expires(&path, value),
                "stored-as" | "secret-version" if !exact => {
                    let message = "not allowed for a prefix: an entry with `*` matches many names";
                    self.problem(&inner.span(), path, message);
                }
                "stored-as" => {
                    entry.stored_as = self.parsed(&path, value, SecretName::parse, "the name of a secret in the vault")
                }
                "secret-version" => {
                    entry.version = self.parsed(&path, value, SecretVersion::parse, "a version of the secret");
                    pinned = Some(value.span());
                }
                other => self.unknown(&inner.span(), &field(name, ""), other, &FIELDS),
            }
        }
        if let Some(span) = pinned
            && (entry.allow.contains(&Operation::Set) || entry.allow.contains(&Operation::Delete))
        {
            let message =
                "conflicts with `allow`: a pinned version can be read, but not set or deleted; remove one of them";
            self.problem(&span, field(name, "secret-version"), message);
        }
    }

    fn allow(&mut self, path: &str, value: &Value<'_>) -> BTreeSet<Operation> {
        let mut allow = BTreeSet::new();
        let DeValue::Array(array) = value.get_ref() else {
            self.problem(&value.span(), path, format!("expected {ALLOW_FORM}, found {}", kind(value.get_ref())));
            return allow;
        };
        // A list longer than the number of operations must contain an error in its first items, so
        // the rest is skipped: a list of a million items must not produce a million messages.
        for item in array.iter().take(OPERATIONS.len() + 1) {
            let DeValue::String(text) = item.get_ref() else {
                self.problem(
                    &item.span(),
                    path,
                    format!("expected {ALLOW_FORM}, found {} in it", kind(item.get_ref())),
                );
                continue;
            };
            match Operation::parse(text) {
                Some(operation) if !allow.insert(operation) => {
                    self.problem(&item.span(), path, format!("`{operation}` is listed twice; keep one"));
                }
                Some(_) => {}
                None => {
                    let meant = meant(text).map(|meant| format!("; did you mean \"{meant}\"?")).unwrap_or_default();
                    self.problem(&item.span(), path, format!("unknown operation: expected {ALLOW_FORM}{meant}"));
                }
            }
        }
        allow
    }

    fn max_uses(&mut self, path: &str, value: &Value<'_>) -> Option<u64> {
        let number = if let DeValue::Integer(number) = value.get_ref() { whole(number) } else { None };
        match number {
            Some(0) => {
                let message = "expected a whole number of at least 1, found 0; use an empty `allow` list to deny";
                self.problem(&value.span(), path, message);
                None
            }
            Some(number) => Some(number),
            None => {
                let message = format!("expected a whole number of at least 1, found {}", found(value.get_ref()));
                self.problem(&value.span(), path, message);
                None
            }
        }
    }

    fn expires(&mut self, path: &str, value: &Value<'_>) -> Option<Timestamp> {
        let form = "a date and time with its offset, such as 2030-12-01T00:00:00Z";
        let problem = match value.get_ref() {
            DeValue::Datetime(written) => match timestamp(written) {
                Some(timestamp) => return Some(timestamp),
                None if written.date.is_some() && written.time.is_some() && written.offset.is_none() => {
                    format!("expected {form}, found no offset; append Z for UTC, or an offset such as +01:00")
                }
                None => format!("expected {form}, found {written}"),
            },
            DeValue::String(_) => format!("expected {form}, without quotes, found a string"),
            other => format!("expected {form}, found {}", kind(other)),
        };
        self.problem(&value.span(), path, problem);
        None
    }

    fn parsed<T, E: std::fmt::Display>(
        &mut self,
        path: &str,
        value: &Value<'_>,
        parse: impl Fn(&str) -> Result<T, E>,
        what: &str,
    ) -> Option<T> {
        let problem = match value.get_ref() {
            DeValue::String(text) => match parse(text) {
                Ok(parsed) => return Some(parsed),
                Err(error) => format!("expected {what}: {error}"),
            },
            other => format!("expected {what} in quotes, found {}", kind(other)),
        };
        self.problem(&value.span(), path, problem);
        None
    }

    /// Reports entries that grant a stored secret that another entry also grants. See
    /// [`Rules::conflicting_entry`].
    fn check_conflicts(&mut self, rules: &Rules) {
        for (_, entry) in rules.iter() {
            let (Pattern::Exact(name), Some(stored)) = (&entry.pattern, &entry.stored_as) else { continue };
            let Some(other) = rules.conflicting_entry(name, entry) else { continue };
            let advice = if other.stored_as.as_ref() == Some(stored) {
                "keep one".to_owned()
            } else {
                format!("write `{stored} = []` to deny requests by that name")
            };
            let message = format!(
                "`{stored}` is also granted by {} (line {}), and two entries for one secret would have two budgets; {advice}",
                other.rule(),
                other.location.line
            );
            self.problems.push(crate::problem::Problem {
                location: Some(entry.location),
                field: format!("{}.stored-as", entry.rule()),
                message,
            });
        }
    }
}

/// Returns the path of an entry's field, or of the entry if `inner` is empty.
fn field(name: &Spanned<DeString<'_>>, inner: &str) -> String {
    let entry = format!("secrets.{}", key(name.get_ref()));
    if inner.is_empty() { entry } else { format!("{entry}.{}", key(inner)) }
}

fn pattern(text: &str) -> Result<Pattern, &'static str> {
    if !text.contains('*') {
        return SecretName::parse(text)
            .map(Pattern::Exact)
            .map_err(|_| "expected 1 to 127 characters of 0-9, a-z, A-Z and `-`, or such a prefix and a trailing `*`");
    }
    match text.strip_suffix('*') {
        Some("") => Err("`*` alone would match every name; write at least one character before it"),
        Some(prefix) if prefix.contains('*') => Err("only one `*` is allowed, at the end"),
        // The `*` matches at least one character.
        Some(prefix) if prefix.len() >= NAME_MAX => Err("too long: a prefix has at most 126 characters"),
        Some(prefix) => SecretName::parse(prefix)
            .map(|prefix| Pattern::Prefix(prefix.into()))
            .map_err(|_| "expected characters of 0-9, a-z, A-Z and `-` before the `*`"),
        None => Err("`*` is allowed only at the end"),
    }
}

/// Returns the operation that was probably meant. Other text is never repeated, because it may be a
/// misplaced secret.
fn meant(text: &str) -> Option<&'static str> {
    match text.to_lowercase().as_str() {
        "read" | "fetch" | "reveal" => Some("get"),
        "write" | "put" | "create" | "update" => Some("set"),
        "remove" => Some("delete"),
        other => nearest(other, &OPERATIONS),
    }
}

/// Converts a TOML date and time; `None` for a local date or time and for a date that does not
/// exist.
fn timestamp(written: &Datetime) -> Option<Timestamp> {
    let (date, time, offset) = (written.date?, written.time?, written.offset?);
    let minutes = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i32::from(minutes),
    };
    let civil = DateTime::new(
        i16::try_from(date.year).ok()?,
        i8::try_from(date.month).ok()?,
        i8::try_from(date.day).ok()?,
        i8::try_from(time.hour).ok()?,
        i8::try_from(time.minute).ok()?,
        // A leap second counts as the second before it, so that an entry never expires later than
        // written.
        i8::try_from(time.second.unwrap_or(0).min(59)).ok()?,
        i32::try_from(time.nanosecond.unwrap_or(0)).ok()?,
    )
    .ok()?;
    jiff::tz::Offset::from_seconds(minutes.checked_mul(60)?).ok()?.to_timestamp(civil).ok()
}
