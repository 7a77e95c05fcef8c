//! Files that were read before: while one is as it was, it is not read again for the next run.
//!
//! What runs stays what the digest says, whatever happens to the file: digest, interfaces and compiled code are those of the bytes that were read, then
//! as now. What could go wrong is that a change is not noticed. A file counts as the same by what the system says of it (device, inode, length, both
//! times), and only if it had been left alone for [`SETTLED`] when it was read: a later change cannot then fall into the same tick of the file
//! system's clock. A change through a mapping that was already written to may leave the times as they are for a while: then what was read before runs once
//! more, under its own digest.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Stat};

use super::candidate::{Candidate, Inspect};
use strongroom_core::ids::Digest;

/// How long a file has to have been left alone. File systems keep times to two seconds at worst.
const SETTLED: Duration = Duration::from_secs(4);

/// How many files are remembered.
const KNOWN: usize = 256;

/// What the system says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Whether what the system speaks of is a file, and not a folder, a pipe or a device.
pub(super) fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

impl Stamp {
    /// Whether a file is as it was.
    pub(super) fn is_of(self, path: &Path) -> bool {
        // The older call, which has less to say and takes less time than the one of the standard library.
        rustix::fs::stat(path).is_ok_and(|stat| is_file(&stat) && Self::from(stat) == self)
    }

    /// The stamp of an open file that was read just now and was `before` when that began; none where it may change without leaving another one.
    pub(super) fn settled(before: Stat, file: &File) -> Option<Self> {
        let stamp = Self::from(before);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let last = u64::try_from(before.st_mtime.max(before.st_ctime)).ok()?;
        let settled = now.as_secs().checked_sub(last)? >= SETTLED.as_secs();
        (settled && Self::from(rustix::fs::fstat(file).ok()?) == stamp).then_some(stamp)
    }
}

impl From<Stat> for Stamp {
    fn from(stat: Stat) -> Self {
        let nanos = |nanos: u64| i64::try_from(nanos).unwrap_or(i64::MAX);
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanos(stat.st_ctime_nsec)),
        }
    }
}

/// The files that are remembered.
#[derive(Default)]
pub(super) struct Known(HashMap<PathBuf, Entry>);

struct Entry {
    stamp: Stamp,
    inspect: Inspect,
    candidate: Candidate,
}

impl Known {
    /// What a file held when it was read.
    pub(super) fn find(&self, path: &Path, inspect: Inspect) -> Option<(Stamp, Candidate)> {
        let entry = self.0.get(path).filter(|entry| entry.inspect == inspect)?;
        Some((entry.stamp, entry.candidate.clone()))
    }

    /// Remembers a file. Of two with the same bytes, one copy is kept.
    pub(super) fn remember(&mut self, path: PathBuf, stamp: Stamp, inspect: Inspect, candidate: &Candidate) {
        if self.0.len() >= KNOWN {
            self.0.clear();
        }
        let same = self.0.values().find(|entry| entry.candidate.digest() == candidate.digest());
        let bytes = same.map_or(candidate, |entry| &entry.candidate).bytes().clone();
        self.0.insert(path, Entry { stamp, inspect, candidate: candidate.with_bytes(bytes) });
    }

    /// Forgets the files whose code is no longer at hand.
    pub(super) fn retain(&mut self, at_hand: impl Fn(&Digest) -> bool) {
        self.0.retain(|_, entry| at_hand(entry.candidate.digest()));
    }
}
