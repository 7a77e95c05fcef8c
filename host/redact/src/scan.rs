//! Reading bytes one after the other, and telling which needles end where and how far back one may have begun.

use std::collections::HashSet;
use std::sync::Arc;

use aho_corasick::automaton::StateID;

use super::filter::WINDOW;
use super::needles::{Entry, Needle, Unfolding};
use super::tier::{Snapshot, Tier};

/// How far the filter has to lead for asking it to have paid, in bytes.
const WORTHWHILE: usize = 32;

/// The most bytes that are read before the filter is asked again.
const PATIENCE_MAX: usize = 64;

/// Where the reading of one text stands, for one set of values.
pub(super) struct Scanner {
    snapshot: Arc<Snapshot>,
    places: Vec<Place>,
    /// How many bytes to read before the filter is asked again. Grows while the text is full of beginnings, so that a text made to be
    /// so costs little more than reading every byte.
    patience: usize,
}

/// Where the reading stands in one tier.
struct Place {
    tier: Arc<Tier>,
    state: StateID,
    /// The long needles of which at least the head was read. In the order of registration among those that began together.
    followed: Vec<Follow>,
    /// The needles in `followed`.
    ids: HashSet<(u32, u32)>,
}

/// A needle that ends at the byte just read: the longest one.
pub(super) struct Found {
    /// Its length in bytes.
    pub(super) len: usize,
    /// Its value.
    pub(super) entry: Arc<Entry>,
}

impl Scanner {
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Self {
        let place = |tier: &Arc<Tier>| Place {
            tier: Arc::clone(tier),
            state: tier.start(),
            followed: Vec::new(),
            ids: HashSet::new(),
        };
        let places = snapshot.tiers().iter().map(place).collect();
        Self { snapshot, places, patience: 0 }
    }

    /// The set of values looked for.
    pub(super) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Forgets what was read.
    pub(super) fn reset(&mut self) {
        for place in &mut self.places {
            place.state = place.tier.start();
            place.followed.clear();
            place.ids.clear();
        }
    }

    /// Reads bytes from a place on, and reports what ends where, in order. All bytes of which one may be the beginning of a needle have to
    /// be there, also those read before.
    pub(super) fn read(&mut self, bytes: &[u8], from: usize, mut report: impl FnMut(usize, Found)) {
        if self.places.is_empty() {
            return;
        }
        let snapshot = Arc::clone(&self.snapshot);
        let (mut at, mut ask) = (from, from);
        while at < bytes.len() {
            if at >= ask
                && let Some(filter) = snapshot.filter()
            {
                if let Some(start) = self.begun().and_then(|begun| at.checked_sub(begun)) {
                    // What begins at `start` or later and ends before `at` is shorter than any needle: nothing is reported twice.
                    let next = filter.next(bytes, start);
                    if next > at {
                        // No needle begins before, so that nothing needs to be remembered of it.
                        self.reset();
                        at = next;
                    }
                    let paid = next.saturating_sub(start) >= WORTHWHILE;
                    self.patience = if paid { 0 } else { self.patience.saturating_mul(2).clamp(WINDOW, PATIENCE_MAX) };
                }
                // Sooner, what stopped the filter would stop it again.
                ask = at.saturating_add(WINDOW).saturating_add(self.patience);
            }
            let Some(&byte) = bytes.get(at) else { break };
            at = at.saturating_add(1);
            if let Some(found) = self.step(byte) {
                report(at, found);
            }
        }
    }

    /// How many of the last bytes may be the beginning of a needle, if they are too few to look at as a window.
    fn begun(&self) -> Option<usize> {
        let followed = self.places.iter().any(|place| !place.followed.is_empty());
        Some(if followed { WINDOW } else { self.pending() }).filter(|begun| *begun < WINDOW)
    }

    /// Reads a byte. Shorter needles that end at the same byte lie within the longest, which is all that is reported.
    fn step(&mut self, byte: u8) -> Option<Found> {
        let mut best = None;
        for place in &mut self.places {
            place.step(byte, &mut best);
        }
        best
    }

    /// How many bytes are in what is followed.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        let follow = |follow: &Follow| {
            size_of::<Follow>() + follow.unfolding.kept() + follow.borders.capacity() * size_of::<u32>()
        };
        let place = |place: &Place| {
            let spare = place.followed.capacity() - place.followed.len() + 2 * place.ids.capacity();
            spare * size_of::<Follow>() + place.followed.iter().map(follow).sum::<usize>()
        };
        self.places.iter().map(place).sum()
    }

    /// How many of the last bytes may be the beginning of a needle that goes on. A whole needle counts only if it begins a longer one.
    pub(super) fn pending(&self) -> usize {
        self.places.iter().map(Place::pending).max().unwrap_or(0)
    }

    /// Whether a text holds a needle. Says yes where nothing may pass.
    pub(super) fn finds_in(snapshot: &Arc<Snapshot>, text: &str) -> bool {
        let mut scanner = Self::new(Arc::clone(snapshot));
        snapshot.is_blind() || text.bytes().any(|byte| scanner.step(byte).is_some())
    }
}

impl Place {
    fn step(&mut self, byte: u8, best: &mut Option<Found>) {
        // Of needles of one length that end together, which are equal, the first registered is reported.
        let mut report = |len: usize, entry: &Arc<Entry>| {
            if best.as_ref().is_none_or(|best| best.len < len) {
                *best = Some(Found { len, entry: Arc::clone(entry) });
            }
        };
        if !self.followed.is_empty() {
            let (tier, ids) = (&self.tier, &mut self.ids);
            self.followed.retain_mut(|follow| {
                let Some((entry, needle)) = tier.needle(follow.id) else { return false };
                let mut kept = follow.step(entry, needle, byte);
                if kept && follow.read == needle.len() {
                    report(needle.len(), entry);
                    kept = follow.fall_back();
                }
                if !kept {
                    ids.remove(&follow.id);
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
                // Where it is followed already, at least as much of it was read: the head again, at the end of that.
                if self.ids.insert(id) {
                    self.followed.push(Follow::new(id, len));
                }
            }
        }
    }

    fn pending(&self) -> usize {
        let followed = self.followed.iter().map(|follow| follow.read).max();
        followed.unwrap_or(0).max(self.tier.pending(self.state))
    }
}

/// A long needle of which at least the head was read: Knuth-Morris-Pratt, with tables that grow as the match does.
struct Follow {
    id: (u32, u32),
    /// The length of its head in the automaton.
    head: usize,
    /// How many bytes of the needle the text ends with: the most that are possible.
    read: usize,
    unfolding: Unfolding,
    /// By length of a beginning of the needle, less one: the longest shorter beginning that it ends with.
    borders: Vec<u32>,
}

impl Follow {
    fn new(id: (u32, u32), head: usize) -> Self {
        Self { id, head, read: head, unfolding: Unfolding::new(), borders: Vec::new() }
    }

    /// Reads a byte; false where less than the head is left of the match, which the automaton tracks.
    fn step(&mut self, entry: &Entry, needle: &Needle, byte: u8) -> bool {
        loop {
            if self.unfolding.byte(entry, needle, self.read) == Some(byte) {
                self.read = self.read.saturating_add(1);
                return true;
            }
            // From less than the head, the byte may lead to the whole head again: then the automaton reports that.
            if !self.fall_back() {
                return false;
            }
        }
    }

    /// Takes the next longest beginning of the needle that the text ends with; false where that is less than the head.
    fn fall_back(&mut self) -> bool {
        self.read = self.border(self.read);
        self.read >= self.head
    }

    /// The longest beginning of the needle that is shorter than `len` bytes and ends those `len` bytes.
    fn border(&mut self, len: usize) -> usize {
        while self.borders.len() < len {
            let at = self.borders.len();
            let mut border = self.known_border(at);
            if at > 0 {
                let next = self.unfolding.known(at);
                while border > 0 && self.unfolding.known(border) != next {
                    border = self.known_border(border);
                }
                if self.unfolding.known(border) == next {
                    border = border.saturating_add(1);
                }
            }
            // A needle is some times as long as the longest value, so that its length fits.
            self.borders.push(u32::try_from(border).unwrap_or(0));
        }
        self.known_border(len)
    }

    fn known_border(&self, len: usize) -> usize {
        let border = len.checked_sub(1).and_then(|at| self.borders.get(at)).copied().unwrap_or(0);
        usize::try_from(border).unwrap_or(0)
    }
}
