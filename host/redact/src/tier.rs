//! Sets of values, ready to be looked for.

use std::sync::Arc;

use aho_corasick::automaton::{Automaton as _, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

use zeroize::Zeroizing;

use super::filter::Filter;
use super::needles::{Entry, HEAD, Needle};

/// How many needles that go on may share a head before longer heads are taken for them: each of them is followed by itself.
const CROWD: usize = 4;

/// The most bytes of a head. More would let values that differ late fill the memory.
const HEAD_MAX: usize = 8 * HEAD;

/// The values of a redactor at one moment.
pub(super) struct Snapshot {
    generation: u64,
    /// None: the set could not be built, and nothing may pass.
    tiers: Option<Vec<Arc<Tier>>>,
    /// Where the needles of all tiers may begin. None: at every place, or at none since there are no needles.
    filter: Option<Arc<Filter>>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new(0, Some(Vec::new()))
    }
}

impl Snapshot {
    pub(super) fn new(generation: u64, tiers: Option<Vec<Arc<Tier>>>) -> Self {
        let filter = unite(tiers.as_deref().unwrap_or_default());
        Self { generation, tiers, filter }
    }

    /// The same, to be read byte by byte.
    #[cfg(test)]
    pub(super) fn without_filter(self) -> Self {
        Self { filter: None, ..self }
    }

    /// How many registrations it covers.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The automata, those with the first registered values first.
    pub(super) fn tiers(&self) -> &[Arc<Tier>] {
        self.tiers.as_deref().unwrap_or_default()
    }

    /// What tells where a needle may begin.
    pub(super) fn filter(&self) -> Option<&Filter> {
        self.filter.as_deref()
    }

    /// Whether nothing may pass.
    pub(super) fn is_blind(&self) -> bool {
        self.tiers.is_none()
    }
}

/// One filter of all tiers. Its size is fixed, so that this costs little whenever a value arrives.
fn unite(tiers: &[Arc<Tier>]) -> Option<Arc<Filter>> {
    let (first, others) = tiers.split_first()?;
    let mut filter = Arc::clone(&first.filter);
    for other in others {
        Arc::make_mut(&mut filter).unite(&other.filter);
    }
    Some(filter)
}

/// Some of the values, with one automaton over the heads of their needles.
pub(super) struct Tier {
    entries: Vec<Arc<Entry>>,
    automaton: NFA,
    start: StateID,
    /// By state: how many of the last bytes read are the beginning of a head that goes on.
    pending: Vec<u8>,
    /// By pattern of the automaton.
    heads: Vec<Head>,
    filter: Arc<Filter>,
    weight: usize,
}

/// What a head that was read stands for.
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
        let (patterns, heads) = heads(&entries);
        let automaton = NFA::builder().match_kind(MatchKind::Standard).prefilter(false).build(&patterns).ok()?;
        let start = automaton.start_state(Anchored::No).ok()?;
        let pending = pending(&automaton, start, &patterns)?;
        let filter = Arc::new(Filter::new(entries.iter().map(Arc::as_ref)));
        Some(Self { entries, automaton, start, pending, heads, filter, weight })
    }

    /// The state in which nothing was read.
    pub(super) fn start(&self) -> StateID {
        self.start
    }

    /// The state after one more byte.
    pub(super) fn next(&self, state: StateID, byte: u8) -> StateID {
        self.automaton.next_state(Anchored::No, state, byte)
    }

    /// How many of the last bytes read are the beginning of a head that goes on.
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

/// The heads of all needles, each once, and what they stand for.
fn heads(entries: &[Arc<Entry>]) -> (Vec<Zeroizing<Vec<u8>>>, Vec<Head>) {
    let (mut patterns, mut heads) = (Vec::new(), Vec::new());
    let numbered = (0_u32..).zip(entries);
    let mut round: Vec<(u32, u32)> =
        numbered.flat_map(|(at, entry)| (0_u32..).zip(entry.needles()).map(move |(needle, _)| (at, needle))).collect();
    let find = |(entry, needle): (u32, u32)| {
        let entry = entries.get(usize::try_from(entry).ok()?)?;
        Some((entry, entry.needles().get(usize::try_from(needle).ok()?)?))
    };
    let mut len = HEAD;
    while !round.is_empty() {
        let cut = |id| find(id).map(|(entry, needle)| (needle.beginning(entry, len), needle.len() <= len, id));
        let mut cut: Vec<_> = round.drain(..).filter_map(cut).collect();
        // Stable: of equal heads the first registered stays the first.
        cut.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        for group in cut.chunk_by(|(one, ..), (other, ..)| one == other) {
            let whole = group.iter().find(|(_, whole, _)| *whole).map(|(.., (entry, _))| *entry);
            let mut long: Vec<_> = group.iter().filter(|(_, whole, _)| !whole).map(|(.., id)| *id).collect();
            if long.len() > CROWD && len < HEAD_MAX {
                round.append(&mut long);
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

/// Finds for each state how many of the last bytes are the beginning of a head that goes on. Where the bytes are a head and begin no
/// longer one, that is the same as for the bytes without the first; a needle longer than its head is followed from there.
fn pending(automaton: &NFA, start: StateID, patterns: &[Zeroizing<Vec<u8>>]) -> Option<Vec<u8>> {
    let next = |state, byte: &u8| automaton.next_state(Anchored::No, state, *byte);
    let mut pending: Vec<Option<u8>> = vec![None; start.as_usize().saturating_add(1)];
    *pending.get_mut(start.as_usize())? = Some(0);
    for pattern in patterns {
        let mut state = start;
        for (depth, byte) in (1_u8..).zip(pattern.iter()) {
            // The longest beginning of a head that these bytes end with is themselves, so that this is their own state.
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
    /// The value of which the head is a whole needle.
    pub(super) fn whole(&self) -> Option<u32> {
        self.whole
    }

    /// The needles of which it is the beginning.
    pub(super) fn long(&self) -> &[(u32, u32)] {
        &self.long
    }
}
