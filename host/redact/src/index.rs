//! The needles of a redactor, and the search for the longest one at a position of a text.

use std::collections::BTreeSet;

use super::encoders::MIN_NEEDLE;
use super::hash::{GOLDEN, HashedText, KeyMap, RollingHash};

/// The number of first bytes of each needle that are stored. The rest of a needle is only hashed.
const HEAD: usize = 15;

/// The shortest prefix of a needle that is hashed. Each further one is twice as long.
const PREFIX: usize = HEAD + 1;

/// The maximum number of search patterns of one redactor: needles, and prefixes of needles. A
/// password has 20 to 200, and a line of 64 characters four. They use about 16 MB.
pub const PATTERNS_MAX: usize = 1 << 18;

/// The maximum number of different lengths of needles that share a prefix and are less than twice
/// as long as it. This bounds the lookups at one position of a text.
pub const LENGTHS_MAX: usize = 64;

/// All needles, stored as hashes, so that nothing needs to be built again when a value arrives.
pub(super) struct Index {
    filter: Filter,
    /// The first bytes of each needle, and in the lowest byte its length, at most [`PREFIX`]. They
    /// tell whether the last bytes of a text are the start of a needle.
    heads: BTreeSet<u128>,
    /// The lengths of needles shorter than [`PREFIX`].
    short: Vec<usize>,
    /// For the key of each prefix: which needles start with it.
    prefixes: KeyMap<Prefix>,
    /// For the key of each needle, the number of its value.
    needles: KeyMap<u32>,
}

/// The needles that start with one prefix.
#[derive(Default)]
struct Prefix {
    /// The lengths of needles less than twice as long as the prefix, in no order.
    lengths: Vec<usize>,
    /// The length of the longest needle.
    longest: usize,
}

/// A needle, ready to be added to an index.
pub(super) struct Sketch {
    head: u128,
    len: usize,
    key: u64,
    /// The keys of its prefixes, from the shortest on.
    prefixes: Vec<u64>,
}

/// A needle in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// The needle's length in bytes.
    pub(super) len: usize,
    /// The number of its value.
    pub(super) value: u32,
}

/// The result of a search at one position.
pub(super) enum Search {
    /// A longer needle may start here, depending on the bytes that follow.
    Undecided,
    /// The longest needle that starts here.
    Decided(Option<Match>),
}

impl Sketch {
    /// Computes the hashes of a needle.
    pub(super) fn new(needle: &[u8], empty: RollingHash) -> Self {
        let (mut hash, mut prefixes, mut next) = (empty, Vec::new(), PREFIX);
        for (len, byte) in (1_usize..).zip(needle) {
            hash.push(*byte);
            if len == next {
                prefixes.push(hash.key());
                next = next.saturating_mul(2);
            }
        }
        let mut head = [0; HEAD + 1];
        head.iter_mut().zip(needle.iter().take(HEAD)).for_each(|(slot, byte)| *slot = *byte);
        // At most PREFIX, which fits.
        *head.last_mut().unwrap_or(&mut 0) = needle.len().min(PREFIX) as u8;
        Self { head: u128::from_be_bytes(head), len: needle.len(), key: hash.key(), prefixes }
    }

    /// Returns the key of the needle.
    pub(super) fn key(&self) -> u64 {
        self.key
    }
}

impl Index {
    /// Creates an index without needles.
    pub(super) fn new() -> Self {
        Self {
            filter: Filter::new(),
            heads: BTreeSet::new(),
            short: Vec::new(),
            prefixes: KeyMap::default(),
            needles: KeyMap::default(),
        }
    }

    /// Adds a needle of a value, unless an equal one exists. Returns `false` if it exceeds
    /// [`PATTERNS_MAX`] or [`LENGTHS_MAX`].
    pub(super) fn add(&mut self, needle: &Sketch, value: u32) -> bool {
        if self.needles.contains_key(&needle.key) {
            return true;
        }
        if self.patterns().saturating_add(needle.prefixes.len()) >= PATTERNS_MAX {
            return false;
        }
        for key in &needle.prefixes {
            let prefix = self.prefixes.entry(*key).or_default();
            prefix.longest = prefix.longest.max(needle.len);
        }
        let last = needle.prefixes.last().and_then(|key| self.prefixes.get_mut(key));
        let lengths = last.map_or(&mut self.short, |prefix| &mut prefix.lengths);
        if !lengths.contains(&needle.len) {
            if lengths.len() >= LENGTHS_MAX {
                return false;
            }
            lengths.push(needle.len);
        }
        self.filter.add(needle.head);
        self.heads.insert(needle.head);
        self.needles.insert(needle.key, value);
        true
    }

    /// Returns the number of needles and prefixes.
    pub(super) fn patterns(&self) -> usize {
        self.needles.len().saturating_add(self.prefixes.len())
    }

    /// Returns how many bytes at the start of a text can be skipped, because no needle starts at
    /// them.
    pub(super) fn skip(&self, bytes: &[u8]) -> usize {
        if self.needles.is_empty() { bytes.len() } else { self.filter.skip(bytes) }
    }

    /// Searches for the longest needle that starts at a position. `last` says that no bytes follow
    /// the text.
    ///
    /// From [`PREFIX`] bytes on, only prefixes of certain lengths are known. A text that matches
    /// one is undecided until it is as long as the next one or as the longest needle with it.
    pub(super) fn search(&self, text: &mut HashedText, at: usize, last: bool) -> Search {
        let rest = text.bytes().get(at..).unwrap_or_default();
        let available = rest.len();
        if !last && available <= HEAD && self.is_start_of_head(rest) {
            return Search::Undecided;
        }
        let mut best = self.longest(&self.short, text, at, available);
        let mut len = PREFIX;
        while len <= available
            && let Some(prefix) = self.prefixes.get(&text.key(at, len))
        {
            len = len.saturating_mul(2);
            if !last && available < len && available < prefix.longest {
                return Search::Undecided;
            }
            best = self.longest(&prefix.lengths, text, at, available).or(best);
        }
        Search::Decided(best)
    }

    /// Returns the longest needle at a position that has one of the lengths.
    fn longest(&self, lengths: &[usize], text: &mut HashedText, at: usize, available: usize) -> Option<Match> {
        let find = |len: usize| Some(Match { len, value: *self.needles.get(&text.key(at, len))? });
        lengths.iter().copied().filter(|len| *len <= available).filter_map(find).max_by_key(|found| found.len)
    }

    /// Returns whether a text of at most [`HEAD`] bytes is the start of a needle, but not all of it.
    fn is_start_of_head(&self, text: &[u8]) -> bool {
        // The heads that start with the text are in a row, the shorter of equal ones first. So the
        // last one decides.
        let mut bound = [u8::MAX; HEAD + 1];
        bound.iter_mut().zip(text).for_each(|(slot, byte)| *slot = *byte);
        let head = self.heads.range(..=u128::from_be_bytes(bound)).next_back().map(|head| head.to_be_bytes());
        head.is_some_and(|head| head.starts_with(text) && usize::from(head[HEAD]) > text.len())
    }
}

/// The number of bits of the filter: 32 KiB, which fits into the L1 cache of most processors.
const FILTER_BITS: u32 = 18;

/// The first four bytes of each needle, as a bit table indexed by hash. It skips clean text without
/// computing its hashes. A collision costs time; a cleared bit is certain.
struct Filter(Box<[u64]>);

impl Filter {
    fn new() -> Self {
        Self(Box::default())
    }

    /// Returns the word and the bit of the first bytes of a needle. The highest bits of the product
    /// are mixed best.
    fn position(window: [u8; MIN_NEEDLE]) -> (usize, u32) {
        let position = u64::from(u32::from_le_bytes(window)).wrapping_mul(GOLDEN) >> (u64::BITS - FILTER_BITS);
        // Below the number of words, by the number of bits.
        ((position >> 6) as usize, (position & 63) as u32)
    }

    fn add(&mut self, head: u128) {
        if self.0.is_empty() {
            self.0 = vec![0; 1 << (FILTER_BITS - 6)].into_boxed_slice();
        }
        let [a, b, c, d, ..] = head.to_be_bytes();
        let (word, bit) = Self::position([a, b, c, d]);
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << bit;
        }
    }

    /// Returns the first position at which a needle may start, even if the text ends inside it.
    fn skip(&self, bytes: &[u8]) -> usize {
        let may_start = |window: &[u8; MIN_NEEDLE]| {
            let (word, bit) = Self::position(*window);
            self.0.get(word).is_none_or(|word| word >> bit & 1 == 1)
        };
        let found = bytes.array_windows().position(may_start);
        found.unwrap_or(bytes.len().saturating_sub(MIN_NEEDLE - 1))
    }
}
