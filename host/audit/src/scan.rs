//! Reads a segment and finds its first altered line.

use std::io::{self, BufReader, Read};

use blake3::Hash;

use super::chain::{self, Altered, Checker, Lines, Link, Next, Tail};

/// Contents of a segment.
#[derive(Debug)]
pub(super) struct Scan {
    /// Number of unaltered lines at the start.
    pub(super) lines: u64,
    /// Hash of the last unaltered line, or the genesis.
    pub(super) head: Hash,
    /// The first altered line.
    pub(super) altered: Option<u64>,
    /// Bytes after the last newline.
    pub(super) tail: Option<Tail>,
    /// The first line whose hash differs from that of a position that was stored elsewhere.
    pub(super) differs: Option<u64>,
}

/// What is known about a segment before it is read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expected<'a> {
    /// Expected `prev` hash of its first line; `None` if the ledger has none.
    pub(super) genesis: Option<Hash>,
    /// Final number of lines, and the hash of the last.
    pub(super) closing: Option<(u64, Hash)>,
    /// Expected hashes of lines, by number.
    pub(super) kept: &'a [(u64, Hash)],
}

/// Reads a segment in bounded memory. Stops at the first altered line.
pub(super) fn scan(input: impl Read, expected: Expected<'_>) -> io::Result<Scan> {
    let mut lines = Lines::new(BufReader::with_capacity(chain::LINE_MAX, input));
    let mut checker = Checker::new(expected.genesis);
    let (mut tail, mut differs, mut kept) = (None, None, expected.kept);
    let altered = loop {
        match lines.next()? {
            Next::Line => {
                let hash = chain::segment_line(lines.line());
                if let Err(altered) = checker.push(Link::of(lines.line()).as_ref(), hash) {
                    break Some(altered);
                }
                while let Some(((line, was), later)) = kept.split_first()
                    && *line == checker.lines()
                {
                    differs = differs.or((*was != hash).then_some(*line));
                    kept = later;
                }
            }
            Next::Long => break Some(checker.reject()),
            Next::Tail(found) => tail = Some(found),
            Next::End => {
                let closing = expected.closing.filter(|(count, _)| *count == checker.lines()).map(|(_, head)| head);
                break checker.finish(closing).err();
            }
        }
    };
    Ok(Scan { lines: checker.lines(), head: checker.head(), altered: altered.map(|Altered(line)| line), tail, differs })
}
