//! The audit log: an append-only, hash-chained record of every decision.
//!
//! Each process writes one *segment*: a file of JSON lines, each with the hash of the line before.
//! Short-lived processes, such as operators' commands, share segments ([`Audit::open_shared`]).
//! A chain alone cannot show that its end was cut off or that all of it was rewritten. Therefore a
//! *ledger*, which is a chain too, records where each segment starts and with which head and count
//! it ends, and run records contain a position in the log that can be stored elsewhere.
//! `docs/audit.md` describes the format, the verdicts and what cannot be detected.
//!
//! An event is written before the action it describes. If it cannot be written, the segment has
//! failed permanently and the caller must refuse the action: no secret is used without its event.

mod chain;
mod commit;
mod error;
mod event;
mod folder;
mod ledger;
pub mod lock;
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
pub use read::{Item, LineEvent, LogReader, read};
pub use report::{Expect, InvalidExpect, Report, SegmentReport, Verdict};
pub use verify::{verify, verify_with};
pub use writer::Audit;

/// Format version that this program writes, and the newest that it reads. Since version 2, lines of
/// the ledger have checkpoints, and operators' commands share segments.
pub const FORMAT: u32 = 2;

/// When an event counts as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncMode {
    /// When it is synced to disk: it survives a power failure. Concurrent events share a sync.
    #[default]
    Always,
    /// When the operating system has accepted it: it survives the end of the process, but not of
    /// the machine.
    Os,
}

/// Returns whether a process is still writing a segment: `false` if the segment does not exist,
/// `true` if this cannot be determined, so that no running process is taken for dead.
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

/// Returns the time for an event. The only use of the clock in this crate.
fn now() -> Timestamp {
    Timestamp::now()
}
