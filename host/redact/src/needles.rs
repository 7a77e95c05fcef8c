//! A registered value and its needles.
//!
//! A needle is stored as its first bytes and the encoder that produces the rest. [`LazyNeedle`]
//! computes the rest as far as a match has progressed.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::sync::{Arc, OnceLock};

use zeroize::{Zeroize as _, Zeroizing};

use super::encoders::{FORMS, Form, MIN_NEEDLE, needles_at_most, pieces};
use strongroom_core::ids::SecretName;

/// The number of stored bytes of a needle. The automaton uses them as the needle's head, unless
/// many needles have the same head. Longer heads need memory for every line of every value; shorter
/// ones match more often by chance and are shared by more needles.
pub(super) const HEAD: usize = 16;

/// A registered value.
pub(super) struct Entry {
    name: SecretName,
    value: Zeroizing<Box<str>>,
    /// Computed on first use: many runs use a value and print nothing afterwards.
    needles: OnceLock<Vec<Needle>>,
}

/// The output of one encoder for one piece of a value.
pub(super) struct Needle {
    head: [u8; HEAD],
    form: &'static Form,
    /// The start and length of the piece in the value, in bytes.
    piece: (usize, usize),
    len: usize,
}

impl Entry {
    /// Creates an entry with a copy of the value.
    pub(super) fn new(name: SecretName, value: &str) -> Self {
        Self { name, value: Zeroizing::new(Box::from(value)), needles: OnceLock::new() }
    }

    /// Computes the needles, without duplicates.
    fn compute(value: &str) -> Vec<Needle> {
        let mut needles: Vec<Needle> = Vec::new();
        let mut seen: HashMap<u64, Vec<Zeroizing<Vec<u8>>>> = HashMap::new();
        let hasher = RandomState::new();
        for form in FORMS {
            for piece in pieces(form.scope, value) {
                let encoded = form.encode(part(value, piece, piece.1), true);
                let same = seen.entry(hasher.hash_one(encoded.as_slice())).or_default();
                if encoded.len() < MIN_NEEDLE || same.contains(&encoded) {
                    continue;
                }
                let mut head = [0; HEAD];
                head.iter_mut().zip(encoded.iter()).for_each(|(slot, byte)| *slot = *byte);
                needles.push(Needle { head, form, piece, len: encoded.len() });
                // Copied to drop the encoder's spare capacity.
                same.push(encoded.clone());
            }
        }
        needles
    }

    /// Returns the name for the marker.
    pub(super) fn name(&self) -> &SecretName {
        &self.name
    }

    /// Returns the needles.
    pub(super) fn needles(&self) -> &[Needle] {
        self.needles.get_or_init(|| Self::compute(&self.value))
    }

    /// Returns by how much [`needles_at_most`] overestimates the number of needles; `None` after
    /// the first call.
    pub(super) fn overestimate(&self) -> Option<usize> {
        let counted = self.needles.get().is_some();
        (!counted).then(|| needles_at_most(self.value.len()).saturating_sub(self.needles().len()))
    }
}

/// An entry that is compared and hashed by its value.
pub(super) struct EntryByValue(pub(super) Arc<Entry>);

impl Borrow<str> for EntryByValue {
    fn borrow(&self) -> &str {
        &self.0.value
    }
}

impl PartialEq for EntryByValue {
    fn eq(&self, other: &Self) -> bool {
        self.0.value == other.0.value
    }
}

impl Eq for EntryByValue {}

impl Hash for EntryByValue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let value: &str = self.borrow();
        value.hash(state);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.needles.get_mut().into_iter().flatten().for_each(|needle| needle.head.zeroize());
    }
}

impl Needle {
    /// Returns the first `len` bytes, or all bytes of a shorter needle.
    pub(super) fn prefix(&self, entry: &Entry, len: usize) -> Zeroizing<Vec<u8>> {
        let len = len.min(self.len);
        if let Some(kept) = self.head.get(..len) {
            return Zeroizing::new(kept.to_vec());
        }
        let mut lazy = LazyNeedle::new();
        lazy.byte(entry, self, len.saturating_sub(1));
        Zeroizing::new(lazy.bytes.get(..len).unwrap_or_default().to_vec())
    }

    /// Returns the length in bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// Returns the first bytes of a piece, at most `len`, cut at a character boundary.
fn part(value: &str, piece: (usize, usize), len: usize) -> &str {
    let rest = value.get(piece.0..piece.0.saturating_add(piece.1)).unwrap_or_default();
    rest.get(..rest.floor_char_boundary(len)).unwrap_or_default()
}

/// A needle that is computed from its value as far as needed.
pub(super) struct LazyNeedle {
    bytes: Zeroizing<Vec<u8>>,
    /// The number of bytes of the piece that were encoded.
    read: usize,
}

impl LazyNeedle {
    /// Creates a needle of which nothing is computed.
    pub(super) fn new() -> Self {
        Self { bytes: Zeroizing::new(Vec::new()), read: 0 }
    }

    /// Returns the byte at an offset; `None` beyond the end.
    pub(super) fn byte(&mut self, entry: &Entry, needle: &Needle, at: usize) -> Option<u8> {
        while at >= self.bytes.len() && at < needle.len && self.read < needle.piece.1 {
            // Doubling keeps the total work below twice that of the last step.
            self.read = self.read.max(2 * HEAD).saturating_mul(2).min(needle.piece.1);
            let encoded = needle.form.encode(part(&entry.value, needle.piece, self.read), self.read == needle.piece.1);
            // Copied to drop the encoder's spare capacity.
            self.bytes = encoded.clone();
        }
        self.get(at)
    }

    /// Returns the memory that it uses, in bytes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Returns the byte at an offset that was already computed.
    pub(super) fn get(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::encoders::{Scope, shortest_needle};
    use super::*;
    use proptest::prelude::*;

    fn entry(value: &str) -> Entry {
        Entry::new(SecretName::parse("a").unwrap(), value)
    }

    #[test]
    fn equal_needles_of_two_encoders_are_stored_once() {
        // Letters are unchanged by JSON and percent-encoding, and the only line is the value.
        let entry = entry("onlyletters");
        let plain = entry.needles().iter().filter(|needle| *needle.prefix(&entry, HEAD) == b"onlyletters").count();
        assert_eq!(plain, 1);
    }

    #[test]
    fn long_value_has_few_needles() {
        let entry = entry(&"0123456789abcdef".repeat(1600));
        // The value; base64 (two alignments with three ends, one that ends with a group; after a
        // colon, three ends and one; in lines, four kinds); two lists of bytes; hexadecimal,
        // percent and `\u`, each the same in both cases because no digit is a letter.
        assert_eq!(entry.needles().len(), 1 + 7 + 4 + 4 + 2 + 3);
    }

    proptest! {
        #[test]
        fn shortest_needle_is_a_lower_bound(value in "[a-zäß€𝄞\"\\\\ %/\n\r\t'<&{]{4,80}") {
            let entry = entry(&value);
            let shortest = shortest_needle(&value);
            for needle in entry.needles() {
                prop_assert!(needle.len() >= shortest, "{} of {:?}", needle.form.name, needle.prefix(&entry, 80));
            }
        }

        /// Holds for every kind of white space and line ending, including those inside a single
        /// piece.
        #[test]
        fn shortest_needle_is_as_long_as_the_shortest_piece(value in "[aß{ \n\r\t\u{b}\u{c}\u{85}\u{a0}\u{2028}]{0,12}") {
            let lengths = [Scope::Value, Scope::Lines].into_iter().flat_map(|scope| pieces(scope, &value)).map(|piece| piece.1);
            let shortest = lengths.min().filter(|length| *length >= 6).unwrap_or(MIN_NEEDLE);
            prop_assert_eq!(shortest_needle(&value), shortest);
        }

        #[test]
        fn lazy_needle_computes_the_whole_needle(value in "[a-zäß€𝄞\"\\\\ %/\n\r]{4,300}", first in 0..200_usize) {
            let entry = entry(&value);
            for needle in entry.needles() {
                let whole = needle.form.encode(part(&value, needle.piece, needle.piece.1), true);
                prop_assert_eq!(whole.len(), needle.len());
                for len in [3, HEAD, HEAD + 1, 5 * HEAD] {
                    let beginning = needle.prefix(&entry, len);
                    prop_assert_eq!(beginning.as_slice(), &whole[..len.min(whole.len())]);
                }
                let mut lazy = LazyNeedle::new();
                for at in (first.min(whole.len())..whole.len()).chain(0..whole.len()) {
                    prop_assert_eq!(lazy.byte(&entry, needle, at), Some(whole[at]));
                }
                prop_assert_eq!(lazy.byte(&entry, needle, whole.len()), None);
            }
        }
    }
}
