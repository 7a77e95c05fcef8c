//! One registered value and its needles.
//!
//! A needle is kept as its beginning and a recipe for the rest, which [`Unfolding`] follows as far as a match has come.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::sync::{Arc, OnceLock};

use zeroize::{Zeroize as _, Zeroizing};

use super::encoders::{FORMS, Form, MIN_NEEDLE, needles_at_most, pieces};
use strongroom_core::ids::SecretName;

/// How many bytes of a needle are kept, and stand in the automaton unless many needles begin alike. Longer heads take memory for
/// every line of every value; shorter ones begin to match where nothing is, and are shared by more needles.
pub(super) const HEAD: usize = 16;

/// A registered value.
pub(super) struct Entry {
    name: SecretName,
    value: Zeroizing<Box<str>>,
    /// Found when they are first asked for: many runs use a value and print nothing afterwards.
    needles: OnceLock<Vec<Needle>>,
}

/// What one encoder makes of one piece of a value.
pub(super) struct Needle {
    head: [u8; HEAD],
    form: &'static Form,
    /// Where the piece starts in the value, and its length, in bytes.
    piece: (usize, usize),
    len: usize,
}

impl Entry {
    /// Copies a value.
    pub(super) fn new(name: SecretName, value: &str) -> Self {
        Self { name, value: Zeroizing::new(Box::from(value)), needles: OnceLock::new() }
    }

    /// Finds the needles, without those that two encoders share.
    fn find(value: &str) -> Vec<Needle> {
        let mut needles: Vec<Needle> = Vec::new();
        let mut seen: HashMap<u64, Vec<Zeroizing<Vec<u8>>>> = HashMap::new();
        let hasher = RandomState::new();
        for form in FORMS {
            for piece in pieces(form.over, value) {
                let encoded = form.encode(part(value, piece, piece.1), true);
                let same = seen.entry(hasher.hash_one(encoded.as_slice())).or_default();
                if encoded.len() < MIN_NEEDLE || same.contains(&encoded) {
                    continue;
                }
                let mut head = [0; HEAD];
                head.iter_mut().zip(encoded.iter()).for_each(|(slot, byte)| *slot = *byte);
                needles.push(Needle { head, form, piece, len: encoded.len() });
                // Without the room that the encoder had.
                same.push(encoded.clone());
            }
        }
        needles
    }

    /// The name that stands in the marker.
    pub(super) fn name(&self) -> &SecretName {
        &self.name
    }

    /// What to look for.
    pub(super) fn needles(&self) -> &[Needle] {
        self.needles.get_or_init(|| Self::find(&self.value))
    }

    /// How many needles fewer there are than there could have been. Told once.
    pub(super) fn surplus(&self) -> Option<usize> {
        let found = self.needles.get().is_some();
        (!found).then(|| needles_at_most(self.value.len()).saturating_sub(self.needles().len()))
    }
}

/// An entry, found by its value.
pub(super) struct Known(pub(super) Arc<Entry>);

impl Borrow<str> for Known {
    fn borrow(&self) -> &str {
        &self.0.value
    }
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.0.value == other.0.value
    }
}

impl Eq for Known {}

impl Hash for Known {
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
    /// The first bytes, or all of a shorter needle.
    pub(super) fn beginning(&self, entry: &Entry, len: usize) -> Zeroizing<Vec<u8>> {
        let len = len.min(self.len);
        if let Some(kept) = self.head.get(..len) {
            return Zeroizing::new(kept.to_vec());
        }
        let mut unfolding = Unfolding::new();
        unfolding.byte(entry, self, len.saturating_sub(1));
        Zeroizing::new(unfolding.bytes.get(..len).unwrap_or_default().to_vec())
    }

    /// The length in bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// A beginning of a piece, at most `len` bytes of it, cut at a character.
fn part(value: &str, piece: (usize, usize), len: usize) -> &str {
    let rest = value.get(piece.0..piece.0.saturating_add(piece.1)).unwrap_or_default();
    rest.get(..rest.floor_char_boundary(len)).unwrap_or_default()
}

/// A needle being made from its value, as far as it is needed.
pub(super) struct Unfolding {
    bytes: Zeroizing<Vec<u8>>,
    /// How much of the piece was encoded.
    read: usize,
}

impl Unfolding {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { bytes: Zeroizing::new(Vec::new()), read: 0 }
    }

    /// The byte at a place of the needle; none beyond its end.
    pub(super) fn byte(&mut self, entry: &Entry, needle: &Needle, at: usize) -> Option<u8> {
        while at >= self.bytes.len() && at < needle.len && self.read < needle.piece.1 {
            // Doubling makes all the repeated work together no more than twice the last step.
            self.read = self.read.max(2 * HEAD).saturating_mul(2).min(needle.piece.1);
            let encoded = needle.form.encode(part(&entry.value, needle.piece, self.read), self.read == needle.piece.1);
            // Without the room that the encoder had: many needles of one value can be followed at once.
            self.bytes = encoded.clone();
        }
        self.known(at)
    }

    /// How many bytes it takes.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.bytes.capacity()
    }

    /// The byte at a place that was asked for before.
    pub(super) fn known(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::encoders::{Over, shortest_needle};
    use super::*;
    use proptest::prelude::*;

    fn entry(value: &str) -> Entry {
        Entry::new(SecretName::parse("a").unwrap(), value)
    }

    #[test]
    fn needles_that_two_encoders_share_are_kept_once() {
        // Plain letters are their own JSON and percent-encoding, and one line is the value.
        let entry = entry("onlyletters");
        let plain = entry.needles().iter().filter(|needle| *needle.beginning(&entry, HEAD) == b"onlyletters").count();
        assert_eq!(plain, 1);
    }

    #[test]
    fn a_long_value_takes_little_more_than_itself() {
        let entry = entry(&"0123456789abcdef".repeat(1600));
        // Itself; base64 (two alignments with three ends, one that ends with a group; after a colon, three ends and one; in lines, four
        // kinds); two lists of bytes; hexadecimal, percent and `\u`, each in either case the same since no digit is a letter.
        assert_eq!(entry.needles().len(), 1 + 7 + 4 + 4 + 2 + 3);
    }

    proptest! {
        #[test]
        fn no_needle_is_shorter_than_the_shortest(value in "[a-zäß€𝄞\"\\\\ %/\n\r\t'<&{]{4,80}") {
            let entry = entry(&value);
            let shortest = shortest_needle(&value);
            for needle in entry.needles() {
                prop_assert!(needle.len() >= shortest, "{} of {:?}", needle.form.name, needle.beginning(&entry, 80));
            }
        }

        /// Whatever kinds of white space and line ends there are: those of one piece, which is not taken apart, too.
        #[test]
        fn the_shortest_needle_is_as_long_as_the_shortest_piece(value in "[aß{ \n\r\t\u{b}\u{c}\u{85}\u{a0}\u{2028}]{0,12}") {
            let lengths = [Over::Value, Over::Lines].into_iter().flat_map(|over| pieces(over, &value)).map(|piece| piece.1);
            let shortest = lengths.min().filter(|length| *length >= 6).unwrap_or(MIN_NEEDLE);
            prop_assert_eq!(shortest_needle(&value), shortest);
        }

        #[test]
        fn unfolding_makes_the_whole_needle(value in "[a-zäß€𝄞\"\\\\ %/\n\r]{4,300}", first in 0..200_usize) {
            let entry = entry(&value);
            for needle in entry.needles() {
                let whole = needle.form.encode(part(&value, needle.piece, needle.piece.1), true);
                prop_assert_eq!(whole.len(), needle.len());
                for len in [3, HEAD, HEAD + 1, 5 * HEAD] {
                    let beginning = needle.beginning(&entry, len);
                    prop_assert_eq!(beginning.as_slice(), &whole[..len.min(whole.len())]);
                }
                let mut unfolding = Unfolding::new();
                for at in (first.min(whole.len())..whole.len()).chain(0..whole.len()) {
                    prop_assert_eq!(unfolding.byte(&entry, needle, at), Some(whole[at]));
                }
                prop_assert_eq!(unfolding.byte(&entry, needle, whole.len()), None);
            }
        }
    }
}
