//! Results of `verify`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::folder::is_segment;
use strongroom_core::record::AuditPosition;

/// The verdict on a segment, the ledger or the complete log; from best to worst.
///
/// `Display` states the meaning and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// Complete and unaltered.
    Intact,
    /// A process is writing it now; its chain is correct so far.
    Live,
    /// Its process ended before closing it. Its chain is correct up to the last line found. Until a
    /// later process recovered it, anyone with write access to the file could have rewritten all of
    /// it.
    Recovered,
    /// Recovered, and the last line is incomplete because the process died while writing it.
    TornLastLine,
    /// The ledger does not list this file.
    Unlisted,
    /// Lines are missing at its end.
    Truncated,
    /// The ledger or an expected position refers to it, but the file does not exist.
    Missing,
    /// It was changed after it was written.
    Altered {
        /// The first altered line, from 1.
        line: u64,
    },
    /// The ledger was changed after it was written, so its statements about segments are not
    /// trustworthy.
    LedgerAltered {
        /// The first altered line, from 1.
        line: u64,
    },
}

impl Verdict {
    /// Returns whether the data was changed after it was written, other than by a crash.
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

/// The verdict on one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentReport {
    /// The name; for a file that is not a segment, the file name without extension.
    pub segment: String,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Number of unaltered events at its start.
    pub events: u64,
    /// Hash of the last of them; `None` if there are none.
    pub head: Option<String>,
}

/// The verdicts on an audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The ledger: intact, recovered, torn last line, missing or altered.
    pub ledger: Verdict,
    /// Every segment in the ledger or the directory, in order of name.
    pub segments: Vec<SegmentReport>,
}

impl Report {
    /// Returns the worst verdict.
    pub fn overall(&self) -> Verdict {
        self.segments.iter().map(|segment| segment.verdict).fold(self.ledger, Verdict::max)
    }
}

/// A position that was stored elsewhere and that the log must contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    pub(super) segment: String,
    pub(super) count: u64,
    pub(super) head: blake3::Hash,
}

impl Expect {
    /// Parses `SEGMENT:COUNT:HASH`, as in run records.
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

    /// Returns the segment.
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

/// The text is not a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an expected position is `SEGMENT:COUNT:HASH`, as the field `audit` of a run record has them")]
pub struct InvalidExpect;
