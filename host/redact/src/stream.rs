//! The redactor of one stream: which bytes are held back, covered and released.

use std::fmt;

use super::hash::HashedText;
use super::index::Search;
use super::{LAST_MARKER, Redactor};

/// The number of bytes that are read before decided bytes are released. With the longest needle,
/// this bounds the number of bytes held back.
const BLOCK: usize = 16 * 1024;

/// Redacts one stream of bytes.
///
/// It decides one position after the other whether a needle starts there, and releases the bytes
/// before the first undecided one. It therefore holds back at most the longest needle, regardless
/// of the length of the stream or of overlapping values.
pub struct RedactStream {
    redactor: Redactor,
    /// The bytes from the first undecided position on.
    held: HashedText,
    /// How many of the held-back bytes are covered by needles that start before them.
    covered: usize,
    /// Whether the last released byte was covered. A needle directly after it needs no new marker.
    in_range: bool,
}

impl RedactStream {
    pub(super) fn new(redactor: Redactor) -> Self {
        let held = HashedText::new(redactor.0.empty);
        Self { redactor, held, covered: 0, in_range: false }
    }

    /// Reads the next bytes of the stream and appends decided bytes to `out`.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        for block in chunk.chunks(BLOCK) {
            self.held.push(block);
            self.release(false, out);
        }
    }

    /// Ends the stream and appends the held-back bytes to `out`. Bytes that are pushed afterwards
    /// form a new stream.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.release(true, out);
        self.in_range = false;
    }

    /// Returns the number of bytes held back.
    #[cfg(any(test, feature = "oracle"))]
    pub fn held(&self) -> usize {
        self.held.bytes().len()
    }

    /// Returns the memory of the stream in bytes, without data that streams share.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.held.memory()
    }

    /// Returns how many times the hash of a part of the stream was looked up.
    #[cfg(test)]
    pub(super) fn lookups(&self) -> u64 {
        self.held.lookups
    }

    /// Releases bytes up to the first position at which a needle may start that is incomplete.
    /// `last` says that the stream ends.
    fn release(&mut self, last: bool, out: &mut Vec<u8>) {
        let Self { redactor, held, covered, in_range } = self;
        let mut state = redactor.lock();
        if state.closed {
            let all = held.bytes().len();
            if all > 0 && !std::mem::replace(in_range, true) {
                out.extend_from_slice(LAST_MARKER.as_bytes());
                redactor.count_one();
            }
            *covered = 0;
            return held.drop_front(all);
        }
        let mut at = 0_usize;
        loop {
            let rest = held.bytes().get(at..).unwrap_or_default();
            let mut decided = state.index.skip(rest);
            if decided == 0 && !rest.is_empty() {
                match state.index.search(held, at, last) {
                    Search::Undecided => break,
                    Search::Decided(found) => {
                        if let Some(found) = found {
                            if *covered == 0 && !*in_range {
                                out.extend_from_slice(state.marker(found.value).as_bytes());
                                redactor.count_one();
                            }
                            *covered = found.len.max(*covered);
                        }
                        decided = 1;
                    }
                }
            }
            if decided == 0 {
                break;
            }
            let hidden = decided.min(*covered);
            let bytes = held.bytes().get(at..at.saturating_add(decided)).unwrap_or_default();
            out.extend_from_slice(bytes.get(hidden..).unwrap_or_default());
            *in_range = hidden == decided;
            *covered = covered.saturating_sub(hidden);
            at = at.saturating_add(decided);
        }
        held.drop_front(at);
    }
}

impl fmt::Debug for RedactStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedactStream(..)")
    }
}
