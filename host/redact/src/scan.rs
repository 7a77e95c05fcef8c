//! Scans bytes: reports which needles end where, and how far back an incomplete one may have
//! started.

use std::collections::HashSet;
use std::sync::Arc;

use aho_corasick::automaton::StateID;

use super::filter::WINDOW;
use super::needles::{Entry, LazyNeedle, Needle};
use super::tier::{Snapshot, Tier};

/// The minimum number of bytes that the filter must skip for its use to pay off.
const WORTHWHILE: usize = 32;

/// The maximum number of bytes to read before the filter is used again.
const BACKOFF_MAX: usize = 64;

/// The state of scanning one text for one snapshot.
pub(super) struct Scanner {
    snapshot: Arc<Snapshot>,
    tiers: Vec<TierScanner>,
    /// The number of bytes to read before the filter is used again. It grows while the text is full
    /// of needle prefixes, so that a text made for this costs little more than reading every byte.
    backoff: usize,
}

/// The state of scanning for the values of one tier.
struct TierScanner {
    tier: Arc<Tier>,
    state: StateID,
    /// Long needles of which at least the head matched; those that started together are in order of
    /// registration.
    long_matches: Vec<LongMatch>,
    /// The IDs in `long_matches`.
    ids: HashSet<(u32, u32)>,
}

/// The longest needle that ends at the byte just read.
pub(super) struct Match {
    /// The needle's length in bytes.
    pub(super) len: usize,
    /// The needle's value.
    pub(super) entry: Arc<Entry>,
}

impl Scanner {
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Self {
        let scanner = |tier: &Arc<Tier>| TierScanner {
            tier: Arc::clone(tier),
            state: tier.start(),
            long_matches: Vec::new(),
            ids: HashSet::new(),
        };
        let tiers = snapshot.tiers().iter().map(scanner).collect();
        Self { snapshot, tiers, backoff: 0 }
    }

    /// Returns the snapshot that is searched for.
    pub(super) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Forgets everything that was read.
    pub(super) fn reset(&mut self) {
        for tier in &mut self.tiers {
            tier.state = tier.tier.start();
            tier.long_matches.clear();
            tier.ids.clear();
        }
    }

    /// Reads bytes from an offset on and reports the needles that end, in order. `bytes` must
    /// include earlier bytes that may be the start of a needle.
    pub(super) fn read(&mut self, bytes: &[u8], from: usize, mut report: impl FnMut(usize, Match)) {
        if self.tiers.is_empty() {
            return;
        }
        let snapshot = Arc::clone(&self.snapshot);
        let (mut at, mut next_filter) = (from, from);
        while at < bytes.len() {
            if at >= next_filter
                && let Some(filter) = snapshot.filter()
            {
                if let Some(start) = self.pending_below_window().and_then(|started| at.checked_sub(started)) {
                    // A needle that starts at `start` or later cannot have ended before `at`,
                    // because it would be shorter than any needle. So nothing is reported twice.
                    let next = filter.next(bytes, start);
                    if next > at {
                        // No needle starts before, so the state can be dropped.
                        self.reset();
                        at = next;
                    }
                    let paid = next.saturating_sub(start) >= WORTHWHILE;
                    self.backoff = if paid { 0 } else { self.backoff.saturating_mul(2).clamp(WINDOW, BACKOFF_MAX) };
                }
                // Earlier, the same bytes would stop the filter again.
                next_filter = at.saturating_add(WINDOW).saturating_add(self.backoff);
            }
            let Some(&byte) = bytes.get(at) else { break };
            at = at.saturating_add(1);
            if let Some(longest) = self.step(byte) {
                report(at, longest);
            }
        }
    }

    /// Returns how many of the last bytes may be the start of a needle, if they are fewer than a
    /// window of the filter.
    fn pending_below_window(&self) -> Option<usize> {
        let tracking = self.tiers.iter().any(|tier| !tier.long_matches.is_empty());
        Some(if tracking { WINDOW } else { self.pending() }).filter(|started| *started < WINDOW)
    }

    /// Reads a byte and returns the longest needle that ends there. It contains all shorter ones.
    fn step(&mut self, byte: u8) -> Option<Match> {
        let mut best = None;
        for tier in &mut self.tiers {
            tier.step(byte, &mut best);
        }
        best
    }

    /// Returns the memory of the long matches, in bytes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let long_match = |long: &LongMatch| {
            size_of::<LongMatch>() + long.needle.memory() + long.borders.capacity() * size_of::<u32>()
        };
        let memory = |tier: &TierScanner| {
            let spare = tier.long_matches.capacity() - tier.long_matches.len() + 2 * tier.ids.capacity();
            spare * size_of::<LongMatch>() + tier.long_matches.iter().map(long_match).sum::<usize>()
        };
        self.tiers.iter().map(memory).sum()
    }

    /// Returns how many of the last bytes may be the start of an incomplete needle. A complete
    /// needle counts only if a longer one starts with it.
    pub(super) fn pending(&self) -> usize {
        self.tiers.iter().map(TierScanner::pending).max().unwrap_or(0)
    }

    /// Returns whether a text contains a needle. Always true if the redactor is closed.
    pub(super) fn contains_needle(snapshot: &Arc<Snapshot>, text: &str) -> bool {
        let mut scanner = Self::new(Arc::clone(snapshot));
        snapshot.is_closed() || text.bytes().any(|byte| scanner.step(byte).is_some())
    }
}

impl TierScanner {
    fn step(&mut self, byte: u8, best: &mut Option<Match>) {
        // Needles of equal length that end together are equal; the first registered one is
        // reported.
        let mut report = |len: usize, entry: &Arc<Entry>| {
            if best.as_ref().is_none_or(|best| best.len < len) {
                *best = Some(Match { len, entry: Arc::clone(entry) });
            }
        };
        if !self.long_matches.is_empty() {
            let (tier, ids) = (&self.tier, &mut self.ids);
            self.long_matches.retain_mut(|long| {
                let Some((entry, needle)) = tier.needle(long.id) else { return false };
                let mut kept = long.step(entry, needle, byte);
                if kept && long.read == needle.len() {
                    report(needle.len(), entry);
                    kept = long.fall_back();
                }
                if !kept {
                    ids.remove(&long.id);
                }
                kept
            });
        }
        self.state = self.tier.next(self.state, byte);
        for (len, head) in self.tier.ends(self.state) {
            if let Some(entry) = head.whole().and_then(|at| self.tier.entry(at)) {
                report(len, entry);
            }
            for &id in head.long() {
                // If the needle is tracked already, at least as much of it was read, and this is
                // its head again at the end.
                if self.ids.insert(id) {
                    self.long_matches.push(LongMatch::new(id, len));
                }
            }
        }
    }

    fn pending(&self) -> usize {
        let longest = self.long_matches.iter().map(|long| long.read).max();
        longest.unwrap_or(0).max(self.tier.pending(self.state))
    }
}

/// A long needle of which at least the head matched: Knuth-Morris-Pratt with a failure table that
/// grows with the match.
struct LongMatch {
    id: (u32, u32),
    /// The length of the needle's head in the automaton.
    head: usize,
    /// The length of the longest prefix of the needle with which the text ends.
    read: usize,
    needle: LazyNeedle,
    /// The failure table: for each prefix length minus one, the length of the longest border
    /// (proper prefix that is also a suffix).
    borders: Vec<u32>,
}

impl LongMatch {
    fn new(id: (u32, u32), head: usize) -> Self {
        Self { id, head, read: head, needle: LazyNeedle::new(), borders: Vec::new() }
    }

    /// Reads a byte. Returns `false` if less than the head still matches, which the automaton
    /// tracks.
    fn step(&mut self, entry: &Entry, needle: &Needle, byte: u8) -> bool {
        loop {
            if self.needle.byte(entry, needle, self.read) == Some(byte) {
                self.read = self.read.saturating_add(1);
                return true;
            }
            // If the byte completes the head again from a shorter match, the automaton reports
            // that.
            if !self.fall_back() {
                return false;
            }
        }
    }

    /// Falls back to the next shorter matching prefix. Returns `false` if it is shorter than the
    /// head.
    fn fall_back(&mut self) -> bool {
        self.read = self.border(self.read);
        self.read >= self.head
    }

    /// Returns the length of the longest border of the first `len` bytes.
    fn border(&mut self, len: usize) -> usize {
        while self.borders.len() < len {
            let at = self.borders.len();
            let mut border = self.known_border(at);
            if at > 0 {
                let next = self.needle.get(at);
                while border > 0 && self.needle.get(border) != next {
                    border = self.known_border(border);
                }
                if self.needle.get(border) == next {
                    border = border.saturating_add(1);
                }
            }
            // A needle is only a small multiple of the longest value, so its length fits.
            self.borders.push(u32::try_from(border).unwrap_or(0));
        }
        self.known_border(len)
    }

    fn known_border(&self, len: usize) -> usize {
        let border = len.checked_sub(1).and_then(|at| self.borders.get(at)).copied().unwrap_or(0);
        usize::try_from(border).unwrap_or(0)
    }
}
