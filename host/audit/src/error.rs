//! Why the audit could not be written, read or verified.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What went wrong with the trail. The text is for operators; a guest only ever learns that the host cannot serve now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The operating system refused something.
    #[error("cannot {what} `{}`: {cause}{}", .path.display(), Hint(.cause))]
    Io {
        /// What was tried, as a verb with its object's article.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's answer.
        cause: io::Error,
    },
    /// The audit folder is not one that this program may trust.
    #[error("the audit folder `{}` is not safe to use: {reason}", .path.display())]
    Insecure {
        /// The folder.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: &'static str,
    },
    /// There is no audit at that place.
    #[error("there is no audit at `{}`: check the home folder, or run something first", .0.display())]
    Absent(PathBuf),
    /// The segment failed now or earlier. It takes no more events, because a line after a lost one would hide the loss.
    #[error(
        "the audit segment `{segment}` has failed and takes no more events ({cause}): nothing is served without an \
         audit; see to the disk, then start the program again"
    )]
    Failed {
        /// The segment.
        segment: String,
        /// What was the first failure.
        cause: Arc<str>,
    },
    /// The segment was closed in good order.
    #[error("the audit segment `{0}` is closed: this event came after the end of the program's work")]
    Closed(String),
    /// An event does not fit into a line.
    #[error("an audit event of {0} bytes is too long: shorten what it carries (a line has at most 65,536 bytes)")]
    TooLong(usize),
    /// The event is one that only the writer itself makes.
    #[error("an audit event that starts or ends a segment is written by the audit alone: name what happened")]
    Reserved,
    /// An event could not be turned into a line.
    #[error("cannot encode an audit event: {0}")]
    Encode(serde_json::Error),
    /// The ledger was changed after it was written.
    #[error(
        "the audit ledger `{}` is altered at line {line}: run `strongroom audit verify`; to go on, move the audit folder \
         aside and keep it as evidence (a new one is made)", .path.display()
    )]
    LedgerAltered {
        /// The ledger.
        path: PathBuf,
        /// The first line that is not as it was written, from 1.
        line: u64,
    },
    /// Another process keeps the ledger locked.
    #[error("the audit ledger `{}` is locked by another process: wait for it to finish, or end it", .0.display())]
    Busy(PathBuf),
    /// The trail was written by a newer program.
    #[error("the audit has format {0}, and this program knows formats up to {known}: use a newer strongroom", known = super::FORMAT)]
    Newer(u32),
    /// The text given is not the one that the digest names.
    #[error("the policy's text does not have the digest {0}: pass the text that was parsed")]
    PolicyDigest(strongroom_core::ids::Digest),
}

impl AuditError {
    /// An error of the operating system on a path.
    pub(super) fn io(what: &'static str, path: &Path, cause: impl Into<io::Error>) -> Self {
        AuditError::Io { what, path: path.to_owned(), cause: cause.into() }
    }
}

/// What an operator can do about an error of the operating system.
pub(super) struct Hint<'a>(pub(super) &'a io::Error);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => f.write_str("; make room on that disk"),
            io::ErrorKind::FileTooLarge => f.write_str("; raise the limit on the size of files (`ulimit -f`)"),
            io::ErrorKind::PermissionDenied => {
                f.write_str("; the audit folder has to belong to the user who runs this")
            }
            io::ErrorKind::ReadOnlyFilesystem => f.write_str("; the audit has to be on a disk that can be written"),
            _ => Ok(()),
        }
    }
}
