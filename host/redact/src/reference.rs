//! What the redactor has to do, in the plainest way: every needle in full, looked for at every place of the whole text.
//!
//! For the property tests and the fuzzers; no program has it.

#![allow(clippy::indexing_slicing, reason = "for tests, which fail by panicking")]

use super::encoders::{FORMS, Form, MIN_NEEDLE, pieces};

/// One value as the oracle sees it: all its needles in full, and from which place of the stream it counts.
#[derive(Debug)]
pub struct Known {
    /// What its marker says.
    pub name: String,
    /// Everything that is looked for.
    pub needles: Vec<Vec<u8>>,
    /// The place in the stream from which it counts.
    pub from: usize,
}

/// A value that counts from a place on.
pub fn known(of: &str, value: &str, from: usize) -> Known {
    let whole = |form: &'static Form| {
        pieces(form.over, value).into_iter().map(|(at, len)| form.encode(&value[at..at + len], true).to_vec())
    };
    let mut needles: Vec<_> = FORMS.iter().flat_map(whole).filter(|needle| needle.len() >= MIN_NEEDLE).collect();
    needles.sort();
    needles.dedup();
    Known { name: of.to_owned(), needles, from }
}

/// Finds every needle at every place, unites what they cover, and writes one marker for each stretch. Answers with their number too.
pub fn oracle(values: &[Known], text: &[u8]) -> (Vec<u8>, u64) {
    let mut covered = vec![false; text.len()];
    let mut longest: Vec<(usize, &str)> = vec![(0, ""); text.len()];
    for value in values {
        for needle in &value.needles {
            for at in value.from..text.len() {
                if text[at..].starts_with(needle) {
                    covered[at..at + needle.len()].fill(true);
                    if needle.len() > longest[at].0 {
                        longest[at] = (needle.len(), &value.name);
                    }
                }
            }
        }
    }
    let (mut out, mut count) = (Vec::new(), 0);
    for at in 0..text.len() {
        if !covered[at] {
            out.push(text[at]);
        } else if at == 0 || !covered[at - 1] {
            out.extend_from_slice(format!("[redacted:{}]", longest[at].1).as_bytes());
            count += 1;
        }
    }
    (out, count)
}
