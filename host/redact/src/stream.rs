//! One stream through the redactor: what is held back, what is covered, what is released.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::needles::Entry;
use super::scan::{Found, Scanner};
use super::{LAST_MARKER, Redactor};
use strongroom_core::ids::SecretName;

/// How much is read before what is decided is released, in bytes: with the longest needle, this bounds what is held.
const BLOCK: usize = 16 * 1024;

/// The redactor of one stream of bytes.
///
/// It holds back only what it has not decided: the bytes from the earliest place where a value, in any covered form, may have begun.
/// That is at most the longest such form, whatever the length of the stream or of a stretch of values that overlap.
pub struct RedactStream {
    redactor: Redactor,
    scanner: Scanner,
    held: Held,
    /// The covered stretches among the bytes held, in order, neither overlapping nor touching.
    covered: VecDeque<Stretch>,
    /// Whether the last byte released was covered, so that what follows it directly needs no further marker.
    in_stretch: bool,
    markers: HashMap<SecretName, Arc<str>>,
}

/// Covered bytes, by their place in the stream.
struct Stretch {
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
            held: Held::default(),
            covered: VecDeque::new(),
            in_stretch: false,
            markers: HashMap::new(),
        }
    }

    /// Takes the next bytes of the stream, and appends to `out` what is decided.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        self.catch_up();
        if self.scanner.snapshot().is_blind() {
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

    /// Ends the stream: appends what was held back. What is pushed afterwards is a stream of its own.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.catch_up();
        if self.scanner.snapshot().is_blind() {
            self.withhold(false, out);
        }
        self.release(self.held.end(), out);
        self.in_stretch = false;
        self.scanner.reset();
    }

    /// How many bytes are held back.
    #[cfg(any(test, feature = "oracle"))]
    pub fn held(&self) -> usize {
        self.held.bytes().len()
    }

    /// How many bytes the stream has taken for itself, beside the markers and what all streams share.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        let covered = self.covered.capacity() * size_of::<Stretch>();
        self.held.buffer.capacity() + covered + self.scanner.kept()
    }

    /// Takes up values that were registered since, and looks for them in what is held back.
    fn catch_up(&mut self) {
        if self.scanner.snapshot().generation() == self.redactor.generation() {
            return;
        }
        self.scanner = Scanner::new(self.redactor.snapshot());
        self.markers.clear();
        // The new set holds all of the old, so that whatever was found among the bytes held is found again. Only of a stretch that was
        // released in part the beginning is gone.
        self.covered.truncate(usize::from(self.in_stretch));
        self.covered.retain(|stretch| stretch.start <= self.held.start);
        self.read(0);
    }

    /// Looks for values in the bytes held, of which so many at the front were read before.
    fn read(&mut self, read: usize) {
        let Self { scanner, held, covered, .. } = self;
        scanner.read(held.bytes(), read, |end, found| {
            cover(covered, held.start.saturating_add(u64::try_from(end).unwrap_or(u64::MAX)), found);
        });
    }

    /// Releases the bytes up to a place before which no needle is undecided.
    fn release(&mut self, end: u64, out: &mut Vec<u8>) {
        while self.held.start < end {
            let (start, stop, entry) = match self.covered.front() {
                Some(first) => (first.start, first.end, Arc::clone(&first.entry)),
                None => {
                    self.in_stretch = false;
                    return self.held.take(end, Some(out));
                }
            };
            if self.held.start < start {
                self.in_stretch = false;
                self.held.take(start.min(end), Some(out));
                continue;
            }
            if !self.in_stretch {
                self.in_stretch = true;
                out.extend_from_slice(self.marker(&entry).as_bytes());
                self.redactor.count_one();
            }
            self.held.take(stop.min(end), None);
            if stop <= end {
                self.covered.pop_front();
            }
        }
    }

    /// Lets nothing through: the set of values is larger than can be looked for.
    fn withhold(&mut self, more: bool, out: &mut Vec<u8>) {
        let any = more || self.held.start < self.held.end();
        if any && !self.in_stretch {
            self.in_stretch = true;
            out.extend_from_slice(LAST_MARKER.as_bytes());
            self.redactor.count_one();
        }
        self.covered.clear();
        self.held.take(self.held.end(), None);
    }

    /// The marker of a value: the most telling one that does not itself hold a registered value.
    fn marker(&mut self, entry: &Entry) -> Arc<str> {
        if let Some(marker) = self.markers.get(entry.name()) {
            return Arc::clone(marker);
        }
        let named = format!("[redacted:{}]", entry.name());
        let snapshot = self.scanner.snapshot();
        let fitting = [named.as_str(), "[redacted]"].into_iter().find(|marker| !Scanner::finds_in(snapshot, marker));
        let marker: Arc<str> = Arc::from(fitting.unwrap_or(LAST_MARKER));
        self.markers.insert(entry.name().clone(), Arc::clone(&marker));
        marker
    }
}

/// Notes that the bytes up to `end` are covered. Calls come with rising ends.
fn cover(covered: &mut VecDeque<Stretch>, end: u64, found: Found) {
    let start = end.saturating_sub(u64::try_from(found.len).unwrap_or(u64::MAX));
    let mut new = Stretch { start, end, entry: found.entry };
    while let Some(last) = covered.pop_back_if(|last| last.end >= new.start) {
        new.end = new.end.max(last.end);
        // At one start the later is the longer.
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

/// The bytes of the stream that are held back, in memory that is overwritten when it is given up.
#[derive(Default)]
struct Held {
    buffer: Zeroizing<Vec<u8>>,
    /// How many bytes at the front of the buffer are released.
    gone: usize,
    /// The place in the stream of the first byte held.
    start: u64,
}

impl Held {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.gone..).unwrap_or_default()
    }

    /// The place in the stream behind the last byte held.
    fn end(&self) -> u64 {
        self.start.saturating_add(u64::try_from(self.bytes().len()).unwrap_or(u64::MAX))
    }

    fn push(&mut self, block: &[u8]) {
        let needed = self.bytes().len().saturating_add(block.len());
        if self.buffer.len().saturating_add(block.len()) > self.buffer.capacity() {
            if needed.saturating_mul(2) <= self.buffer.capacity() {
                self.buffer.copy_within(self.gone.., 0);
                let left = self.buffer.len().saturating_sub(self.gone);
                self.buffer.truncate(left);
            } else {
                // Growing in place could move the bytes and leave a copy behind.
                let mut larger = Zeroizing::new(Vec::with_capacity(needed.saturating_mul(2)));
                larger.extend_from_slice(self.bytes());
                self.buffer = larger;
            }
            self.gone = 0;
        }
        self.buffer.extend_from_slice(block);
    }

    /// Gives up the bytes before a place of the stream, and appends them to `out` if they are to be seen.
    fn take(&mut self, end: u64, out: Option<&mut Vec<u8>>) {
        let count = usize::try_from(end.saturating_sub(self.start)).unwrap_or(usize::MAX).min(self.bytes().len());
        if let Some(out) = out {
            out.extend_from_slice(self.bytes().get(..count).unwrap_or_default());
        }
        self.start = self.start.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        self.gone = self.gone.saturating_add(count);
        if self.gone == self.buffer.len() {
            self.buffer.clear();
            self.gone = 0;
        }
    }
}
