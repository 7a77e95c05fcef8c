//! Decides requests and counts the budgets of one run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::explain::{amended, would_allow};
use super::rules::{Entry, EntryId, Pattern, Rules};
use super::{Grant, ListGrant, Operation, Policy};
use strongroom_core::ids::SecretName;

/// The maximum number of entries that the rule of a [`ListGrant`] names; it counts the rest.
const RULES_SHOWN: usize = 8;

/// Decides the requests of one run. This is the only place that counts budgets; runs that share a
/// value share its budgets.
#[derive(Debug)]
pub struct Decisions {
    policy: Arc<Policy>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    used: HashMap<EntryId, u64>,
    /// The latest time seen, so that a clock that is set back does not reactivate an expired entry.
    latest: Timestamp,
}

/// The reason for a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// No entry matches, or the deciding entry does not list the operation.
    Denied,
    /// The entry's `max-uses` are consumed; for a batch, too few are left.
    Exhausted,
    /// The entry's `expires` has passed.
    Expired,
}

impl RefusalReason {
    /// Returns the reason's name in the audit log and the run record.
    pub fn as_str(self) -> &'static str {
        match self {
            RefusalReason::Denied => "denied",
            RefusalReason::Exhausted => "exhausted",
            RefusalReason::Expired => "expired",
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refused request. This is for the operator: the component learns the reason and the name, but
/// no policy lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: `{operation}`{}", .name.as_ref().map(|name| format!(" of `{name}`")).unwrap_or_default())]
#[non_exhaustive]
pub struct Refusal {
    /// The requested name; of a batch, the first refused name; `None` for a list.
    pub name: Option<SecretName>,
    /// The requested operation.
    pub operation: Operation,
    /// The reason.
    pub reason: RefusalReason,
    /// The deciding entry, such as `secrets."db-*"`; `None` if no entry matches.
    pub rule: Option<String>,
    /// The line of `[secrets]` that would allow the request. It replaces an entry with the same
    /// key.
    pub would_allow: String,
}

/// The decision about one request, before any use is consumed.
type Decision<'p> = Result<(EntryId, &'p Entry), (RefusalReason, Option<&'p Entry>)>;

pub(crate) fn evaluate<'p>(
    rules: &'p Rules,
    operation: Operation,
    name: &SecretName,
    now: Timestamp,
    used: impl Fn(EntryId) -> u64,
) -> Decision<'p> {
    let (id, entry) = rules.deciding_entry(name).ok_or((RefusalReason::Denied, None))?;
    if !entry.allow.contains(&operation) {
        return Err((RefusalReason::Denied, Some(entry)));
    }
    check_validity(entry, now, used(id)).map_err(|reason| (reason, Some(entry)))?;
    Ok((id, entry))
}

/// Checks the expiry and the remaining uses of an entry.
fn check_validity(entry: &Entry, now: Timestamp, used: u64) -> Result<(), RefusalReason> {
    if entry.expires.is_some_and(|expires| now >= expires) {
        return Err(RefusalReason::Expired);
    }
    if entry.max_uses.is_some_and(|max_uses| used >= max_uses) {
        return Err(RefusalReason::Exhausted);
    }
    Ok(())
}

impl State {
    fn advance_clock(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        self.latest
    }

    fn used(&self, id: EntryId) -> u64 {
        self.used.get(&id).copied().unwrap_or(0)
    }

    fn consume(&mut self, id: EntryId, uses: u64) {
        let used = self.used.entry(id).or_default();
        *used = used.saturating_add(uses);
    }
}

impl Decisions {
    /// Creates the decisions of a new run.
    pub fn new(policy: Arc<Policy>) -> Self {
        Self { policy, state: Mutex::new(State { used: HashMap::new(), latest: Timestamp::MIN }) }
    }

    /// Returns the policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Decides one request and consumes one use of the entry that allows it.
    ///
    /// # Errors
    /// Returns [`Refusal`] if the request is not allowed; no use is consumed.
    pub fn decide(&self, operation: Operation, name: &SecretName, now: Timestamp) -> Result<Grant, Refusal> {
        let mut state = self.lock();
        let now = state.advance_clock(now);
        let rules = &self.policy.rules;
        let (id, entry) = evaluate(rules, operation, name, now, |id| state.used(id))
            .map_err(|(reason, entry)| refusal(rules, operation, name, now, reason, entry, |id| state.used(id) + 1))?;
        state.consume(id, 1);
        Ok(grant(operation, name, entry, rules.name(id)))
    }

    /// Returns whether the policy contains this name in full, as the key of an entry or in
    /// `stored-as`. The name must be in lower case.
    pub fn contains_name(&self, name: &str) -> bool {
        self.policy.rules.contains_name(name)
    }

    /// Decides a batch as a whole: every name consumes one use of its entry, or no use is consumed.
    ///
    /// # Errors
    /// Returns [`Refusal`] for the first refused name.
    pub fn decide_all(
        &self,
        operation: Operation,
        names: &[SecretName],
        now: Timestamp,
    ) -> Result<Vec<Grant>, Refusal> {
        if let [name] = names {
            return self.decide(operation, name, now).map(|grant| vec![grant]);
        }
        let mut state = self.lock();
        let now = state.advance_clock(now);
        let rules = &self.policy.rules;
        let mut consumed: HashMap<EntryId, u64> = HashMap::new();
        let mut grants = Vec::with_capacity(names.len());
        for name in names {
            let used = |id: EntryId| state.used(id).saturating_add(consumed.get(&id).copied().unwrap_or(0));
            match evaluate(rules, operation, name, now, used) {
                Ok((id, entry)) => {
                    *consumed.entry(id).or_default() += 1;
                    grants.push(grant(operation, name, entry, rules.name(id)));
                }
                Err((reason, entry)) => {
                    let needed = |id: EntryId| {
                        let of_entry =
                            |name: &&SecretName| rules.deciding_entry(name).is_some_and(|(other, _)| other == id);
                        state.used(id).saturating_add(names.iter().filter(of_entry).count() as u64)
                    };
                    return Err(refusal(rules, operation, name, now, reason, entry, needed));
                }
            }
        }
        for (id, uses) in consumed {
            state.consume(id, uses);
        }
        Ok(grants)
    }

    /// Decides a list and consumes one use of every entry that grants `list`. Exhausted and expired
    /// entries contribute nothing.
    ///
    /// # Errors
    /// Returns [`Refusal`] if no entry allows `list`, or if all that do are exhausted or expired;
    /// no use is consumed.
    pub fn decide_list(&self, now: Timestamp) -> Result<ListGrant, Refusal> {
        let mut state = self.lock();
        let now = state.advance_clock(now);
        let rules = &self.policy.rules;
        let mut exact = BTreeMap::new();
        let mut prefixes = BTreeSet::new();
        let mut granting = Vec::new();
        let mut refused: Option<(RefusalReason, EntryId, &Entry)> = None;
        for (id, entry) in rules.iter().filter(|(_, entry)| entry.allow.contains(&Operation::List)) {
            match check_validity(entry, now, state.used(id)) {
                Err(RefusalReason::Expired) if refused.is_some() => {}
                // `Exhausted` takes precedence, because the run itself caused it.
                Err(reason) => refused = refused.filter(|(first, ..)| *first == reason).or(Some((reason, id, entry))),
                Ok(()) => {
                    granting.push((id, entry));
                    match &entry.pattern {
                        Pattern::Exact(name) => {
                            exact.insert(name.clone(), entry.stored(name).clone());
                        }
                        Pattern::Prefix(_) => {
                            prefixes.insert(id);
                        }
                    }
                }
            }
        }
        if granting.is_empty() {
            let would_allow = match refused {
                None => "NAME = [\"list\"]".to_owned(),
                Some((_, id, entry)) => amended(entry, Operation::List, now, state.used(id) + 1).line(),
            };
            return Err(Refusal {
                name: None,
                operation: Operation::List,
                reason: refused.map_or(RefusalReason::Denied, |(reason, ..)| reason),
                rule: refused.map(|(_, _, entry)| entry.rule()),
                would_allow,
            });
        }
        for (id, _) in &granting {
            state.consume(*id, 1);
        }
        let mut rule = granting.iter().take(RULES_SHOWN).map(|(_, entry)| entry.rule()).collect::<Vec<_>>().join(", ");
        if let Some(more) = granting.len().checked_sub(RULES_SHOWN).filter(|more| *more > 0) {
            rule.push_str(&format!(" and {more} more"));
        }
        Ok(ListGrant::new(exact, Arc::clone(rules), prefixes, rule))
    }

    /// Ignores poisoning: no code that holds the lock can leave the counts inconsistent.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn grant(operation: Operation, name: &SecretName, entry: &Entry, rule: Arc<str>) -> Grant {
    Grant::new(operation, name.clone(), entry.stored(name).clone(), entry.version.clone(), rule)
}

pub(crate) fn refusal(
    rules: &Rules,
    operation: Operation,
    name: &SecretName,
    now: Timestamp,
    reason: RefusalReason,
    entry: Option<&Entry>,
    needed: impl Fn(EntryId) -> u64,
) -> Refusal {
    let needed = rules.deciding_entry(name).map_or(1, |(id, _)| needed(id));
    Refusal {
        name: Some(name.clone()),
        operation,
        reason,
        rule: entry.map(Entry::rule),
        would_allow: would_allow(rules, operation, name, now, reason, entry, needed),
    }
}
