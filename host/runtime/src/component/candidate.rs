//! A component that has been read and inspected, but not compiled.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{FileType, Mode, OFlags};

use crate::imports::{self, Interfaces, Malformed, Refused};
use strongroom_core::ids::Digest;
use strongroom_core::record::ComponentRef;

/// A component's bytes and the contents of its top-level sections.
#[derive(Clone)]
pub struct Candidate {
    bytes: Bytes,
    digest: Digest,
    interfaces: Arc<Interfaces>,
    refused: Arc<[Refused]>,
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate").field("digest", &self.digest).field("bytes", &self.len()).finish_non_exhaustive()
    }
}

/// Why a file is not a component that can run. Nothing was created or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file does not exist or cannot be read.
    #[error("the component `{}` cannot be read: {cause}; check the path and its permissions", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// The path leads to a directory, pipe or device.
    #[error("the component `{}` is not a regular file: give the `.wasm` file that the build made", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is larger than the limit for components.
    #[error("the component `{}` is over {} MiB, the most that this host accepts: build it smaller", path.display(), max / (1024 * 1024))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        max: u64,
    },
    /// The file was read, but its contents cannot run.
    #[error("the component `{}` {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with the contents.
        why: Malformed,
    },
    /// The host failed while it read the file.
    #[error("reading the component `{}` failed in this program", path.display())]
    Interrupted {
        /// The file.
        path: PathBuf,
    },
}

impl LoadError {
    /// Returns the component's file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Unreadable { path, .. }
            | Self::NotAFile { path }
            | Self::TooLarge { path, .. }
            | Self::Malformed { path, .. }
            | Self::Interrupted { path } => path,
        }
    }

    /// Returns whether the host is at fault (exit code 5) and not its input (exit code 2).
    pub fn is_host_fault(&self) -> bool {
        match self {
            Self::Interrupted { .. } => true,
            Self::Unreadable { cause, .. } => {
                !matches!(
                    cause.kind(),
                    ErrorKind::NotFound
                        | ErrorKind::PermissionDenied
                        | ErrorKind::NotADirectory
                        | ErrorKind::IsADirectory
                        | ErrorKind::InvalidFilename
                        | ErrorKind::InvalidInput
                ) && !is_link_loop(cause)
            }
            Self::NotAFile { .. } | Self::TooLarge { .. } | Self::Malformed { .. } => false,
        }
    }
}

fn is_link_loop(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

/// The world for which a component's interfaces are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inspect {
    /// The world of the runner, which requires a known entry point.
    Runner,
    /// A world of the embedder's own.
    Own,
}

impl Candidate {
    /// Reads a component's file of at most `max` bytes, without compiling it. Blocks.
    ///
    /// # Errors
    /// [`LoadError`]; nothing was created or changed.
    pub fn read(path: &Path, max: u64) -> Result<Self, LoadError> {
        Self::read_as(path, max, Inspect::Runner)
    }

    /// Reads a component's file to describe it. It may have no entry point:
    /// [`Interfaces::check_entry`] tells whether this host can run it. Blocks.
    ///
    /// # Errors
    /// As [`read`](Self::read), except for the entry point.
    pub fn describe(path: &Path, max: u64) -> Result<Self, LoadError> {
        Self::read_as(path, max, Inspect::Own)
    }

    pub(super) fn read_as(path: &Path, max: u64, inspect: Inspect) -> Result<Self, LoadError> {
        let unreadable = |cause| LoadError::Unreadable { path: path.to_owned(), cause };
        // Without `NONBLOCK`, opening a pipe would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| unreadable(error.into()))?;
        let file = File::from(file);
        let stat = rustix::fs::fstat(&file).map_err(|error| unreadable(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(LoadError::NotAFile { path: path.to_owned() });
        }
        let too_large = || LoadError::TooLarge { path: path.to_owned(), max };
        let length = u64::try_from(stat.st_size).unwrap_or_default();
        if length > max {
            return Err(too_large());
        }
        // The file may grow while it is read.
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        (&file).take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
        Self::new(path, bytes.into(), max, inspect)
    }

    pub(super) fn new(path: &Path, bytes: Bytes, max: u64, inspect: Inspect) -> Result<Self, LoadError> {
        if bytes.len() as u64 > max {
            return Err(LoadError::TooLarge { path: path.to_owned(), max });
        }
        let interfaces = match inspect {
            Inspect::Runner => imports::inspect(&bytes),
            Inspect::Own => imports::inspect_for_world(&bytes),
        };
        let interfaces = interfaces.map_err(|why| LoadError::Malformed { path: path.to_owned(), why })?;
        let refused = imports::refused(&interfaces).into();
        let (digest, interfaces) = (Digest::of(&bytes), Arc::new(interfaces));
        Ok(Self { bytes, digest, interfaces, refused })
    }

    /// Returns the SHA-256 digest of the bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the component's reference for a run record, with the file that it came from.
    pub fn component_ref(&self, path: &Path) -> ComponentRef {
        ComponentRef::new(path, self.digest, self.len())
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the number of bytes: at least the 8 of a header.
    #[expect(clippy::len_without_is_empty, reason = "no component is empty")]
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Returns what the component imports and exports.
    pub fn interfaces(&self) -> &Arc<Interfaces> {
        &self.interfaces
    }

    /// Returns all imports that are not linked. A component with any such import must not run.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }
}
