//! Hashes of byte strings, and of every part of a text in constant time.
//!
//! The hash is a polynomial over the prime 2^61 - 1 with a random base. Two strings of `n` bytes
//! that differ have the same hash for at most `n` of the 2^61 bases, so a collision is not to be
//! expected. A component that could construct one would gain nothing: it can also encode a value in
//! a way that is not searched for.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState};

use zeroize::{Zeroize, Zeroizing};

const MODULUS: u64 = (1 << 61) - 1;

/// The golden ratio as a fraction of 2^64. Multiplication by it carries all differences into the
/// highest bits.
pub(super) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The base of the polynomial, and the hash of the bytes read so far.
#[derive(Clone, Copy)]
pub(super) struct RollingHash {
    base: u64,
    sum: u64,
    len: usize,
}

impl RollingHash {
    /// Creates the hash of no bytes, with a random base.
    pub(super) fn new() -> Self {
        Self { base: RandomState::new().hash_one(GOLDEN) % (MODULUS - 256) + 256, sum: 0, len: 0 }
    }

    /// Appends a byte.
    pub(super) fn push(&mut self, byte: u8) {
        self.sum = reduce(multiply(self.sum, self.base).wrapping_add(u64::from(byte)));
        self.len = self.len.saturating_add(1);
    }

    /// Returns the key of the bytes read so far.
    pub(super) fn key(&self) -> u64 {
        key(self.sum, self.len)
    }
}

/// Returns the product modulo the modulus.
fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a).wrapping_mul(u128::from(b));
    // Both halves have at most 61 bits.
    let (low, high) = (product & u128::from(MODULUS), product >> 61);
    reduce((low as u64).wrapping_add(high as u64))
}

/// Reduces a sum of two numbers below the modulus.
fn reduce(sum: u64) -> u64 {
    if sum >= MODULUS { sum.wrapping_sub(MODULUS) } else { sum }
}

/// Returns the key of a string: its hash, mixed with its length, because the hash does not see
/// leading zeros.
fn key(sum: u64, len: usize) -> u64 {
    // A length fits into 64 bits.
    sum.wrapping_add((len as u64).wrapping_mul(GOLDEN))
}

/// A text of which every part can be hashed in constant time. It is zeroized when it is dropped.
pub(super) struct HashedText {
    bytes: Zeroizing<Vec<u8>>,
    /// The number of bytes at the front that were dropped.
    dropped: usize,
    /// The hashes of the bytes from `hashed_from` up to each position. They are computed when they
    /// are needed: most text is never hashed.
    sums: Zeroizing<Vec<u64>>,
    hashed_from: usize,
    /// For each length, the base to this power.
    powers: Vec<u64>,
    empty: RollingHash,
    /// How many hashes were asked for.
    #[cfg(test)]
    pub(super) lookups: u64,
}

impl HashedText {
    /// Creates an empty text whose hashes have the base of `empty`.
    pub(super) fn new(empty: RollingHash) -> Self {
        Self {
            bytes: Zeroizing::default(),
            dropped: 0,
            sums: Zeroizing::default(),
            hashed_from: 0,
            powers: vec![1],
            empty,
            #[cfg(test)]
            lookups: 0,
        }
    }

    /// Returns the text.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.dropped..).unwrap_or_default()
    }

    /// Appends bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.dropped > self.bytes.len() / 2 {
            self.bytes.drain(..self.dropped);
            let sums = self.dropped.saturating_sub(self.hashed_from).min(self.sums.len());
            self.sums.drain(..sums);
            self.hashed_from = self.hashed_from.saturating_sub(self.dropped);
            self.dropped = 0;
        }
        reserve(&mut self.bytes, bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// Drops bytes at the front.
    pub(super) fn drop_front(&mut self, count: usize) {
        self.dropped = self.dropped.saturating_add(count).min(self.bytes.len());
    }

    /// Returns the key of `len` bytes from a position on; zero beyond the end. The position must
    /// not be before that of an earlier call.
    pub(super) fn key(&mut self, at: usize, len: usize) -> u64 {
        #[cfg(test)]
        (self.lookups += 1);
        let at = self.dropped.saturating_add(at);
        if at >= self.hashed_from.saturating_add(self.sums.len()) {
            self.sums.clear();
            reserve(&mut self.sums, 1);
            self.sums.push(0);
            self.hashed_from = at;
        }
        let first = at.saturating_sub(self.hashed_from);
        let last = first.saturating_add(len);
        if self.sums.len() <= last {
            let done = self.sums.len().saturating_sub(1);
            let from = self.hashed_from.saturating_add(done);
            reserve(&mut self.sums, last.saturating_sub(done));
            let mut hash = RollingHash { sum: self.sums.last().copied().unwrap_or_default(), ..self.empty };
            for byte in self.bytes.iter().skip(from).take(last.saturating_sub(done)) {
                hash.push(*byte);
                self.sums.push(hash.sum);
            }
        }
        while self.powers.len() <= len {
            let power = self.powers.last().copied().unwrap_or(1);
            self.powers.push(multiply(power, self.empty.base));
        }
        match (self.sums.get(first), self.sums.get(last), self.powers.get(len)) {
            (Some(before), Some(after), Some(power)) => {
                let before = multiply(*before, *power);
                key(reduce(after.wrapping_add(MODULUS).wrapping_sub(before)), len)
            }
            _ => 0,
        }
    }

    /// Returns the memory that it uses, in bytes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + 8 * (self.sums.capacity() + self.powers.capacity())
    }
}

/// Makes room for more items. Growing in place could move the items and leave a copy behind.
fn reserve<T: Copy + Zeroize>(items: &mut Zeroizing<Vec<T>>, more: usize) {
    let needed = items.len().saturating_add(more);
    if needed > items.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.saturating_add(needed / 2)));
        larger.extend_from_slice(items);
        *items = larger;
    }
}

/// Passes a key through: keys are hashes with a random base.
#[derive(Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0.rotate_left(8) ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// A map from keys.
pub(super) type KeyMap<T> = HashMap<u64, T, BuildHasherDefault<KeyHasher>>;

/// A set of keys.
pub(super) type KeySet = HashSet<u64, BuildHasherDefault<KeyHasher>>;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key_of(empty: RollingHash, bytes: &[u8]) -> u64 {
        let mut hash = empty;
        bytes.iter().for_each(|byte| hash.push(*byte));
        hash.key()
    }

    proptest! {
        #[test]
        fn key_of_a_part_is_the_key_of_its_bytes(
            chunks in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), 0..9_usize, 0..9_usize, 0..20_usize), 1..12),
        ) {
            let empty = RollingHash::new();
            let (mut text, mut expected) = (HashedText::new(empty), Vec::new());
            for (chunk, dropped, at, len) in chunks {
                text.push(&chunk);
                expected.extend_from_slice(&chunk);
                let dropped = dropped.min(expected.len());
                text.drop_front(dropped);
                expected.drain(..dropped);
                prop_assert_eq!(text.bytes(), &expected);
                let at = at.min(expected.len());
                let part = &expected[at..(at + len).min(expected.len())];
                for len in [0, part.len()] {
                    prop_assert_eq!(text.key(at, len), key_of(empty, &part[..len]));
                }
                // Later positions only.
                text.drop_front(at);
                expected.drain(..at);
            }
        }

        #[test]
        fn different_strings_have_different_keys(one in prop::collection::vec(0..2_u8, 0..5), other in prop::collection::vec(0..2_u8, 0..5)) {
            let empty = RollingHash::new();
            prop_assert_eq!(one == other, key_of(empty, &one) == key_of(empty, &other));
        }
    }
}
