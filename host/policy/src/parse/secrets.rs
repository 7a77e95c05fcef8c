//! The table `[secrets]`.
//!
//! Somebody may take it for the place where values go, so no string is repeated here except names and what is near to a known word.

use std::collections::BTreeSet;
use std::ops::Range;

use jiff::Timestamp;
use jiff::civil::DateTime;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use toml::value::{Datetime, Offset};

use super::{ENTRIES_MAX, Value, Walk, found, kind, whole};
use crate::Operation;
use crate::problem::{key, nearest};
use crate::rules::{Entry, Pattern, Rules};
use strongroom_core::ids::{NAME_MAX, SecretName, SecretVersion};

const FIELDS: [&str; 5] = ["allow", "max-uses", "expires", "stored-as", "secret-version"];
const OPERATIONS: [&str; 5] = ["get", "set", "list", "describe", "delete"];
const ALLOW_FORM: &str = "a list of operations, such as [\"get\"] (get, set, list, describe, delete)";

impl Walk<'_> {
    pub(super) fn secrets(&mut self, value: &Value<'_>) -> Rules {
        let mut rules = Rules::default();
        let Some(table) = self.table(value, "secrets") else { return rules };
        if table.len() > ENTRIES_MAX {
            let message = format!("expected at most {ENTRIES_MAX} entries, found {}", table.len());
            self.problem(&value.span(), "secrets", message);
            return rules;
        }
        // The tree is sorted by key; of two entries for one name the later one is the one to point at.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let Some(entry) = self.entry(name, value) else { continue };
            if let Err(first) = rules.add(entry) {
                let message = format!(
                    "line {} has an entry for the same name (upper and lower case are the same); keep one",
                    first.line
                );
                self.problem(&name.span(), field(name, ""), message);
            }
        }
        self.second_ways(&rules);
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
            place: self.place(&name.span()),
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
            let at = field(name, inner.get_ref());
            match inner.get_ref().as_ref() {
                "allow" => entry.allow = self.allow(&at, value),
                "max-uses" => entry.max_uses = self.max_uses(&at, value),
                "expires" => entry.expires = self.expires(&at, value),
                "stored-as" | "secret-version" if !exact => {
                    let message = "only for an entry of one name: an entry with `*` stands for many";
                    self.problem(&inner.span(), at, message);
                }
                "stored-as" => {
                    entry.stored_as = self.parsed(&at, value, SecretName::parse, "the name of a secret in the vault")
                }
                "secret-version" => {
                    entry.version = self.parsed(&at, value, SecretVersion::parse, "a version of the secret");
                    pinned = Some(value.span());
                }
                other => self.unknown(&inner.span(), &field(name, ""), other, &FIELDS),
            }
        }
        if let Some(span) = pinned
            && (entry.allow.contains(&Operation::Set) || entry.allow.contains(&Operation::Delete))
        {
            let message =
                "contradicts `allow`: one version can be read, not set or deleted; remove the one or the other";
            self.problem(&span, field(name, "secret-version"), message);
        }
    }

    fn allow(&mut self, at: &str, value: &Value<'_>) -> BTreeSet<Operation> {
        let mut allow = BTreeSet::new();
        let DeValue::Array(array) = value.get_ref() else {
            self.problem(&value.span(), at, format!("expected {ALLOW_FORM}, found {}", kind(value.get_ref())));
            return allow;
        };
        // Of more items than there are operations, one of the first is wrong already; a list of a million gets no million messages.
        for item in array.iter().take(OPERATIONS.len() + 1) {
            let DeValue::String(text) = item.get_ref() else {
                self.problem(&item.span(), at, format!("expected {ALLOW_FORM}, found {} in it", kind(item.get_ref())));
                continue;
            };
            match Operation::parse(text) {
                Some(operation) if !allow.insert(operation) => {
                    self.problem(&item.span(), at, format!("`{operation}` is written twice; keep one"));
                }
                Some(_) => {}
                None => {
                    let meant = meant(text).map(|meant| format!("; did you mean \"{meant}\"?")).unwrap_or_default();
                    self.problem(&item.span(), at, format!("unknown operation: expected {ALLOW_FORM}{meant}"));
                }
            }
        }
        allow
    }

    fn max_uses(&mut self, at: &str, value: &Value<'_>) -> Option<u64> {
        let number = if let DeValue::Integer(number) = value.get_ref() { whole(number) } else { None };
        match number {
            Some(0) => {
                let message = "expected a whole number of at least 1, found 0; use an empty `allow` list to deny";
                self.problem(&value.span(), at, message);
                None
            }
            Some(number) => Some(number),
            None => {
                let message = format!("expected a whole number of at least 1, found {}", found(value.get_ref()));
                self.problem(&value.span(), at, message);
                None
            }
        }
    }

    fn expires(&mut self, at: &str, value: &Value<'_>) -> Option<Timestamp> {
        let form = "a date and time with its offset, such as 2030-12-01T00:00:00Z";
        let problem = match value.get_ref() {
            DeValue::Datetime(written) => match timestamp(written) {
                Some(timestamp) => return Some(timestamp),
                None if written.date.is_some() && written.time.is_some() && written.offset.is_none() => {
                    format!(
                        "expected {form}; this one has no offset, so nobody knows when it is: append Z for UTC, or +01:00"
                    )
                }
                None => format!("expected {form}, found {written}"),
            },
            DeValue::String(_) => format!("expected {form}, without quotes, found a string"),
            other => format!("expected {form}, found {}", kind(other)),
        };
        self.problem(&value.span(), at, problem);
        None
    }

    fn parsed<T, E: std::fmt::Display>(
        &mut self,
        at: &str,
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
        self.problem(&value.span(), at, problem);
        None
    }

    /// Refuses two ways to one stored secret. See [`Rules::other_way`].
    fn second_ways(&mut self, rules: &Rules) {
        for (_, entry) in rules.iter() {
            let (Pattern::Exact(name), Some(stored)) = (&entry.pattern, &entry.stored_as) else { continue };
            let Some(other) = rules.other_way(name, entry) else { continue };
            let advice = if other.stored_as.as_ref() == Some(stored) {
                "keep one".to_owned()
            } else {
                format!("write `{stored} = []` if it is not to be asked for by its own name")
            };
            let message = format!(
                "`{stored}` can also be reached through {} (line {}): two ways to one secret would have two budgets; {advice}",
                other.rule(),
                other.place.line
            );
            self.problems.push(crate::problem::Problem {
                place: Some(entry.place),
                field: format!("{}.stored-as", entry.rule()),
                message,
            });
        }
    }
}

/// The path of an entry's field; of the entry itself where `inner` is empty.
fn field(name: &Spanned<DeString<'_>>, inner: &str) -> String {
    let entry = format!("secrets.{}", key(name.get_ref()));
    if inner.is_empty() { entry } else { format!("{entry}.{}", key(inner)) }
}

fn pattern(text: &str) -> Result<Pattern, &'static str> {
    if !text.contains('*') {
        return SecretName::parse(text).map(Pattern::Exact).map_err(
            |_| "expected 1 to 127 characters of 0-9, a-z, A-Z and `-`, or such a beginning and a trailing `*`",
        );
    }
    match text.strip_suffix('*') {
        Some("") => Err("`*` alone would match every name; write at least one character before it"),
        Some(prefix) if prefix.contains('*') => Err("a `*` stands once, at the end"),
        // The `*` stands for at least one character.
        Some(prefix) if prefix.len() >= NAME_MAX => {
            Err("too long: no name of at most 127 characters begins so and goes on")
        }
        Some(prefix) => SecretName::parse(prefix)
            .map(|prefix| Pattern::Prefix(prefix.into()))
            .map_err(|_| "expected characters of 0-9, a-z, A-Z and `-` before the `*`"),
        None => Err("a `*` stands only at the end"),
    }
}

/// The operation that somebody may have meant. What is near to none is not repeated: it may be a value in the wrong place.
fn meant(text: &str) -> Option<&'static str> {
    match text.to_lowercase().as_str() {
        "read" | "fetch" | "reveal" => Some("get"),
        "write" | "put" | "create" | "update" => Some("set"),
        "remove" => Some("delete"),
        other => nearest(other, &OPERATIONS),
    }
}

/// A moment; none for local dates and times, and for dates that do not exist.
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
        // A leap second is the second before it: earlier, so never wider.
        i8::try_from(time.second.unwrap_or(0).min(59)).ok()?,
        i32::try_from(time.nanosecond.unwrap_or(0)).ok()?,
    )
    .ok()?;
    jiff::tz::Offset::from_seconds(minutes.checked_mul(60)?).ok()?.to_timestamp(civil).ok()
}
