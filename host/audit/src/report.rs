//! What `verify` answers.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::folder::is_segment;
use strongroom_core::record::AuditPosition;

/// What became of a segment, of the ledger, or of the whole trail; from best to worst.
///
/// The text says what it means and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// Complete and as it was written.
    Intact,
    /// A process is writing it now; so far its chain is whole.
    Live,
    /// Its process was gone before it closed it. Its chain is whole up to the last line found; until a later process recovered it, whoever could
    /// write the file could have written all of it anew.
    Recovered,
    /// As recovered, and the last line is incomplete: the process died while it wrote it.
    TornLastLine,
    /// There is a file that the ledger does not know.
    Unlisted,
    /// Lines are gone from its end.
    Truncated,
    /// The ledger knows it and there is no file, or it is expected and nobody knows it.
    Missing,
    /// It was changed after it was written.
    Altered {
        /// The first line that is not as it was written, from 1.
        line: u64,
    },
    /// The ledger was changed after it was written; what it says of segments is worth no more than that.
    LedgerAltered {
        /// The first line that is not as it was written, from 1.
        line: u64,
    },
}

impl Verdict {
    /// Whether somebody or something changed what was written. What a crash leaves behind is no such thing.
    pub fn is_tampering(self) -> bool {
        self >= Verdict::Unlisted
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Intact => f.write_str("intact"),
            Verdict::Live => f.write_str("live: a process is writing it; verified so far"),
            Verdict::Recovered => f.write_str(
                "recovered after a crash: its process ended without closing it; events after the last one found may be lost, \
                 so compare the count with the run records",
            ),
            Verdict::TornLastLine => f.write_str(
                "torn last line: its process died while writing; that event was never acknowledged, the ones before are good",
            ),
            Verdict::Unlisted => f.write_str(
                "unlisted: the ledger does not know this file; somebody put it here, or the ledger was cut or replaced",
            ),
            Verdict::Truncated => {
                f.write_str("truncated: events are missing at its end; restore the folder from a backup and find out who cut it")
            }
            Verdict::Missing => {
                f.write_str("missing: the file is gone; restore the folder from a backup and find out who removed it")
            }
            Verdict::Altered { line } => {
                write!(f, "altered at line {line}: trust nothing from there on; keep the folder as evidence and compare it with a backup")
            }
            Verdict::LedgerAltered { line } => write!(
                f,
                "ledger altered at line {line}: what it says of segments is not to be trusted; keep the folder as evidence and \
                 compare it with a backup"
            ),
        }
    }
}

/// What became of one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentReport {
    /// Its name; of a file that is no segment, the file name without its ending.
    pub segment: String,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How many events at its front are as they were written.
    pub events: u64,
    /// The hash of the last of them; none where there is none.
    pub head: Option<String>,
}

/// What became of a trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The ledger: intact, recovered, torn last line, missing or altered.
    pub ledger: Verdict,
    /// Every segment that the ledger or the folder knows, in order of name.
    pub segments: Vec<SegmentReport>,
}

impl Report {
    /// The worst verdict of all.
    pub fn overall(&self) -> Verdict {
        self.segments.iter().map(|segment| segment.verdict).fold(self.ledger, Verdict::max)
    }
}

/// A position that was kept elsewhere and that the trail has to contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    pub(super) segment: String,
    pub(super) count: u64,
    pub(super) head: blake3::Hash,
}

impl Expect {
    /// Reads `SEGMENT:COUNT:HASH`, as a run record has them.
    ///
    /// # Errors
    /// [`InvalidExpect`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidExpect> {
        let mut parts = text.splitn(3, ':');
        let (Some(segment), Some(count), Some(head)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(InvalidExpect);
        };
        Self::new(segment, count.parse().map_err(|_| InvalidExpect)?, head)
    }

    fn new(segment: &str, count: u64, head: &str) -> Result<Self, InvalidExpect> {
        if !is_segment(segment) || count == 0 {
            return Err(InvalidExpect);
        }
        let head = blake3::Hash::from_hex(head).map_err(|_| InvalidExpect)?;
        Ok(Self { segment: segment.to_owned(), count, head })
    }

    /// The segment expected.
    pub fn segment(&self) -> &str {
        &self.segment
    }
}

impl FromStr for Expect {
    type Err = InvalidExpect;
    fn from_str(text: &str) -> Result<Self, InvalidExpect> {
        Self::parse(text)
    }
}

impl TryFrom<&AuditPosition> for Expect {
    type Error = InvalidExpect;
    fn try_from(position: &AuditPosition) -> Result<Self, InvalidExpect> {
        Self::new(&position.segment, position.count, &position.head)
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.segment, self.count, self.head.to_hex())
    }
}

/// The text is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an expected position is `SEGMENT:COUNT:HASH`, as the field `audit` of a run record has them")]
pub struct InvalidExpect;
