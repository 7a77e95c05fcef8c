//! Sets of values, ready to be looked for.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use aho_corasick::automaton::{Automaton as _, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

use super::needles::{Entry, Needle};

/// The values of a redactor at one moment.
pub(super) struct Snapshot {
    generation: u64,
    /// None: the set could not be built, and nothing may pass.
    tiers: Option<Vec<Arc<Tier>>>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new(0, Some(Vec::new()))
    }
}

impl Snapshot {
    pub(super) fn new(generation: u64, tiers: Option<Vec<Arc<Tier>>>) -> Self {
        Self { generation, tiers }
    }

    /// How many registrations it covers.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The automata, those with the first registered values first.
    pub(super) fn tiers(&self) -> &[Arc<Tier>] {
        self.tiers.as_deref().unwrap_or_default()
    }

    /// Whether nothing may pass.
    pub(super) fn is_blind(&self) -> bool {
        self.tiers.is_none()
    }
}

/// Some of the values, with one automaton over the heads of their needles.
pub(super) struct Tier {
    entries: Vec<Arc<Entry>>,
    automaton: NFA,
    start: StateID,
    /// By state: how many of the last bytes read are the beginning of a needle that goes on.
    pending: Vec<u8>,
    /// By pattern of the automaton.
    heads: Vec<Head>,
    weight: usize,
}

/// What a head that was read stands for.
#[derive(Default)]
pub(super) struct Head {
    /// The value of which it is a whole needle: of several the first registered.
    whole: Option<u32>,
    /// The needles that go on: value, and needle of the value.
    long: Vec<(u32, u32)>,
}

impl Tier {
    /// Adds values to a list of tiers. Each tier weighs more than twice the next, so that there are few of them and a value is
    /// built anew as often as the total doubles, not as often as a value arrives.
    ///
    /// None where an automaton would be too large.
    pub(super) fn grow(tiers: &[Arc<Self>], added: Vec<Arc<Entry>>) -> Option<Vec<Arc<Self>>> {
        let mut tiers = tiers.to_vec();
        if added.is_empty() {
            return Some(tiers);
        }
        let mut weight = added.iter().map(|entry| entry.needles().len()).sum::<usize>();
        let mut groups = vec![added];
        while let Some(last) = tiers.pop_if(|last| last.weight / 2 <= weight) {
            weight = weight.saturating_add(last.weight);
            groups.push(last.entries.clone());
        }
        tiers.push(Arc::new(Self::build(groups.into_iter().rev().flatten().collect(), weight)?));
        Some(tiers)
    }

    fn build(entries: Vec<Arc<Entry>>, weight: usize) -> Option<Self> {
        let mut ids: HashMap<&[u8], usize> = HashMap::new();
        let mut patterns: Vec<&[u8]> = Vec::new();
        let mut heads: Vec<Head> = Vec::new();
        for (entry_at, entry) in (0_u32..).zip(&entries) {
            for (needle_at, needle) in (0_u32..).zip(entry.needles()) {
                let id = match ids.entry(needle.head()) {
                    Slot::Occupied(slot) => *slot.get(),
                    Slot::Vacant(slot) => {
                        patterns.push(needle.head());
                        heads.push(Head::default());
                        *slot.insert(heads.len().saturating_sub(1))
                    }
                };
                let head = heads.get_mut(id)?;
                if needle.is_long() {
                    head.long.push((entry_at, needle_at));
                } else {
                    head.whole.get_or_insert(entry_at);
                }
            }
        }
        let automaton = NFA::builder().match_kind(MatchKind::Standard).prefilter(false).build(&patterns).ok()?;
        let start = automaton.start_state(Anchored::No).ok()?;
        let pending = pending(&automaton, start, &patterns, &heads)?;
        Some(Self { entries, automaton, start, pending, heads, weight })
    }

    /// The state in which nothing was read.
    pub(super) fn start(&self) -> StateID {
        self.start
    }

    /// The state after one more byte.
    pub(super) fn next(&self, state: StateID, byte: u8) -> StateID {
        self.automaton.next_state(Anchored::No, state, byte)
    }

    /// How many of the last bytes read are the beginning of a needle that goes on, as far as heads tell.
    pub(super) fn pending(&self, state: StateID) -> usize {
        self.pending.get(state.as_usize()).copied().map_or(0, usize::from)
    }

    /// The heads that end here, with their lengths.
    pub(super) fn ends(&self, state: StateID) -> impl Iterator<Item = (usize, &Head)> {
        let is_match = self.automaton.is_special(state) && self.automaton.is_match(state);
        let count = if is_match { self.automaton.match_len(state) } else { 0 };
        (0..count).filter_map(move |index| {
            let id = self.automaton.match_pattern(state, index);
            Some((self.automaton.pattern_len(id), self.heads.get(id.as_usize())?))
        })
    }

    /// One of the values.
    pub(super) fn entry(&self, at: u32) -> Option<&Arc<Entry>> {
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// One of the needles, with its value.
    pub(super) fn needle(&self, (entry, needle): (u32, u32)) -> Option<(&Arc<Entry>, &Needle)> {
        let entry = self.entry(entry)?;
        Some((entry, entry.needles().get(usize::try_from(needle).ok()?)?))
    }
}

/// Finds for each state how many of the last bytes are the beginning of a needle that goes on: where that is not the state's own
/// depth, since the bytes are a needle and begin no longer one, it is the same as for the bytes without the first.
fn pending(automaton: &NFA, start: StateID, patterns: &[&[u8]], heads: &[Head]) -> Option<Vec<u8>> {
    let next = |state, byte: &u8| automaton.next_state(Anchored::No, state, *byte);
    let mut pending: Vec<Option<u8>> = vec![None; start.as_usize().saturating_add(1)];
    *pending.get_mut(start.as_usize())? = Some(0);
    for (pattern, head) in patterns.iter().zip(heads) {
        let mut state = start;
        for (depth, byte) in (1_u8..).zip(*pattern) {
            // The longest beginning of a head that these bytes end with is themselves, so that this is their own state.
            state = next(state, byte);
            if pending.len() <= state.as_usize() {
                pending.resize(state.as_usize().saturating_add(1), None);
            }
            if usize::from(depth) < pattern.len() || !head.long.is_empty() {
                *pending.get_mut(state.as_usize())? = Some(depth);
            }
        }
    }
    let mut ends: Vec<&[u8]> = patterns.to_vec();
    ends.sort_unstable_by_key(|pattern| pattern.len());
    for pattern in ends {
        let state = pattern.iter().fold(start, next);
        if pending.get(state.as_usize())?.is_none() {
            let shorter = pattern.iter().skip(1).fold(start, next);
            *pending.get_mut(state.as_usize())? = *pending.get(shorter.as_usize())?;
        }
    }
    Some(pending.into_iter().map(Option::unwrap_or_default).collect())
}

impl Head {
    pub(super) fn whole(&self) -> Option<u32> {
        self.whole
    }

    pub(super) fn long(&self) -> &[(u32, u32)] {
        &self.long
    }
}
