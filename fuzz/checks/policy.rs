//! Parsing a policy does not panic, and its decisions agree with an independent reader of the same
//! TOML.

use jiff::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::host::ids::SecretName;
use super::host::policy::{Decisions, Operation, Policy};

/// The operations that a name's entry allows, and whether the entry also has an expiry or a number
/// of uses.
#[derive(Default)]
struct Model {
    allow: BTreeSet<String>,
    restricted: bool,
}

/// Reads the entry of the exact name, or else the one with the longest prefix, by trying all
/// entries.
fn model(secrets: &toml::Table, name: &str) -> Model {
    let mut best: Option<(usize, &toml::Value)> = None;
    for (key, value) in secrets {
        let key = key.to_ascii_lowercase();
        let rank = match key.strip_suffix('*') {
            None if key == name => usize::MAX,
            Some(prefix) if name.len() > prefix.len() && name.starts_with(prefix) => prefix.len(),
            _ => continue,
        };
        if best.is_none_or(|(other, _)| rank > other) {
            best = Some((rank, value));
        }
    }
    let texts = |value: &toml::Value| -> BTreeSet<String> {
        value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    match best {
        None => Model::default(),
        Some((_, toml::Value::Table(table))) => Model {
            allow: table.get("allow").map(texts).unwrap_or_default(),
            restricted: table.contains_key("expires") || table.contains_key("max-uses"),
        },
        Some((_, value)) => Model { allow: texts(value), restricted: false },
    }
}

/// Checks one input.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let policy = match Policy::parse(text, "policy.toml") {
        Ok(policy) => policy,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let table: toml::Table = text.parse().expect("a parsed policy is TOML");
    let empty = toml::Table::new();
    let secrets = table.get("secrets").and_then(toml::Value::as_table).unwrap_or(&empty);
    // For each key the key itself, longer, shorter and upper-case names; and some unrelated ones.
    let mut names: BTreeSet<String> = ["a", "db-password", "zzz"].map(str::to_owned).into();
    for key in secrets.keys().take(40) {
        let stem = key.trim_end_matches('*');
        names.extend([stem.to_owned(), format!("{stem}x"), format!("{stem}-1"), stem.to_ascii_uppercase()]);
        names.extend(stem.char_indices().next_back().map(|(at, _)| stem[..at].to_owned()));
    }
    let policy = Arc::new(policy);
    let now = Timestamp::UNIX_EPOCH;
    for name in names.iter().filter_map(|name| SecretName::parse(name).ok()) {
        let model = model(secrets, name.as_str());
        for operation in Operation::ALL {
            let explained = policy.explain(operation, &name, now);
            let decided = Decisions::new(Arc::clone(&policy)).decide(operation, &name, now);
            assert_eq!(explained.allowed(), decided.is_ok(), "`explain` and `decide` differ: {operation} {name}");
            let expected = model.allow.contains(operation.as_str());
            // A restricted entry may be refused here, because of its expiry or uses, but never
            // allows more than it lists.
            let agrees =
                if model.restricted { expected || !explained.allowed() } else { expected == explained.allowed() };
            assert!(agrees, "{operation} {name}: expected {expected}\n{explained}");
            assert_eq!(explained.would_allow.is_some(), !explained.allowed());
        }
    }
}
