//! The audit: the append-only, hash-chained record of every decision.
//!
//! Each process writes one *segment*, a file of JSON lines in which every line carries the hash of the line before. A chain alone
//! shows neither that its end was cut off nor that all of it was written anew; therefore a *ledger*, chained itself, records where
//! each segment begins and with which head and count it ends, and run records carry a position that can be kept elsewhere.
//! `docs/audit.md` has the format, the verdicts and what is not detected.
//!
//! An event is appended before what it speaks of happens. If it cannot be written the segment has failed for good, and the caller
//! refuses: there is no use of a secret without its event.

mod chain;
mod commit;
mod error;
mod event;
mod folder;
mod ledger;
mod policies;
mod read;
mod report;
mod scan;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use error::AuditError;
pub use event::{Decision, Event, Kind};
pub use policies::kept_policy;
pub use read::{Item, LineEvent, Trail, read};
pub use report::{Expect, InvalidExpect, Report, SegmentReport, Verdict};
pub use verify::{verify, verify_with};
pub use writer::Audit;

/// The version of the format that this program writes and the newest that it reads.
pub const FORMAT: u32 = 1;

/// When an event counts as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncMode {
    /// When it is on the disk: it survives a power cut. Concurrent events share a sync.
    #[default]
    Always,
    /// When the operating system has it: it survives the death of the process, not that of the machine.
    Os,
}

/// Whether a process is still writing a segment. False where there is no such segment; true where that cannot be told, so that
/// nobody is declared dead without proof.
pub fn is_live(dir: &Path, segment: &str) -> bool {
    if !folder::is_segment(segment) {
        return false;
    }
    match folder::Folder::open(dir) {
        Ok(folder) => folder.is_live(segment),
        Err(AuditError::Absent(_)) => false,
        Err(_) => true,
    }
}

/// The time that events carry. The one clock of this module.
fn now() -> Timestamp {
    Timestamp::now()
}
