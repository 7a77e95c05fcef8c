//! Reference implementation of the redactor: searches for every needle at every position of the
//! whole text.
//!
//! Only for property tests, fuzzers and benchmarks.

#![allow(clippy::indexing_slicing, reason = "for tests, which fail by panicking")]

use super::encoders::needles;

/// A value with all its needles.
#[derive(Debug)]
pub struct ReferenceValue {
    /// The name in its marker.
    pub name: String,
    /// All needles in full.
    pub needles: Vec<Vec<u8>>,
    /// The offset in the stream from which the value is covered.
    pub from: usize,
}

/// Returns a value that is covered from an offset on.
pub fn reference_value(of: &str, value: &str, from: usize) -> ReferenceValue {
    ReferenceValue { name: of.to_owned(), needles: needles(value), from }
}

/// Redacts a text and returns the result and the number of markers.
pub fn reference_redact(values: &[ReferenceValue], text: &[u8]) -> (Vec<u8>, u64) {
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
