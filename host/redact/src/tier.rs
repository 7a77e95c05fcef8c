//! Automata that search for sets of values.

use std::sync::Arc;

use aho_corasick::automaton::{Automaton as _, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

use zeroize::Zeroizing;

use super::filter::Filter;
use super::needles::{Entry, HEAD, Needle};

/// The maximum number of incomplete needles that share a head. Beyond it, longer heads are used,
/// because each such needle is tracked on its own.
const SHARED_HEAD_MAX: usize = 4;

/// The maximum length of a head. Longer heads would let values with a long common prefix fill the
/// memory.
const HEAD_MAX: usize = 8 * HEAD;

/// The values of a redactor at one point in time.
pub(super) struct Snapshot {
    generation: u64,
    /// `None` if the redactor is closed, because an automaton could not be built or the capacity
    /// was exceeded.
    tiers: Option<Vec<Arc<Tier>>>,
    /// The filter for the needles of all tiers; `None` if there are no needles.
    filter: Option<Arc<Filter>>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new(0, Some(Vec::new()))
    }
}

impl Snapshot {
    pub(super) fn new(generation: u64, tiers: Option<Vec<Arc<Tier>>>) -> Self {
        let filter = merge_filters(tiers.as_deref().unwrap_or_default());
        Self { generation, tiers, filter }
    }

    /// Disables the filter.
    #[cfg(test)]
    pub(super) fn without_filter(self) -> Self {
        Self { filter: None, ..self }
    }

    /// Returns the number of registrations that it covers.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the tiers, those with the values registered first in front.
    pub(super) fn tiers(&self) -> &[Arc<Tier>] {
        self.tiers.as_deref().unwrap_or_default()
    }

    /// Returns the filter.
    pub(super) fn filter(&self) -> Option<&Filter> {
        self.filter.as_deref()
    }

    /// Returns whether all output must be withheld.
    pub(super) fn is_closed(&self) -> bool {
        self.tiers.is_none()
    }
}

/// Merges the filters of all tiers. A filter has a fixed size, so this is cheap.
fn merge_filters(tiers: &[Arc<Tier>]) -> Option<Arc<Filter>> {
    let (first, others) = tiers.split_first()?;
    let mut filter = Arc::clone(&first.filter);
    for other in others {
        Arc::make_mut(&mut filter).merge(&other.filter);
    }
    Some(filter)
}

/// A subset of the values, with one automaton over the heads of their needles.
pub(super) struct Tier {
    entries: Vec<Arc<Entry>>,
    automaton: NFA,
    start: StateID,
    /// For each state, how many of the last bytes are the start of an incomplete head.
    pending: Vec<u8>,
    /// For each pattern of the automaton, its head.
    heads: Vec<Head>,
    filter: Arc<Filter>,
    weight: usize,
}

/// The needles that start with one head.
pub(super) struct Head {
    /// The value of which the head is a complete needle; of several the first registered.
    whole: Option<u32>,
    /// The longer needles: index of the value, and of the needle in the value.
    long: Vec<(u32, u32)>,
}

impl Tier {
    /// Adds values to a list of tiers. Each tier weighs more than twice the next, so there are few
    /// tiers, and each value is rebuilt as often as the total doubles instead of whenever a value
    /// arrives.
    ///
    /// Returns `None` if an automaton would be too large.
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
        let (patterns, heads) = heads(&entries);
        let automaton = NFA::builder().match_kind(MatchKind::Standard).prefilter(false).build(&patterns).ok()?;
        let start = automaton.start_state(Anchored::No).ok()?;
        let pending = pending(&automaton, start, &patterns)?;
        let filter = Arc::new(Filter::new(entries.iter().map(Arc::as_ref)));
        Some(Self { entries, automaton, start, pending, heads, filter, weight })
    }

    /// Returns the initial state.
    pub(super) fn start(&self) -> StateID {
        self.start
    }

    /// Returns the state after one more byte.
    pub(super) fn next(&self, state: StateID, byte: u8) -> StateID {
        self.automaton.next_state(Anchored::No, state, byte)
    }

    /// Returns how many of the last bytes are the start of an incomplete head.
    pub(super) fn pending(&self, state: StateID) -> usize {
        self.pending.get(state.as_usize()).copied().map_or(0, usize::from)
    }

    /// Returns the heads that end in a state, with their lengths.
    pub(super) fn ends(&self, state: StateID) -> impl Iterator<Item = (usize, &Head)> {
        let is_match = self.automaton.is_special(state) && self.automaton.is_match(state);
        let count = if is_match { self.automaton.match_len(state) } else { 0 };
        (0..count).filter_map(move |index| {
            let id = self.automaton.match_pattern(state, index);
            Some((self.automaton.pattern_len(id), self.heads.get(id.as_usize())?))
        })
    }

    /// Returns a value by its index.
    pub(super) fn entry(&self, at: u32) -> Option<&Arc<Entry>> {
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// Returns a needle by its ID, with its value.
    pub(super) fn needle(&self, (entry, needle): (u32, u32)) -> Option<(&Arc<Entry>, &Needle)> {
        let entry = self.entry(entry)?;
        Some((entry, entry.needles().get(usize::try_from(needle).ok()?)?))
    }
}

/// Returns the distinct heads of all needles, and the needles of each.
fn heads(entries: &[Arc<Entry>]) -> (Vec<Zeroizing<Vec<u8>>>, Vec<Head>) {
    let (mut patterns, mut heads) = (Vec::new(), Vec::new());
    let numbered = (0_u32..).zip(entries);
    let mut remaining: Vec<(u32, u32)> =
        numbered.flat_map(|(at, entry)| (0_u32..).zip(entry.needles()).map(move |(needle, _)| (at, needle))).collect();
    let find = |(entry, needle): (u32, u32)| {
        let entry = entries.get(usize::try_from(entry).ok()?)?;
        Some((entry, entry.needles().get(usize::try_from(needle).ok()?)?))
    };
    let mut len = HEAD;
    while !remaining.is_empty() {
        let cut = |id| find(id).map(|(entry, needle)| (needle.prefix(entry, len), needle.len() <= len, id));
        let mut cut: Vec<_> = remaining.drain(..).filter_map(cut).collect();
        // The sort is stable, so the first registered of equal heads stays first.
        cut.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        for group in cut.chunk_by(|(one, ..), (other, ..)| one == other) {
            let whole = group.iter().find(|(_, whole, _)| *whole).map(|(.., (entry, _))| *entry);
            let mut long: Vec<_> = group.iter().filter(|(_, whole, _)| !whole).map(|(.., id)| *id).collect();
            if long.len() > SHARED_HEAD_MAX && len < HEAD_MAX {
                remaining.append(&mut long);
            }
            if let Some((head, ..)) = group.first().filter(|_| whole.is_some() || !long.is_empty()) {
                patterns.push(head.clone());
                heads.push(Head { whole, long });
            }
        }
        len = len.saturating_add(HEAD);
    }
    (patterns, heads)
}

/// Computes for each state how many of the last bytes are the start of an incomplete head. If the
/// bytes are a complete head and do not start a longer one, the result is that of the bytes without
/// the first: a needle longer than its head is tracked separately from there.
fn pending(automaton: &NFA, start: StateID, patterns: &[Zeroizing<Vec<u8>>]) -> Option<Vec<u8>> {
    let next = |state, byte: &u8| automaton.next_state(Anchored::No, state, *byte);
    let mut pending: Vec<Option<u8>> = vec![None; start.as_usize().saturating_add(1)];
    *pending.get_mut(start.as_usize())? = Some(0);
    for pattern in patterns {
        let mut state = start;
        for (depth, byte) in (1_u8..).zip(pattern.iter()) {
            // The longest head prefix that these bytes end with is the bytes themselves, so this is
            // their own state.
            state = next(state, byte);
            if pending.len() <= state.as_usize() {
                pending.resize(state.as_usize().saturating_add(1), None);
            }
            if usize::from(depth) < pattern.len() {
                *pending.get_mut(state.as_usize())? = Some(depth);
            }
        }
    }
    let mut ends: Vec<&[u8]> = patterns.iter().map(|pattern| pattern.as_slice()).collect();
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
    /// Returns the value of which the head is a complete needle.
    pub(super) fn whole(&self) -> Option<u32> {
        self.whole
    }

    /// Returns the longer needles that start with the head.
    pub(super) fn long(&self) -> &[(u32, u32)] {
        &self.long
    }
}
