//! The contents of a suggested policy: what it grants and what it shows in comments.

use std::collections::{BTreeMap, BTreeSet};

use super::{ObservedRun, SuggestError};
use crate::problem::Location;
use crate::rules::{Entry, Pattern, Rules};
use crate::{ENTRIES_MAX, Operation, Policy, TARGETS_MAX, TcpTarget};
use strongroom_core::ids::SecretName;

/// The requests for one operation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) served: u64,
    pub(super) denied: u64,
}

/// The contents of a suggestion.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Entries that are granted, or kept as denials under a granted prefix, with their uses; by key
    /// in TOML notation.
    pub(super) entries: BTreeMap<String, (Entry, u64)>,
    /// Entries that would allow denied requests, each with a note. They replace an entry above with
    /// the same key.
    pub(super) denied: Vec<(Entry, String)>,
    /// Lists that were denied, or served by unknown entries.
    pub(super) lists: Counts,
    /// The number of requests with invalid secret names.
    pub(super) invalid_names: u64,
    /// Entries of the run's policy that the suggestion does not contain unchanged.
    pub(super) unused: Vec<String>,
    pub(super) tcp: BTreeSet<TcpTarget>,
    pub(super) tcp_denied: BTreeMap<TcpTarget, u64>,
    /// Names whose lookup was denied, with counts.
    pub(super) names_denied: BTreeMap<String, u64>,
    pub(super) tcp_unused: Vec<TcpTarget>,
}

impl Plan {
    pub(super) fn of(observed: &ObservedRun, policy: Option<&Policy>) -> Result<Self, SuggestError> {
        let mut plan = Self::default();
        let mut asked: BTreeMap<SecretName, BTreeMap<Operation, Counts>> = BTreeMap::new();
        for request in &observed.secrets {
            let operation = Operation::parse(&request.operation);
            let counts = match (SecretName::parse(&request.name), operation) {
                (Ok(name), Some(operation)) if operation != Operation::List => {
                    asked.entry(name).or_default().entry(operation).or_default()
                }
                (Err(_), Some(Operation::List)) if request.name == "*" => &mut plan.lists,
                _ => {
                    plan.invalid_names =
                        plan.invalid_names.saturating_add(request.denied).saturating_add(request.served);
                    continue;
                }
            };
            counts.served = counts.served.saturating_add(request.served);
            counts.denied = counts.denied.saturating_add(request.denied);
        }
        let rules = policy.map(|policy| &*policy.rules);
        for (name, operations) in &asked {
            plan.add_name(name, operations, rules);
        }
        if let Some(rules) = rules {
            plan.add_lists(rules);
            let lines: BTreeSet<String> = plan.entries.values().map(|(entry, _)| entry.line()).collect();
            let given = rules.iter().filter(|(_, entry)| !entry.allow.is_empty()).map(|(_, entry)| entry.line());
            plan.unused = given.filter(|line| !lines.contains(line)).collect();
        }
        plan.add_destinations(observed, policy);
        if plan.entries.len() > ENTRIES_MAX || plan.tcp.len() > TARGETS_MAX {
            return Err(SuggestError::TooLarge);
        }
        Ok(plan)
    }

    fn add_name(&mut self, name: &SecretName, operations: &BTreeMap<Operation, Counts>, rules: Option<&Rules>) {
        let deciding = rules.and_then(|rules| rules.deciding_entry(name)).map(|(_, entry)| entry);
        let explained =
            |operation: &Operation| rules.is_none() || deciding.is_some_and(|entry| entry.allow.contains(operation));
        let served: BTreeSet<Operation> =
            operations.iter().filter(|(op, counts)| counts.served > 0 && explained(op)).map(|(op, _)| *op).collect();
        let uses = operations.values().fold(0u64, |sum, counts| sum.saturating_add(counts.served));
        let mut entry = narrowed(name, deciding, uses.saturating_add(self.lists.served));
        entry.allow = served;
        if deciding.is_some_and(|entry| entry.allow.contains(&Operation::List))
            && self.lists.served > 0
            && !entry.allow.is_empty()
        {
            entry.allow.insert(Operation::List);
        }
        let asked: Vec<(&Operation, &Counts)> =
            operations.iter().filter(|(op, counts)| counts.denied > 0 || !explained(op)).collect();
        if !asked.is_empty() {
            let mut wanted = entry.clone();
            let mut notes = Vec::new();
            for (operation, counts) in asked {
                wanted.allow.insert(*operation);
                if matches!(operation, Operation::Set | Operation::Delete) {
                    wanted.version = None;
                }
                if counts.served > 0 {
                    wanted.max_uses = wanted.max_uses.map(|max| max.saturating_add(counts.denied));
                }
                notes.push(match (explained(operation), counts.served > 0) {
                    (false, true) => {
                        format!("{operation}: served according to the record, but the run's policy does not grant it")
                    }
                    (true, true) => {
                        format!("{operation} denied {} when the grant was exhausted or expired", times(counts.denied))
                    }
                    _ => format!("{operation} denied {}", times(counts.denied)),
                });
            }
            self.denied.push((wanted, notes.join("; ")));
        }
        if !entry.allow.is_empty() {
            self.entries.insert(entry.pattern.key(), (entry, uses));
        }
    }

    /// Keeps the entries that grant the list, and the entries under their prefixes that do not.
    fn add_lists(&mut self, rules: &Rules) {
        if self.lists.served == 0 {
            return;
        }
        let listing = |entry: &Entry| entry.allow.contains(&Operation::List);
        let mut prefixes: Vec<&str> = Vec::new();
        for (_, entry) in rules.iter().filter(|(_, entry)| listing(entry)) {
            match &entry.pattern {
                Pattern::Exact(name) => {
                    let own =
                        self.entries.entry(entry.pattern.key()).or_insert_with(|| (narrowed(name, Some(entry), 0), 0));
                    own.0.allow.insert(Operation::List);
                }
                Pattern::Prefix(prefix) => {
                    prefixes.push(prefix);
                    let max_uses = entry.max_uses.map(|max| max.min(self.lists.served));
                    let kept = Entry { allow: BTreeSet::from([Operation::List]), max_uses, ..entry.clone() };
                    self.entries.insert(entry.pattern.key(), (kept, 0));
                }
            }
        }
        for (_, entry) in rules.iter().filter(|(_, entry)| !listing(entry)) {
            let text = match &entry.pattern {
                Pattern::Exact(name) => name.as_str(),
                Pattern::Prefix(prefix) => prefix,
            };
            if prefixes.iter().any(|prefix| text.len() > prefix.len() && text.starts_with(prefix)) {
                let denial = Entry {
                    allow: BTreeSet::new(),
                    max_uses: None,
                    expires: None,
                    stored_as: None,
                    version: None,
                    ..entry.clone()
                };
                self.entries.entry(entry.pattern.key()).or_insert((denial, 0));
            }
        }
        // The entries that served the lists are known now.
        self.lists.served = 0;
    }

    fn add_destinations(&mut self, observed: &ObservedRun, policy: Option<&Policy>) {
        for attempt in &observed.tcp {
            if let Some(name) = attempt.entry.strip_suffix(":PORT") {
                if attempt.denied > 0 && TcpTarget::parse(&format!("{name}:1")).is_ok() {
                    let count = self.names_denied.entry(name.to_ascii_lowercase()).or_default();
                    *count = count.saturating_add(attempt.denied);
                }
                continue;
            }
            let Ok(target) = TcpTarget::parse(&attempt.entry) else { continue };
            let explained = policy.is_none_or(|policy| policy.tcp().contains(&target));
            if attempt.allowed > 0 && explained {
                self.tcp.insert(target);
            } else {
                let count = self.tcp_denied.entry(target).or_default();
                *count = count.saturating_add(attempt.denied);
            }
        }
        self.tcp_denied.retain(|target, _| !self.tcp.contains(target));
        if let Some(policy) = policy {
            self.tcp_unused = policy.tcp().iter().filter(|target| !self.tcp.contains(target)).cloned().collect();
        }
    }
}

/// Returns an entry for one name, without operations, that keeps the refinements of the deciding
/// entry. `uses` bounds the budget of a name that shared the budget of a prefix.
fn narrowed(name: &SecretName, deciding: Option<&Entry>, uses: u64) -> Entry {
    let pattern = Pattern::Exact(name.clone());
    let location = Location { line: 0, column: 0 };
    match deciding {
        Some(entry) if entry.pattern == pattern => Entry { allow: BTreeSet::new(), ..entry.clone() },
        other => Entry {
            pattern,
            allow: BTreeSet::new(),
            max_uses: other.and_then(|entry| entry.max_uses).map(|max| max.min(uses.max(1))),
            expires: other.and_then(|entry| entry.expires),
            stored_as: None,
            version: None,
            location,
        },
    }
}

pub(super) fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        _ => format!("{count} times"),
    }
}
