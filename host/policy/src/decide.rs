//! Decides requests, and keeps the budgets of one run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

use super::problem::Place;
use super::rules::{Entry, EntryId, Pattern, Rules};
use super::{Grant, ListGrant, Operation, Policy};
use strongroom_core::ids::{SecretName, SecretVersion};

/// How many entries the rule of a [`ListGrant`] names before it says how many more there are.
const RULES_SHOWN: usize = 8;

/// The decisions of one run. Budgets are counted here and nowhere else; sharing one value between runs shares their budgets.
#[derive(Debug)]
pub struct Decisions {
    policy: Arc<Policy>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    used: HashMap<EntryId, u64>,
    /// The latest moment seen. A clock that is set back does not bring an expired entry to life again.
    latest: Timestamp,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// No entry matches, or the entry that does lacks the operation.
    Denied,
    /// The entry's `max-uses` are used up; for a batch, too few are left.
    Exhausted,
    /// The entry's `expires` has passed.
    Expired,
}

impl RefusalReason {
    /// The reason as audit and record write it.
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

/// A request was refused. For the operator: a guest learns the reason and the name, not the policy's lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: `{operation}`{}", .name.as_ref().map(|name| format!(" of `{name}`")).unwrap_or_default())]
#[non_exhaustive]
pub struct Refusal {
    /// The name asked for; the first one refused of a batch; none for a list.
    pub name: Option<SecretName>,
    /// What was asked.
    pub operation: Operation,
    /// Why not.
    pub reason: RefusalReason,
    /// The entry that decided, such as `secrets."db-*"`; none where no entry matches.
    pub rule: Option<String>,
    /// The line of `[secrets]` that would allow it, in place of an entry with the same key.
    pub would_allow: String,
}

/// What the policy says about one request at the start of a run, when no budget is used yet. `Display` tells a person.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// What was asked.
    pub operation: Operation,
    /// The name asked about.
    pub name: SecretName,
    /// Why not; none where it is allowed.
    pub reason: Option<RefusalReason>,
    /// The entry that decides, such as `secrets."db-*"`; none where no entry matches.
    pub rule: Option<String>,
    /// The line of the policy on which that entry stands.
    pub line: Option<usize>,
    /// The other entries that match the name, the next most specific first. They do not count.
    pub overruled: Vec<Overruled>,
    /// The name in the vault, where it is allowed.
    pub stored: Option<SecretName>,
    /// The version that the entry pins, where it is allowed.
    pub version: Option<SecretVersion>,
    /// How many uses the entry has for the whole run; none where they are not counted.
    pub max_uses: Option<u64>,
    /// When the entry expires.
    pub expires: Option<Timestamp>,
    /// The line of `[secrets]` that would allow it, where it is refused.
    pub would_allow: Option<String>,
}

/// An entry that matches a name and does not decide about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overruled {
    /// The entry, such as `secrets."db-*"`.
    pub rule: String,
    /// The line on which it stands.
    pub line: usize,
    /// Whether it lists the operation asked about: what a reader may have counted on, or feared.
    pub allows: bool,
}

impl Explanation {
    /// Whether the request would be granted.
    pub fn allowed(&self) -> bool {
        self.reason.is_none()
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            None => write!(f, "yes: `{}` of `{}` is allowed", self.operation, self.name)?,
            Some(RefusalReason::Expired) => {
                write!(f, "no: the entry that allows `{}` of `{}` has expired", self.operation, self.name)?;
            }
            Some(reason) => write!(f, "no: `{}` of `{}` is {reason}", self.operation, self.name)?,
        }
        match (&self.rule, self.line) {
            (Some(rule), Some(line)) => write!(f, "\n  decided by {rule} (line {line})")?,
            _ => f.write_str("\n  no entry of [secrets] matches this name")?,
        }
        for other in &self.overruled {
            let verb = if other.allows { "allows" } else { "does not allow" };
            let (rule, line) = (&other.rule, other.line);
            write!(f, "\n  less specific, so it does not count: {rule} (line {line}), which {verb} it")?;
        }
        if let Some(stored) = self.stored.as_ref().filter(|stored| **stored != self.name) {
            write!(f, "\n  in the vault: `{stored}`")?;
        }
        if let Some(version) = &self.version {
            write!(f, "\n  version: `{version}`")?;
        }
        if let Some(max_uses) = self.max_uses {
            write!(f, "\n  uses in one run, over all names and operations of the entry: {max_uses}")?;
        }
        if let Some(expires) = self.expires {
            write!(f, "\n  expires: {expires}")?;
        }
        if let Some(line) = &self.would_allow {
            write!(f, "\n  this line under [secrets] would allow it:\n    {line}")?;
        }
        Ok(())
    }
}

/// What is decided about one request, apart from its effect.
type Verdict<'p> = Result<(EntryId, &'p Entry), (RefusalReason, Option<&'p Entry>)>;

fn weigh<'p>(
    rules: &'p Rules,
    operation: Operation,
    name: &SecretName,
    now: Timestamp,
    used: impl Fn(EntryId) -> u64,
) -> Verdict<'p> {
    let (id, entry) = rules.deciding(name).ok_or((RefusalReason::Denied, None))?;
    if !entry.allow.contains(&operation) {
        return Err((RefusalReason::Denied, Some(entry)));
    }
    standing(entry, now, used(id)).map_err(|reason| (reason, Some(entry)))?;
    Ok((id, entry))
}

/// Whether an entry still grants what it allows.
fn standing(entry: &Entry, now: Timestamp, used: u64) -> Result<(), RefusalReason> {
    if entry.expires.is_some_and(|expires| now >= expires) {
        return Err(RefusalReason::Expired);
    }
    if entry.max_uses.is_some_and(|max_uses| used >= max_uses) {
        return Err(RefusalReason::Exhausted);
    }
    Ok(())
}

impl State {
    fn clock(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        self.latest
    }

    fn used(&self, id: EntryId) -> u64 {
        self.used.get(&id).copied().unwrap_or(0)
    }

    fn take(&mut self, id: EntryId, uses: u64) {
        let used = self.used.entry(id).or_default();
        *used = used.saturating_add(uses);
    }
}

impl Decisions {
    /// The decisions of a run that begins.
    pub fn new(policy: Arc<Policy>) -> Self {
        Self { policy, state: Mutex::new(State { used: HashMap::new(), latest: Timestamp::MIN }) }
    }

    /// The policy that is decided by.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Decides one request and takes one use of the entry that allows it.
    ///
    /// # Errors
    /// [`Refusal`]; no use is taken.
    pub fn decide(&self, operation: Operation, name: &SecretName, now: Timestamp) -> Result<Grant, Refusal> {
        let mut state = self.lock();
        let now = state.clock(now);
        let rules = &self.policy.rules;
        let (id, entry) = weigh(rules, operation, name, now, |id| state.used(id))
            .map_err(|(reason, entry)| refusal(rules, operation, name, now, reason, entry, |id| state.used(id) + 1))?;
        state.take(id, 1);
        Ok(grant(operation, name, entry, rules.name(id)))
    }

    /// Whether the policy has this name, folded, in full: as the key of an entry or as what one is stored as.
    pub fn spells(&self, name: &str) -> bool {
        self.policy.rules.spells(name)
    }

    /// Decides a batch as a whole: every name takes one use of its entry, or no use is taken at all.
    ///
    /// # Errors
    /// [`Refusal`] about the first name that is refused.
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
        let now = state.clock(now);
        let rules = &self.policy.rules;
        let mut taken: HashMap<EntryId, u64> = HashMap::new();
        let mut grants = Vec::with_capacity(names.len());
        for name in names {
            let used = |id: EntryId| state.used(id).saturating_add(taken.get(&id).copied().unwrap_or(0));
            match weigh(rules, operation, name, now, used) {
                Ok((id, entry)) => {
                    *taken.entry(id).or_default() += 1;
                    grants.push(grant(operation, name, entry, rules.name(id)));
                }
                Err((reason, entry)) => {
                    let needed = |id: EntryId| {
                        let of_entry = |name: &&SecretName| rules.deciding(name).is_some_and(|(other, _)| other == id);
                        state.used(id).saturating_add(names.iter().filter(of_entry).count() as u64)
                    };
                    return Err(refusal(rules, operation, name, now, reason, entry, needed));
                }
            }
        }
        for (id, uses) in taken {
            state.take(id, uses);
        }
        Ok(grants)
    }

    /// Decides a list, and takes one use of every entry that grants `list`. Entries that are exhausted or expired add nothing.
    ///
    /// # Errors
    /// [`Refusal`] where no entry allows `list`, or all that do are exhausted or expired; no use is taken.
    pub fn decide_list(&self, now: Timestamp) -> Result<ListGrant, Refusal> {
        let mut state = self.lock();
        let now = state.clock(now);
        let rules = &self.policy.rules;
        let mut exact = BTreeMap::new();
        let mut prefixes = BTreeSet::new();
        let mut granting = Vec::new();
        let mut refused: Option<(RefusalReason, EntryId, &Entry)> = None;
        for (id, entry) in rules.iter().filter(|(_, entry)| entry.allow.contains(&Operation::List)) {
            match standing(entry, now, state.used(id)) {
                Err(RefusalReason::Expired) if refused.is_some() => {}
                // Exhausted goes first: it is what this run itself brought about.
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
            state.take(*id, 1);
        }
        let mut rule = granting.iter().take(RULES_SHOWN).map(|(_, entry)| entry.rule()).collect::<Vec<_>>().join(", ");
        if let Some(more) = granting.len().checked_sub(RULES_SHOWN).filter(|more| *more > 0) {
            rule.push_str(&format!(" and {more} more"));
        }
        Ok(ListGrant::new(exact, Arc::clone(rules), prefixes, rule))
    }

    /// Nothing between lock and unlock can leave the counts half-changed, so a poisoned lock still holds true ones.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Policy {
    /// What a run that begins at `now` would be answered.
    pub fn explain(&self, operation: Operation, name: &SecretName, now: Timestamp) -> Explanation {
        let (entry, reason) = match weigh(&self.rules, operation, name, now, |_| 0) {
            Ok((_, entry)) => (Some(entry), None),
            Err((reason, entry)) => (entry, Some(reason)),
        };
        let granting = entry.filter(|_| reason.is_none());
        Explanation {
            operation,
            name: name.clone(),
            reason,
            rule: entry.map(Entry::rule),
            line: entry.map(|entry| entry.place.line),
            overruled: self.rules.matching(name).skip(1).map(|other| Overruled::of(other, operation)).collect(),
            stored: granting.map(|entry| entry.stored(name).clone()),
            version: granting.and_then(|entry| entry.version.clone()),
            max_uses: entry.and_then(|entry| entry.max_uses),
            expires: entry.and_then(|entry| entry.expires),
            would_allow: reason
                .map(|reason| refusal(&self.rules, operation, name, now, reason, entry, |_| 1).would_allow),
        }
    }
}

impl Overruled {
    fn of(entry: &Entry, operation: Operation) -> Self {
        Self { rule: entry.rule(), line: entry.place.line, allows: entry.allow.contains(&operation) }
    }
}

fn grant(operation: Operation, name: &SecretName, entry: &Entry, rule: Arc<str>) -> Grant {
    Grant::new(operation, name.clone(), entry.stored(name).clone(), entry.version.clone(), rule)
}

fn refusal(
    rules: &Rules,
    operation: Operation,
    name: &SecretName,
    now: Timestamp,
    reason: RefusalReason,
    entry: Option<&Entry>,
    needed: impl Fn(EntryId) -> u64,
) -> Refusal {
    let needed = rules.deciding(name).map_or(1, |(id, _)| needed(id));
    Refusal {
        name: Some(name.clone()),
        operation,
        reason,
        rule: entry.map(Entry::rule),
        would_allow: would_allow(rules, operation, name, now, reason, entry, needed),
    }
}

/// The line of `[secrets]` that would allow a request: as little as possible beyond what is allowed already.
fn would_allow(
    rules: &Rules,
    operation: Operation,
    name: &SecretName,
    now: Timestamp,
    reason: RefusalReason,
    entry: Option<&Entry>,
    needed: u64,
) -> String {
    let mut entry = match entry {
        Some(entry) => amended(entry, operation, now, needed),
        None => Entry {
            pattern: Pattern::Exact(name.clone()),
            allow: BTreeSet::from([operation]),
            max_uses: None,
            expires: None,
            stored_as: None,
            version: None,
            place: Place { line: 0, column: 0 },
        },
    };
    // An operation that a prefix lacks is added for this one name. What the prefix allows is kept for it, since an exact entry decides
    // alone.
    if reason == RefusalReason::Denied {
        entry.pattern = Pattern::Exact(name.clone());
    }
    // A second way to one secret, which no policy may have: said in a comment, as one line cannot mend it.
    match rules.other_way(name, &entry) {
        Some(other) => {
            let stored = entry.stored(name);
            format!("{} # and let nothing else lead to `{stored}` (now {})", entry.line(), other.rule())
        }
        None => entry.line(),
    }
}

/// An entry that allows the operation, now, with room for `needed` uses.
fn amended(entry: &Entry, operation: Operation, now: Timestamp, needed: u64) -> Entry {
    let mut entry = entry.clone();
    entry.allow.insert(operation);
    if matches!(operation, Operation::Set | Operation::Delete) {
        entry.version = None;
    }
    entry.max_uses = entry.max_uses.map(|max_uses| max_uses.max(needed));
    if entry.expires.is_some_and(|expires| now >= expires) {
        // A day from now, in whole seconds; the person who pastes it sees the date.
        entry.expires = Timestamp::from_second(now.as_second().saturating_add(24 * 60 * 60)).ok();
    }
    entry
}
