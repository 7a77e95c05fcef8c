//! Passing over the places where no needle begins, without reading every byte of them.
//!
//! A [`Filter`] answers one question: from here on, where is the next place at which a needle may begin? Whatever it passes over is
//! certain; where it stops, the automata look. So it decides how fast clean text goes, and never what is found.
//!
//! It looks at windows of four bytes. If no needle is shorter than `STRIDE + 3` bytes, each occurrence holds a whole window among any
//! `STRIDE` that follow each other, so that looking at every `STRIDE`th is enough: the set `windows` has, of each needle, those that
//! begin at its first `STRIDE` bytes. Only where a window is in that set, each of the places that it stands for is asked about in the set
//! `beginnings`: the first eight bytes of each needle, or the first four of a shorter one.
//!
//! Both sets hold hashes in a table of bits of fixed size: a bit that is set for another reason costs time, one that is not set is
//! certain. They are overwritten when dropped, like the values.

use zeroize::Zeroizing;

use super::encoders::MIN_NEEDLE;
use super::needles::{Entry, HEAD};

/// The bytes of a window. A needle has at least as many.
pub(super) const WINDOW: usize = MIN_NEEDLE;

/// The bytes of a beginning, where the needle has them.
const BEGINNING: usize = 8;

/// The greatest distance between windows that are looked at.
const STRIDE_MAX: usize = 8;

/// 32 KiB: a good part of the cache that is nearest to a processor.
const WINDOW_BITS: u32 = 18;

/// 64 KiB, which is looked into where a window was found.
const BEGINNING_BITS: u32 = 19;

// The kept beginning of a needle has all windows of a stride, and a window is what fits into a `u32`.
const _: () = assert!(STRIDE_MAX + WINDOW <= HEAD && BEGINNING <= HEAD && WINDOW == 4);

/// Where needles may begin.
#[derive(Clone)]
pub(super) struct Filter {
    stride: Stride,
    windows: Bits<{ words(WINDOW_BITS) }, WINDOW_BITS>,
    beginnings: Bits<{ words(BEGINNING_BITS) }, BEGINNING_BITS>,
    /// Whether a needle is shorter than a beginning.
    short: bool,
}

/// The distance between two windows that are looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stride {
    One,
    Two,
    Four,
    Eight,
}

impl Stride {
    /// The greatest for needles of at least so many bytes.
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
    /// The filter of all needles of some values.
    pub(super) fn new<'a>(entries: impl Iterator<Item = &'a Entry> + Clone) -> Self {
        let lengths = entries.clone().flat_map(|entry| entry.needles().iter().map(super::needles::Needle::len));
        let stride = Stride::for_needles(lengths.min().unwrap_or(usize::MAX));
        let mut filter = Self { stride, windows: Bits::new(), beginnings: Bits::new(), short: false };
        for entry in entries {
            for needle in entry.needles() {
                filter.add(&needle.beginning(entry, HEAD));
            }
        }
        filter
    }

    /// Adds a needle by its first bytes.
    fn add(&mut self, beginning: &[u8]) {
        for window in beginning.array_windows().take(self.stride.bytes()) {
            self.windows.set(scatter(window));
        }
        match beginning.first_chunk() {
            Some(first) => self.beginnings.set(scatter_long(first)),
            None => {
                self.short = true;
                beginning.first_chunk().into_iter().for_each(|first| self.beginnings.set(scatter_short(first)));
            }
        }
    }

    /// Makes this the filter of the other's needles too.
    pub(super) fn unite(&mut self, other: &Self) {
        // A needle added for the longer stride has the windows that the shorter one asks for.
        self.stride = self.stride.min(other.stride);
        self.windows.unite(&other.windows);
        self.beginnings.unite(&other.beginnings);
        self.short |= other.short;
    }

    /// The first place, from the given one on, where a needle may begin; of a needle that is cut by the end of the bytes too. At most
    /// the number of bytes.
    pub(super) fn next(&self, bytes: &[u8], from: usize) -> usize {
        let rest = bytes.get(from..).unwrap_or_default();
        let passed = match self.stride {
            Stride::One => self.pass::<1>(rest),
            Stride::Two => self.pass::<2>(rest),
            Stride::Four => self.pass::<4>(rest),
            Stride::Eight => self.pass::<8>(rest),
        };
        from.saturating_add(passed)
    }

    /// How many places can be passed over.
    fn pass<const STRIDE: usize>(&self, bytes: &[u8]) -> usize {
        // The last window that a needle at the first place must have.
        let mut windows = bytes.get(STRIDE.saturating_sub(1)..).unwrap_or_default();
        let mut passed = 0_usize;
        loop {
            let count = self.absent::<STRIDE>(windows);
            passed = passed.saturating_add(count.saturating_mul(STRIDE));
            let places = bytes.get(passed..).unwrap_or_default();
            windows = windows.get(count.saturating_mul(STRIDE)..).unwrap_or_default();
            if windows.len() < WINDOW {
                return passed;
            }
            if let Some(at) = (0..STRIDE).find(|&at| self.may_begin(places.get(at..).unwrap_or_default())) {
                return passed.saturating_add(at);
            }
            passed = passed.saturating_add(STRIDE);
            windows = windows.get(STRIDE..).unwrap_or_default();
        }
    }

    /// How many windows, from the first byte on and one stride apart, are of no needle until one may be, or until no whole one is left.
    fn absent<const STRIDE: usize>(&self, bytes: &[u8]) -> usize {
        let absent = |window: &[u8; WINDOW]| !self.windows.has(scatter(window));
        if STRIDE == 1 {
            return bytes.array_windows().take_while(|window| absent(window)).count();
        }
        // Strides from four on hold a window; the last one may stand in an unfinished stride.
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

    /// Whether a needle may begin with these bytes, or they with it.
    fn may_begin(&self, bytes: &[u8]) -> bool {
        let Some(first) = bytes.first_chunk::<BEGINNING>() else { return true };
        let [a, b, c, d, ..] = *first;
        self.beginnings.has(scatter_long(first)) || self.short && self.beginnings.has(scatter_short(&[a, b, c, d]))
    }
}

/// A set of hashes.
struct Bits<const WORDS: usize, const BITS: u32>(Box<Zeroizing<[u64; WORDS]>>);

/// How many words hold so many bits, as a power of two.
const fn words(bits: u32) -> usize {
    1 << (bits - 6)
}

impl<const WORDS: usize, const BITS: u32> Bits<WORDS, BITS> {
    fn new() -> Self {
        Self(Box::new(Zeroizing::new([0; WORDS])))
    }

    /// The place of a hash: word, and bit of the word. The topmost bits of the hash are its best.
    fn place(hash: u64) -> (usize, u32) {
        let place = hash >> (u64::BITS - BITS);
        // Below the number of words, since the bits are so many.
        (usize::try_from(place >> 6).unwrap_or(0), (place & 63) as u32)
    }

    fn set(&mut self, hash: u64) {
        let (word, bit) = Self::place(hash);
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << bit;
        }
    }

    fn has(&self, hash: u64) -> bool {
        let (word, bit) = Self::place(hash);
        // What is not in the table cannot be ruled out.
        self.0.get(word).is_none_or(|word| word >> bit & 1 == 1)
    }

    fn unite(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(word, other)| *word |= other);
    }
}

impl<const WORDS: usize, const BITS: u32> Clone for Bits<WORDS, BITS> {
    fn clone(&self) -> Self {
        let mut copy = Self::new();
        copy.unite(self);
        copy
    }
}

/// The golden ratio as a fraction of 2^64: multiplying by it moves what differs anywhere into the topmost bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn scatter(window: &[u8; WINDOW]) -> u64 {
    u64::from(u32::from_le_bytes(*window)).wrapping_mul(GOLDEN)
}

/// A place of its own, so that a window of many needles does not make each beginning look like one.
fn scatter_short(beginning: &[u8; WINDOW]) -> u64 {
    (!u64::from(u32::from_le_bytes(*beginning))).wrapping_mul(GOLDEN)
}

fn scatter_long(beginning: &[u8; BEGINNING]) -> u64 {
    let mixed = u64::from_le_bytes(*beginning);
    // The first bytes are the lowest and reach everywhere; the last ones come down by themselves.
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
        entry.needles().iter().map(|needle| needle.beginning(entry, needle.len()).to_vec())
    }

    #[test]
    fn the_stride_is_what_the_shortest_needle_allows() {
        let stride = |value: &str| Filter::new(entries(&[value.to_owned()]).iter()).stride.bytes();
        assert_eq!(
            [4, 5, 6, 7, 8, 10, 11, 30].map(|len| stride(&"abcdefghij".repeat(3)[..len])),
            [1, 2, 2, 4, 4, 4, 8, 8]
        );
        let mut filter = Filter::new(entries(&["a-longer-value".to_owned()]).iter());
        assert_eq!((filter.stride.bytes(), filter.short), (8, false));
        filter.unite(&Filter::new(entries(&["abcd".to_owned()]).iter()));
        assert_eq!((filter.stride.bytes(), filter.short), (1, true));
    }

    #[test]
    fn clean_text_is_passed_over_to_its_last_bytes() {
        let filter = Filter::new(entries(&["correct horse".to_owned(), "hunter2hunter2".to_owned()]).iter());
        let text = "clean text of no value. ".repeat(100);
        assert!(filter.next(text.as_bytes(), 0) > text.len() - 16);
        assert_eq!(filter.next(b"some clean text and hunter2hunter2", 0), 20);
        assert_eq!(filter.next(b"some clean text and hunter2hunter2", 20), 20);
        // A stride that is not whole is not passed over.
        assert!((13..=20).contains(&filter.next(b"some clean text and hunt", 3)));
        assert_eq!((filter.next(b"", 0), filter.next(b"abc", 3), filter.next(b"abc", 9)), (0, 3, 9));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        /// Wherever a needle begins, whole or cut by the end of the text, the filter stops there or before. Two filters united are one.
        // promise: The filter that skips clean text changes neither the redacted output nor the
        // time of its release.
        #[test]
        fn no_beginning_is_passed_over(
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
            let mut united = Filter::new(entries[..1].iter());
            united.unite(&Filter::new(entries[1..].iter()));
            let begins = |at: &usize| needles.iter().any(|needle| {
                let len = needle.len().min(text.len() - at);
                text[*at..].starts_with(&needle[..len])
            });
            let places: Vec<usize> = (0..text.len()).filter(begins).collect();
            for filter in [Filter::new(entries.iter()), united] {
                for from in 0..=text.len() {
                    let stop = filter.next(&text, from);
                    prop_assert!((from..=text.len()).contains(&stop));
                    prop_assert!(!places.iter().any(|place| (from..stop).contains(place)), "from {from} to {stop} of {text:?}");
                }
            }
        }
    }
}
