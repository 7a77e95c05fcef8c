//! Errors of the audit log.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the audit log could not be written, read or verified. The text is for operators; a guest
/// learns only that the host is unavailable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A system call failed.
    #[error("could not {what} `{}`: {cause}{}", .path.display(), Hint(.cause))]
    Io {
        /// What failed, as a verb with its object.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The audit directory cannot be trusted.
    #[error("the audit directory `{}` is not safe to use: {reason}", .path.display())]
    Insecure {
        /// The directory.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: &'static str,
    },
    /// The audit log does not exist.
    #[error("there is no audit log at `{}`: check the home directory", .0.display())]
    Absent(PathBuf),
    /// The segment failed, now or earlier. It accepts no more events, because a line after a lost
    /// one would hide the loss.
    #[error(
        "the audit segment `{segment}` has failed and takes no more events ({cause}): no secret is released without an \
         audit log; fix the disk, then restart the program"
    )]
    Failed {
        /// The segment.
        segment: String,
        /// The first failure.
        cause: Arc<str>,
    },
    /// The segment was closed normally.
    #[error("the audit segment `{0}` is closed: this event came after the program had finished")]
    Closed(String),
    /// An event exceeds the maximum length of a line.
    #[error("an audit event of {0} bytes is too long: shorten its fields (a line has at most 65,536 bytes)")]
    TooLong(usize),
    /// Only the writer itself may write this kind of event.
    #[error("only the audit log itself writes events that start or end a segment: use another kind of event")]
    Reserved,
    /// An event could not be serialized.
    #[error("could not encode an audit event: {0}")]
    Encode(serde_json::Error),
    /// The ledger was changed after it was written.
    #[error(
        "the audit ledger `{}` is altered at line {line}: to continue, move the audit directory \
         aside and keep it as evidence (a new one is made)", .path.display()
    )]
    LedgerAltered {
        /// The ledger.
        path: PathBuf,
        /// The first altered line, from 1.
        line: u64,
    },
    /// Another process holds the lock on the ledger.
    #[error("the audit ledger `{}` is busy: {}", .path.display(), super::lock::LockError::Busy(*holder))]
    Busy {
        /// The ledger.
        path: PathBuf,
        /// The process that holds the lock, if the system says so.
        holder: Option<u32>,
    },
    /// A newer program wrote the audit log.
    #[error("the audit log has format {0}, but this program supports only formats up to {max}: use a newer strongroom", max = super::FORMAT)]
    Newer(u32),
    /// The text does not match the digest.
    #[error("the policy text does not match the digest {0}: pass the text that was parsed")]
    PolicyDigest(strongroom_core::ids::Digest),
}

impl AuditError {
    /// Creates an error of a system call on a path.
    pub(super) fn io(what: &'static str, path: &Path, cause: impl Into<io::Error>) -> Self {
        AuditError::Io { what, path: path.to_owned(), cause: cause.into() }
    }

    /// Creates an error of locking the ledger.
    pub(super) fn locked(path: &Path, error: super::lock::LockError) -> Self {
        match error {
            super::lock::LockError::Busy(holder) => AuditError::Busy { path: path.to_owned(), holder },
            super::lock::LockError::Io(cause) => AuditError::io("lock the audit ledger", path, cause),
        }
    }
}

/// Displays what an operator can do about an I/O error.
pub(super) struct Hint<'a>(pub(super) &'a io::Error);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => f.write_str("; free space on that disk"),
            io::ErrorKind::FileTooLarge => f.write_str("; raise the limit on the size of files (`ulimit -f`)"),
            io::ErrorKind::PermissionDenied => {
                f.write_str("; the audit directory must belong to the user who runs this")
            }
            io::ErrorKind::ReadOnlyFilesystem => f.write_str("; the audit directory must be on a writable disk"),
            _ => Ok(()),
        }
    }
}
