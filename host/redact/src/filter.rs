//! Skips positions at which no needle starts, without reading every byte.
//!
//! A [`Filter`] returns the next position at which a needle may start. It never skips the start of
//! a needle; where it stops, the automata decide. It therefore affects the speed on clean text, but
//! never the result.
//!
//! The filter checks windows of four bytes. If every needle has at least `STRIDE + 3` bytes, each
//! occurrence contains a complete window in any `STRIDE` consecutive positions, so it is enough to
//! check every `STRIDE`th position. The set `windows` contains the windows that start at the first
//! `STRIDE` bytes of each needle. Only if a window is in this set, each position that it stands for
//! is looked up in the set `prefixes`: the first eight bytes of each needle, or the first four of a
//! shorter one.
//!
//! Both sets are bit tables of fixed size, indexed by hash. A collision costs time; a cleared bit
//! is certain. The tables are zeroized when dropped, like the values.

use zeroize::Zeroizing;

use super::encoders::MIN_NEEDLE;
use super::needles::{Entry, HEAD};

/// The length of a window in bytes. Every needle is at least as long.
pub(super) const WINDOW: usize = MIN_NEEDLE;

/// The length of a prefix in bytes, for needles that are long enough.
const PREFIX: usize = 8;

/// The maximum distance between checked windows.
const STRIDE_MAX: usize = 8;

/// 32 KiB, so that the table fits into the L1 cache of most processors.
const WINDOW_BITS: u32 = 18;

/// 64 KiB, accessed only if a window matched.
const PREFIX_BITS: u32 = 19;

// The stored head of a needle contains all windows of a stride, and a window fits into a `u32`.
const _: () = assert!(STRIDE_MAX + WINDOW <= HEAD && PREFIX <= HEAD && WINDOW == 4);

/// The positions at which needles may start.
#[derive(Clone)]
pub(super) struct Filter {
    stride: Stride,
    windows: BitSet<{ words(WINDOW_BITS) }, WINDOW_BITS>,
    prefixes: BitSet<{ words(PREFIX_BITS) }, PREFIX_BITS>,
    /// Whether any needle is shorter than a prefix.
    short: bool,
}

/// The distance between two checked windows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stride {
    One,
    Two,
    Four,
    Eight,
}

impl Stride {
    /// Returns the maximum stride for needles of at least `shortest` bytes.
    fn for_needles(shortest: usize) -> Self {
        match shortest.saturating_sub(WINDOW - 1) {
            ..2 => Self::One,
            2..4 => Self::Two,
            4..8 => Self::Four,
            8.. => Self::Eight,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

impl Filter {
    /// Creates a filter for all needles of some values.
    pub(super) fn new<'a>(entries: impl Iterator<Item = &'a Entry> + Clone) -> Self {
        let lengths = entries.clone().flat_map(|entry| entry.needles().iter().map(super::needles::Needle::len));
        let stride = Stride::for_needles(lengths.min().unwrap_or(usize::MAX));
        let mut filter = Self { stride, windows: BitSet::new(), prefixes: BitSet::new(), short: false };
        for entry in entries {
            for needle in entry.needles() {
                filter.add(&needle.prefix(entry, HEAD));
            }
        }
        filter
    }

    /// Adds a needle, given its first bytes.
    fn add(&mut self, prefix: &[u8]) {
        for window in prefix.array_windows().take(self.stride.bytes()) {
            self.windows.set(hash_window(window));
        }
        match prefix.first_chunk() {
            Some(first) => self.prefixes.set(hash_long(first)),
            None => {
                self.short = true;
                prefix.first_chunk().into_iter().for_each(|first| self.prefixes.set(hash_short(first)));
            }
        }
    }

    /// Adds the needles of another filter.
    pub(super) fn merge(&mut self, other: &Self) {
        // A needle that was added for the longer stride has all windows that the shorter one needs.
        self.stride = self.stride.min(other.stride);
        self.windows.merge(&other.windows);
        self.prefixes.merge(&other.prefixes);
        self.short |= other.short;
    }

    /// Returns the first position, from `from` on, at which a needle may start, even if it is cut
    /// off by the end of the bytes. Returns at most the number of bytes.
    pub(super) fn next(&self, bytes: &[u8], from: usize) -> usize {
        let rest = bytes.get(from..).unwrap_or_default();
        let skipped = match self.stride {
            Stride::One => self.skip::<1>(rest),
            Stride::Two => self.skip::<2>(rest),
            Stride::Four => self.skip::<4>(rest),
            Stride::Eight => self.skip::<8>(rest),
        };
        from.saturating_add(skipped)
    }

    /// Returns how many positions can be skipped.
    fn skip<const STRIDE: usize>(&self, bytes: &[u8]) -> usize {
        // The last window that a needle at the first position must have.
        let mut windows = bytes.get(STRIDE.saturating_sub(1)..).unwrap_or_default();
        let mut skipped = 0_usize;
        loop {
            let count = self.count_absent::<STRIDE>(windows);
            skipped = skipped.saturating_add(count.saturating_mul(STRIDE));
            let positions = bytes.get(skipped..).unwrap_or_default();
            windows = windows.get(count.saturating_mul(STRIDE)..).unwrap_or_default();
            if windows.len() < WINDOW {
                return skipped;
            }
            if let Some(at) = (0..STRIDE).find(|&at| self.may_start(positions.get(at..).unwrap_or_default())) {
                return skipped.saturating_add(at);
            }
            skipped = skipped.saturating_add(STRIDE);
            windows = windows.get(STRIDE..).unwrap_or_default();
        }
    }

    /// Counts the windows, one stride apart from the first byte on, until one may belong to a
    /// needle or no complete window is left.
    fn count_absent<const STRIDE: usize>(&self, bytes: &[u8]) -> usize {
        let absent = |window: &[u8; WINDOW]| !self.windows.has(hash_window(window));
        if STRIDE == 1 {
            return bytes.array_windows().take_while(|window| absent(window)).count();
        }
        // Strides of four and more contain a window; the last window may be in an incomplete
        // stride.
        let mut count = 0_usize;
        if STRIDE >= WINDOW {
            let (strides, _) = bytes.as_chunks::<STRIDE>();
            count = strides.iter().take_while(|stride| stride.first_chunk().is_some_and(absent)).count();
            if count < strides.len() {
                return count;
            }
        }
        let rest = bytes.get(count.saturating_mul(STRIDE)..).unwrap_or_default();
        count.saturating_add(rest.array_windows().step_by(STRIDE).take_while(|window| absent(window)).count())
    }

    /// Returns whether a needle may start with these bytes, or they with it.
    fn may_start(&self, bytes: &[u8]) -> bool {
        let Some(first) = bytes.first_chunk::<PREFIX>() else { return true };
        let [a, b, c, d, ..] = *first;
        self.prefixes.has(hash_long(first)) || self.short && self.prefixes.has(hash_short(&[a, b, c, d]))
    }
}

/// A bit set indexed by hash.
struct BitSet<const WORDS: usize, const BITS: u32>(Box<Zeroizing<[u64; WORDS]>>);

/// Returns how many words hold this many bits, as a power of two.
const fn words(bits: u32) -> usize {
    1 << (bits - 6)
}

impl<const WORDS: usize, const BITS: u32> BitSet<WORDS, BITS> {
    fn new() -> Self {
        Self(Box::new(Zeroizing::new([0; WORDS])))
    }

    /// Returns the word and the bit of a hash. The highest bits of the hash are mixed best.
    fn position(hash: u64) -> (usize, u32) {
        let position = hash >> (u64::BITS - BITS);
        // Below the number of words, by the number of bits.
        (usize::try_from(position >> 6).unwrap_or(0), (position & 63) as u32)
    }

    fn set(&mut self, hash: u64) {
        let (word, bit) = Self::position(hash);
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << bit;
        }
    }

    fn has(&self, hash: u64) -> bool {
        let (word, bit) = Self::position(hash);
        // A position outside the table cannot be ruled out.
        self.0.get(word).is_none_or(|word| word >> bit & 1 == 1)
    }

    fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(word, other)| *word |= other);
    }
}

impl<const WORDS: usize, const BITS: u32> Clone for BitSet<WORDS, BITS> {
    fn clone(&self) -> Self {
        let mut copy = Self::new();
        copy.merge(self);
        copy
    }
}

/// The golden ratio as a fraction of 2^64. Multiplication by it carries all differences into the
/// highest bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn hash_window(window: &[u8; WINDOW]) -> u64 {
    u64::from(u32::from_le_bytes(*window)).wrapping_mul(GOLDEN)
}

/// Uses other positions than `hash_long`, so that a window that many needles share does not make
/// every prefix match.
fn hash_short(prefix: &[u8; WINDOW]) -> u64 {
    (!u64::from(u32::from_le_bytes(*prefix))).wrapping_mul(GOLDEN)
}

fn hash_long(prefix: &[u8; PREFIX]) -> u64 {
    let mixed = u64::from_le_bytes(*prefix);
    // The first bytes are the lowest and affect all bits above; the shift brings the last bytes
    // down.
    (mixed ^ (mixed >> 32)).wrapping_mul(GOLDEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use strongroom_core::ids::SecretName;

    fn entries(values: &[String]) -> Vec<Entry> {
        values.iter().map(|value| Entry::new(SecretName::parse("a").unwrap(), value)).collect()
    }

    fn whole(entry: &Entry) -> impl Iterator<Item = Vec<u8>> {
        entry.needles().iter().map(|needle| needle.prefix(entry, needle.len()).to_vec())
    }

    #[test]
    fn stride_follows_from_the_shortest_needle() {
        let stride = |value: &str| Filter::new(entries(&[value.to_owned()]).iter()).stride.bytes();
        assert_eq!(
            [4, 5, 6, 7, 8, 10, 11, 30].map(|len| stride(&"abcdefghij".repeat(3)[..len])),
            [1, 2, 2, 4, 4, 4, 8, 8]
        );
        let mut filter = Filter::new(entries(&["a-longer-value".to_owned()]).iter());
        assert_eq!((filter.stride.bytes(), filter.short), (8, false));
        filter.merge(&Filter::new(entries(&["abcd".to_owned()]).iter()));
        assert_eq!((filter.stride.bytes(), filter.short), (1, true));
    }

    #[test]
    fn clean_text_is_skipped_up_to_its_last_bytes() {
        let filter = Filter::new(entries(&["correct horse".to_owned(), "hunter2hunter2".to_owned()]).iter());
        let text = "clean text of no value. ".repeat(100);
        assert!(filter.next(text.as_bytes(), 0) > text.len() - 16);
        assert_eq!(filter.next(b"some clean text and hunter2hunter2", 0), 20);
        assert_eq!(filter.next(b"some clean text and hunter2hunter2", 20), 20);
        // An incomplete stride is not skipped.
        assert!((13..=20).contains(&filter.next(b"some clean text and hunt", 3)));
        assert_eq!((filter.next(b"", 0), filter.next(b"abc", 3), filter.next(b"abc", 9)), (0, 3, 9));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        /// The filter stops at or before every position at which a needle starts, complete or cut
        /// off by the end of the text. This also holds for two merged filters.
        // promise: The filter that skips clean text changes neither the redacted output nor the
        // time of its release.
        #[test]
        fn filter_never_skips_the_start_of_a_needle(
            values in prop::collection::vec(prop_oneof!["[ab]{4,12}", "[a-z0-9+/'\"\\\\ ]{4,30}", "\\PC{4,20}"], 1..6),
            parts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[ab -~]{0,9}"), 0..8),
            end in any::<prop::sample::Index>(),
        ) {
            let entries = entries(&values);
            let needles: Vec<Vec<u8>> = entries.iter().flat_map(whole).collect();
            prop_assume!(!needles.is_empty());
            let part = |(needle, len, noise): &(prop::sample::Index, prop::sample::Index, String)| {
                let needle = needle.get(&needles);
                let len = len.index(2 * needle.len()).min(needle.len());
                [noise.as_bytes(), &needle[..len]].concat()
            };
            let mut text: Vec<u8> = parts.iter().flat_map(part).collect();
            text.truncate(end.index(text.len() + 1));
            let mut merged = Filter::new(entries[..1].iter());
            merged.merge(&Filter::new(entries[1..].iter()));
            let begins = |at: &usize| needles.iter().any(|needle| {
                let len = needle.len().min(text.len() - at);
                text[*at..].starts_with(&needle[..len])
            });
            let starts: Vec<usize> = (0..text.len()).filter(begins).collect();
            for filter in [Filter::new(entries.iter()), merged] {
                for from in 0..=text.len() {
                    let stop = filter.next(&text, from);
                    prop_assert!((from..=text.len()).contains(&stop));
                    prop_assert!(!starts.iter().any(|start| (from..stop).contains(start)), "from {from} to {stop} of {text:?}");
                }
            }
        }
    }
}
