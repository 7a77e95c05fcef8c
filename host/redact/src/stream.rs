//! The redactor of one stream: which bytes are held back, covered and released.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::needles::Entry;
use super::scan::{Match, Scanner};
use super::{LAST_MARKER, Redactor};
use strongroom_core::ids::SecretName;

/// The number of bytes that are read before decided bytes are released. With the longest needle,
/// this bounds the number of bytes held back.
const BLOCK: usize = 16 * 1024;

/// Redacts one stream of bytes.
///
/// It holds back only undecided bytes: those from the earliest position at which a value, in any
/// covered form, may have started. That is at most the longest such form, regardless of the length
/// of the stream or of overlapping values.
pub struct RedactStream {
    redactor: Redactor,
    scanner: Scanner,
    held: HeldBytes,
    /// The covered ranges of the held-back bytes, in order; they neither overlap nor adjoin.
    covered: VecDeque<CoveredRange>,
    /// Whether the last released byte was covered. A covered byte directly after it needs no new
    /// marker.
    in_range: bool,
    markers: HashMap<SecretName, Arc<str>>,
}

/// A range of covered bytes, by offsets in the stream.
struct CoveredRange {
    start: u64,
    end: u64,
    /// The value of the longest needle at the start.
    entry: Arc<Entry>,
}

impl RedactStream {
    pub(super) fn new(redactor: Redactor) -> Self {
        let scanner = Scanner::new(redactor.snapshot());
        Self {
            redactor,
            scanner,
            held: HeldBytes::default(),
            covered: VecDeque::new(),
            in_range: false,
            markers: HashMap::new(),
        }
    }

    /// Reads the next bytes of the stream and appends decided bytes to `out`.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        self.load_new_values();
        if self.scanner.snapshot().is_closed() {
            return self.withhold(!chunk.is_empty(), out);
        }
        for block in chunk.chunks(BLOCK) {
            let read = self.held.bytes().len();
            self.held.push(block);
            self.read(read);
            let pending = u64::try_from(self.scanner.pending()).unwrap_or(u64::MAX);
            self.release(self.held.end().saturating_sub(pending), out);
        }
    }

    /// Ends the stream and appends the held-back bytes to `out`. Bytes that are pushed afterwards
    /// form a new stream.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.load_new_values();
        if self.scanner.snapshot().is_closed() {
            self.withhold(false, out);
        }
        self.release(self.held.end(), out);
        self.in_range = false;
        self.scanner.reset();
    }

    /// Returns the number of bytes held back.
    #[cfg(any(test, feature = "oracle"))]
    pub fn held(&self) -> usize {
        self.held.bytes().len()
    }

    /// Returns the memory of the stream in bytes, without markers and data that streams share.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let covered = self.covered.capacity() * size_of::<CoveredRange>();
        self.held.buffer.capacity() + covered + self.scanner.memory()
    }

    /// Loads values that were registered since the last call, and searches for them in the
    /// held-back bytes.
    fn load_new_values(&mut self) {
        if self.scanner.snapshot().generation() == self.redactor.generation() {
            return;
        }
        self.scanner = Scanner::new(self.redactor.snapshot());
        self.markers.clear();
        // The new snapshot contains all earlier values, so everything found in the held-back bytes
        // is found again. Only the start of a range that was partly released is gone.
        self.covered.truncate(usize::from(self.in_range));
        self.covered.retain(|range| range.start <= self.held.start);
        self.read(0);
    }

    /// Searches the held-back bytes, of which the first `read` were read before.
    fn read(&mut self, read: usize) {
        let Self { scanner, held, covered, .. } = self;
        scanner.read(held.bytes(), read, |end, longest| {
            cover(covered, held.start.saturating_add(u64::try_from(end).unwrap_or(u64::MAX)), longest);
        });
    }

    /// Releases the bytes up to an offset before which everything is decided.
    fn release(&mut self, end: u64, out: &mut Vec<u8>) {
        while self.held.start < end {
            let (start, stop, entry) = match self.covered.front() {
                Some(first) => (first.start, first.end, Arc::clone(&first.entry)),
                None => {
                    self.in_range = false;
                    return self.held.take(end, Some(out));
                }
            };
            if self.held.start < start {
                self.in_range = false;
                self.held.take(start.min(end), Some(out));
                continue;
            }
            if !self.in_range {
                self.in_range = true;
                out.extend_from_slice(self.marker(&entry).as_bytes());
                self.redactor.count_one();
            }
            self.held.take(stop.min(end), None);
            if stop <= end {
                self.covered.pop_front();
            }
        }
    }

    /// Withholds everything, because the values exceed the redactor's capacity.
    fn withhold(&mut self, more: bool, out: &mut Vec<u8>) {
        let any = more || self.held.start < self.held.end();
        if any && !self.in_range {
            self.in_range = true;
            out.extend_from_slice(LAST_MARKER.as_bytes());
            self.redactor.count_one();
        }
        self.covered.clear();
        self.held.take(self.held.end(), None);
    }

    /// Returns the marker of a value: the most informative one that does not itself contain a
    /// registered value.
    fn marker(&mut self, entry: &Entry) -> Arc<str> {
        if let Some(marker) = self.markers.get(entry.name()) {
            return Arc::clone(marker);
        }
        let named = format!("[redacted:{}]", entry.name());
        let snapshot = self.scanner.snapshot();
        let marker =
            [named.as_str(), "[redacted]"].into_iter().find(|marker| !Scanner::contains_needle(snapshot, marker));
        let marker: Arc<str> = Arc::from(marker.unwrap_or(LAST_MARKER));
        self.markers.insert(entry.name().clone(), Arc::clone(&marker));
        marker
    }
}

/// Marks the bytes of a match as covered. Calls have increasing ends.
fn cover(covered: &mut VecDeque<CoveredRange>, end: u64, longest: Match) {
    let start = end.saturating_sub(u64::try_from(longest.len).unwrap_or(u64::MAX));
    let mut new = CoveredRange { start, end, entry: longest.entry };
    while let Some(last) = covered.pop_back_if(|last| last.end >= new.start) {
        new.end = new.end.max(last.end);
        // Of matches with the same start, the later one is longer.
        if last.start < new.start {
            (new.start, new.entry) = (last.start, last.entry);
        }
    }
    covered.push_back(new);
}

impl fmt::Debug for RedactStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedactStream(..)")
    }
}

/// The held-back bytes of the stream, in memory that is zeroized when it is dropped.
#[derive(Default)]
struct HeldBytes {
    buffer: Zeroizing<Vec<u8>>,
    /// The number of released bytes at the front of the buffer.
    released: usize,
    /// The stream offset of the first held-back byte.
    start: u64,
}

impl HeldBytes {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.released..).unwrap_or_default()
    }

    /// Returns the stream offset after the last held-back byte.
    fn end(&self) -> u64 {
        self.start.saturating_add(u64::try_from(self.bytes().len()).unwrap_or(u64::MAX))
    }

    fn push(&mut self, block: &[u8]) {
        let needed = self.bytes().len().saturating_add(block.len());
        if self.buffer.len().saturating_add(block.len()) > self.buffer.capacity() {
            if needed.saturating_mul(2) <= self.buffer.capacity() {
                self.buffer.copy_within(self.released.., 0);
                let left = self.buffer.len().saturating_sub(self.released);
                self.buffer.truncate(left);
            } else {
                // Growing in place could move the buffer and leave a copy behind.
                let mut larger = Zeroizing::new(Vec::with_capacity(needed.saturating_mul(2)));
                larger.extend_from_slice(self.bytes());
                self.buffer = larger;
            }
            self.released = 0;
        }
        self.buffer.extend_from_slice(block);
    }

    /// Drops the bytes before a stream offset, after appending them to `out` if given.
    fn take(&mut self, end: u64, out: Option<&mut Vec<u8>>) {
        let count = usize::try_from(end.saturating_sub(self.start)).unwrap_or(usize::MAX).min(self.bytes().len());
        if let Some(out) = out {
            out.extend_from_slice(self.bytes().get(..count).unwrap_or_default());
        }
        self.start = self.start.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        self.released = self.released.saturating_add(count);
        if self.released == self.buffer.len() {
            self.buffer.clear();
            self.released = 0;
        }
    }
}
