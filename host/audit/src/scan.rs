//! Reads a segment from front to back and says how far it is what was written.

use std::io::{self, BufReader, Read};

use blake3::Hash;

use super::chain::{self, Altered, Checker, Lines, Link, Next, Tail};

/// What a segment's file holds.
#[derive(Debug)]
pub(super) struct Scan {
    /// How many good lines there are: before the altered one, where there is one.
    pub(super) lines: u64,
    /// The hash of the last good line, or the genesis.
    pub(super) head: Hash,
    /// The first altered line.
    pub(super) altered: Option<u64>,
    /// What follows the last newline.
    pub(super) tail: Option<Tail>,
    /// The first line whose hash is another than a position says that was kept elsewhere.
    pub(super) differs: Option<u64>,
}

/// What is known about a segment before it is read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known<'a> {
    /// What its first line has to refer to; none where the ledger does not say.
    pub(super) genesis: Option<Hash>,
    /// How many lines it had in the end, and the hash of the last.
    pub(super) closing: Option<(u64, Hash)>,
    /// Lines with the hashes that they had, by number.
    pub(super) kept: &'a [(u64, Hash)],
}

/// Reads a segment in bounded memory. The first altered line ends the reading.
pub(super) fn scan(input: impl Read, known: Known<'_>) -> io::Result<Scan> {
    let mut lines = Lines::new(BufReader::with_capacity(chain::LINE_MAX, input));
    let mut checker = Checker::new(known.genesis);
    let (mut tail, mut differs, mut kept) = (None, None, known.kept);
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
                let closing = known.closing.filter(|(count, _)| *count == checker.lines()).map(|(_, head)| head);
                break checker.finish(closing).err();
            }
        }
    };
    Ok(Scan { lines: checker.lines(), head: checker.head(), altered: altered.map(|Altered(line)| line), tail, differs })
}
