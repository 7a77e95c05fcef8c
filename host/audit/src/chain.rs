//! The hash chain: what is hashed, reading lines of bounded length, and locating a broken link.
//!
//! The hash of a line covers its exact bytes in the file, newline included. Lines are never parsed
//! and serialized again to be hashed, because two programs that disagree about canonical JSON would
//! disagree about what was altered. Each use of the hash has its own domain, so a line of one kind
//! of file is never valid in another.

use std::fs::File;
use std::io::{self, BufRead};
use std::os::unix::fs::FileExt as _;
use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt as _, hash_derive_key_context};
use blake3::{Hash, Hasher};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Maximum length of a line in bytes, newline included. Readers need one buffer of this size.
pub(super) const LINE_MAX: usize = 64 * 1024;

const SEGMENT_LINE: &str = "strongroom audit v1: line of a segment";
const SEGMENT_GENESIS: &str = "strongroom audit v1: start of a segment";
const LEDGER_LINE: &str = "strongroom audit v1: line of the ledger";
const LEDGER_GENESIS: &str = "strongroom audit v1: start of the ledger";
const TAIL: &str = "strongroom audit v1: torn end of a segment";

fn hash(domain: &str, bytes: &[u8]) -> Hash {
    Hasher::new_derive_key(domain).update(bytes).finalize()
}

/// Returns the hash of a segment's line. The domain is hashed only once, because that takes as long
/// as hashing a line.
pub(super) fn segment_line(line: &[u8]) -> Hash {
    static KEY: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context(SEGMENT_LINE));
    Hasher::new_from_context_key(&KEY).update(line).finalize()
}

/// Returns the `prev` hash of a segment's first line. It covers the segment's name and the ledger
/// line that announced it, so that a segment that was renamed or moved to another ledger does not
/// verify.
pub(super) fn segment_genesis(segment: &str, announced: &Hash) -> Hash {
    Hasher::new_derive_key(SEGMENT_GENESIS).update(segment.as_bytes()).update(announced.as_bytes()).finalize()
}

/// Returns the hash of a line of the ledger.
pub(super) fn ledger_line(line: &[u8]) -> Hash {
    hash(LEDGER_LINE, line)
}

/// Returns the `prev` hash of the ledger's first line.
pub(super) fn ledger_genesis() -> Hash {
    hash(LEDGER_GENESIS, b"")
}

/// A hash that serializes as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hex(pub(super) Hash);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_hex())
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Hash::from_hex(text).map(Hex).map_err(|_| serde::de::Error::custom("a hash is 64 hexadecimal digits"))
    }
}

/// The fields that link a line to the one before. Other fields are ignored, so that a log with
/// events of a newer program does not count as altered.
#[derive(Debug, Deserialize)]
pub(super) struct Link {
    pub(super) seq: u64,
    pub(super) prev: Hex,
}

impl Link {
    /// Returns the link of a line; `None` if no writer can have written the line.
    pub(super) fn of(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

/// The bytes after the last newline of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// Their number.
    pub(super) bytes: u64,
    /// Their hash.
    pub(super) hash: Hash,
}

/// Result of reading a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A line, available from [`Lines::line`].
    Line,
    /// A line longer than [`LINE_MAX`], which no writer produces.
    Long,
    /// The file ends without a newline.
    Tail(Tail),
    /// The file ends.
    End,
}

/// Reads lines in bounded memory, whatever the file contains.
pub(super) struct Lines<R> {
    input: R,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, line: Vec::new() }
    }

    /// Returns the line that was just read, newline included.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// Reads up to and including the next newline.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        self.line.clear();
        let mut bytes = 0u64;
        // Only a tail that exceeds the buffer must be hashed while it is read.
        let mut over: Option<Hasher> = None;
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                return Ok(match (bytes, over) {
                    (0, _) => Next::End,
                    (_, Some(hasher)) => Next::Tail(Tail { bytes, hash: hasher.finalize() }),
                    (_, None) => Next::Tail(Tail { bytes, hash: hash(TAIL, &self.line) }),
                });
            }
            let (part, complete) = match chunk.iter().position(|byte| *byte == b'\n') {
                Some(at) => (chunk.get(..=at).unwrap_or(chunk), true),
                None => (chunk, false),
            };
            if let Some(hasher) = &mut over {
                hasher.update(part);
            } else if self.line.len().saturating_add(part.len()) > LINE_MAX {
                let mut hasher = Hasher::new_derive_key(TAIL);
                hasher.update(&self.line).update(part);
                over = Some(hasher);
            } else {
                self.line.extend_from_slice(part);
            }
            let used = part.len();
            bytes = bytes.saturating_add(used as u64);
            self.input.consume(used);
            if complete {
                return Ok(if over.is_some() { Next::Long } else { Next::Line });
            }
        }
    }
}

/// Reads the end of a file: its last complete line, newline included, and the number of bytes after
/// it. The line is empty if the file has none, and incomplete if it is longer than [`LINE_MAX`].
pub(super) fn last_line(file: &File) -> io::Result<(Vec<u8>, u64)> {
    let length = file.metadata()?.len();
    // A line and a torn part, each of bounded length, and the newline before.
    let size = length.min(2 * LINE_MAX as u64 + 1);
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    file.read_exact_at(&mut bytes, length.saturating_sub(size))?;
    let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n') else { return Ok((Vec::new(), size)) };
    let torn = bytes.len().saturating_sub(last).saturating_sub(1);
    bytes.truncate(last.saturating_add(1));
    let before = bytes.get(..last).unwrap_or_default().iter().rposition(|byte| *byte == b'\n');
    Ok((bytes.split_off(before.map_or(0, |at| at.saturating_add(1))), torn as u64))
}

/// Checks a chain line by line and locates the first altered line.
///
/// If the `prev` of a line does not match, either the line before or this `prev` was changed. The
/// next line decides: if it matches this line, this line is genuine.
#[derive(Debug)]
pub(super) struct Checker {
    lines: u64,
    /// The hashes of the last three lines, newest first.
    hashes: [Hash; 3],
    /// Whether the last line did not match the one before.
    suspect: bool,
    any_genesis: bool,
}

impl Checker {
    /// Starts a chain from a genesis hash, or from whatever its first line states.
    pub(super) fn new(genesis: Option<Hash>) -> Self {
        let start = genesis.unwrap_or_else(|| Hash::from_bytes([0; 32]));
        Self { lines: 0, hashes: [start; 3], suspect: false, any_genesis: genesis.is_none() }
    }

    /// Returns the number of accepted lines.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// Returns the hash of the last accepted line, or the genesis.
    pub(super) fn head(&self) -> Hash {
        let [head, ..] = self.hashes;
        head
    }

    /// Checks the next line. An altered line ends the chain; `lines` and `head` then describe the
    /// lines before it.
    pub(super) fn push(&mut self, link: Option<&Link>, hash: Hash) -> Result<(), Altered> {
        let matches = link.is_some_and(|link| link.prev.0 == self.head());
        if self.suspect {
            return Err(self.settle(matches));
        }
        let expected = self.lines.saturating_add(1);
        let Some(link) = link.filter(|link| link.seq == expected) else { return Err(Altered(expected)) };
        if !matches && self.lines == 0 && !self.any_genesis {
            return Err(Altered(1));
        }
        if self.lines == 0 && self.any_genesis {
            self.hashes = [link.prev.0; 3];
        } else {
            self.suspect = !matches;
        }
        let [last, before, _] = self.hashes;
        self.hashes = [hash, last, before];
        self.lines = expected;
        Ok(())
    }

    /// Ends the chain. `closing` is the expected hash of the last line, if it is known.
    pub(super) fn finish(&mut self, closing: Option<Hash>) -> Result<(), Altered> {
        if self.suspect {
            let genuine = closing.is_none_or(|closing| closing == self.head());
            return Err(self.settle(genuine));
        }
        Ok(())
    }

    /// Rejects a line that is too long.
    pub(super) fn reject(&mut self) -> Altered {
        if self.suspect { self.settle(false) } else { Altered(self.lines.saturating_add(1)) }
    }

    fn settle(&mut self, genuine: bool) -> Altered {
        let [_, before, earlier] = self.hashes;
        let back = if genuine { 2 } else { 1 };
        let good = if genuine { earlier } else { before };
        self.suspect = false;
        self.lines = self.lines.saturating_sub(back);
        self.hashes = [good; 3];
        Altered(self.lines.saturating_add(1))
    }
}

/// The first altered line, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Altered(pub(super) u64);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], capacity: usize) -> Vec<(Next, Vec<u8>)> {
        let mut lines = Lines::new(io::BufReader::with_capacity(capacity, bytes));
        let mut found = Vec::new();
        loop {
            let next = lines.next().unwrap();
            let end = matches!(next, Next::End);
            let line = if next == Next::Line { lines.line().to_vec() } else { Vec::new() };
            found.push((next, line));
            if end {
                return found;
            }
        }
    }

    #[test]
    fn lines_are_complete_in_any_chunking() {
        for capacity in [1, 2, 3, 100] {
            let found = read(b"ab\n\nc", capacity);
            let tail = Tail { bytes: 1, hash: hash(TAIL, b"c") };
            assert_eq!(
                found,
                [
                    (Next::Line, b"ab\n".to_vec()),
                    (Next::Line, b"\n".to_vec()),
                    (Next::Tail(tail), Vec::new()),
                    (Next::End, Vec::new())
                ]
            );
        }
    }

    #[test]
    fn too_long_line_is_not_buffered() {
        let mut bytes = vec![b'x'; LINE_MAX - 1];
        bytes.push(b'\n');
        assert_eq!(
            read(&bytes, 4096).first().map(|(next, line)| (next == &Next::Line, line.len())),
            Some((true, LINE_MAX))
        );
        bytes.insert(0, b'x');
        bytes.extend_from_slice(b"next\n");
        let found = read(&bytes, 4096);
        assert_eq!(found[0].0, Next::Long);
        assert_eq!(found[1], (Next::Line, b"next\n".to_vec()));

        let long = vec![b'x'; 3 * LINE_MAX];
        let tail = Tail { bytes: 3 * LINE_MAX as u64, hash: hash(TAIL, &long) };
        assert_eq!(read(&long, 4096)[0].0, Next::Tail(tail));
    }

    #[test]
    fn hashes_are_stable() {
        let hashes =
            [segment_line(b"{}\n"), ledger_line(b"{}\n"), hash(TAIL, b"{"), segment_genesis("A", &ledger_genesis())];
        let start: Vec<String> = hashes.iter().map(|hash| hash.to_hex().chars().take(16).collect()).collect();
        assert_eq!(start, ["ed4aaeb43f06e605", "a807a82aebc30af2", "2825f08768334de8", "26a8ac856eb78d77"]);
    }

    #[test]
    fn domains_are_distinct() {
        let line = b"{}\n";
        let mut all = vec![segment_line(line), ledger_line(line), hash(TAIL, line), ledger_genesis()];
        all.push(segment_genesis("A", &ledger_genesis()));
        all.push(segment_genesis("B", &ledger_genesis()));
        let count = all.len();
        all.sort_by_key(|hash| *hash.as_bytes());
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
