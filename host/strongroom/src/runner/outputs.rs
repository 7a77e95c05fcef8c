//! Lists the regular files that a run has left in its output directory, without following links, and
//! publishes them.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use sha2::Digest as _;

use strongroom_broker::{Ended, Session};
use strongroom_core::ids::Digest;
use strongroom_core::record::{Limit, OUTPUTS_DISCARDED, Output};
use strongroom_redact::Redactor;

use super::staging::Staging;

/// The maximum depth of directories that are listed.
const DEPTH_MAX: usize = 256;

/// The longest path, in bytes. A file beyond it cannot be opened by its path, and storing a longer
/// path for each file of a deep directory would fill the host's memory.
const PATH_MAX: usize = 4_096;

/// Why outputs were not listed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListError {
    /// The component's outputs exceed the limits.
    #[error(
        "its outputs are nested too deeply: at most {DEPTH_MAX} directories and {PATH_MAX} bytes of path are possible"
    )]
    Deep,
    /// Hashing took longer than the run's time limit.
    #[error("the outputs could not be hashed within the time limit")]
    Time,
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The file system returned an error.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<rustix::io::Errno> for ListError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Lists the files below `root`, sorted by path. `shown` converts a name to the form that is
/// stored. Once `stop` is set, returns [`ListError::Cancelled`] instead.
fn list(root: BorrowedFd<'_>, shown: impl Fn(&str) -> String, stop: &AtomicBool) -> Result<Vec<Output>, ListError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut outputs = Vec::new();
    // Paths from the root of the directories still to be listed, so that only one is open at a
    // time.
    let mut waiting = vec![Vec::<CString>::new()];
    while let Some(path) = waiting.pop() {
        let length: usize = path.iter().map(|part| part.as_bytes().len().saturating_add(1)).sum();
        if stop.load(Ordering::Relaxed) {
            return Err(ListError::Cancelled);
        }
        if path.len() > DEPTH_MAX {
            return Err(ListError::Deep);
        }
        let directory = descend(root, &path, flags)?;
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if length.saturating_add(name.to_bytes().len()) > PATH_MAX {
                return Err(ListError::Deep);
            }
            let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let mut below = path.clone();
                    below.push(name.to_owned());
                    waiting.push(below);
                }
                FileType::RegularFile => {
                    let whole: Vec<_> =
                        path.iter().map(|part| part.to_string_lossy()).chain([name.to_string_lossy()]).collect();
                    let (bytes, sha256) = digest(directory.as_fd(), name, stop)?;
                    outputs.push(Output { path: shown(&whole.join("/")), bytes, sha256 });
                }
                // A component cannot create other kinds of files, so these are not outputs.
                _ => {}
            }
        }
    }
    outputs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(outputs)
}

fn descend(root: BorrowedFd<'_>, path: &[CString], flags: OFlags) -> io::Result<rustix::fd::OwnedFd> {
    let mut directory = rustix::fs::openat(root, c".", flags, Mode::empty())?;
    for part in path {
        directory = rustix::fs::openat(&directory, part.as_c_str(), flags, Mode::empty())?;
    }
    Ok(directory)
}

fn digest(directory: BorrowedFd<'_>, name: &CStr, stop: &AtomicBool) -> Result<(u64, Digest), ListError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?);
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut total: u64 = 0;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(ListError::Cancelled);
        }
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((total, Digest::from_bytes(hasher.finalize().into())));
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
        total = total.saturating_add(read as u64);
    }
}

/// Publishes or discards the contents of the run's staging directory. Publishing ends early if
/// `cancel` is ready, or after the run's time limit, which starts anew: a component must not occupy
/// the host by what it leaves to be hashed.
pub(super) async fn conclude(
    staging: Staging,
    ended: Ended,
    session: &mut Session,
    cancel: impl Future<Output = ()>,
) -> Ended {
    if !matches!(ended, Ended::Finished) || !staging.has_target() {
        if staging.has_target() {
            session.record_mut().warnings.push("outputs of a run that did not finish are discarded".to_owned());
        } else if staging.has_files() {
            session.record_mut().warnings.push(OUTPUTS_DISCARDED.to_owned());
        }
        // Removing a large tree would block the executor.
        let _ = tokio::task::spawn_blocking(move || drop(staging)).await;
        return ended;
    }
    let listed = list_within(staging, session.broker().redactor().clone(), session.limits().time, cancel).await;
    let published = match listed {
        Ok((staging, outputs)) => {
            let announced = session.announce_outputs(outputs.len() as u64).await;
            // Without the event, the directory is removed instead, which may take as long.
            let publishing = tokio::task::spawn_blocking(move || announced.map(|()| staging.publish()));
            match publishing.await {
                Ok(Err(unaudited)) => return unaudited,
                Ok(Ok(published)) => published.map(|()| outputs).map_err(ListError::from),
                Err(panic) => Err(io::Error::other(panic).into()),
            }
        }
        Err(error) => Err(error),
    };
    match published {
        Ok(outputs) => {
            session.record_mut().outputs = outputs;
            ended
        }
        Err(ListError::Deep) => Ended::Failed { exit_code: Some(0), reason: ListError::Deep.to_string() },
        Err(ListError::Time) => {
            session.record_mut().reason = Some(ListError::Time.to_string());
            Ended::Limit(Limit::Time)
        }
        Err(ListError::Cancelled) => Ended::Cancelled,
        Err(ListError::Io(error)) => Ended::HostFault(format!("could not publish the outputs: {error}")),
    }
}

/// Stops a listing when it is dropped.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lists the outputs, unless `cancel` is ready or `time` has passed before.
async fn list_within(
    staging: Staging,
    redactor: Redactor,
    time: Duration,
    cancel: impl Future<Output = ()>,
) -> Result<(Staging, Vec<Output>), ListError> {
    // If the run's future is dropped, this stops the listing too.
    let stop = StopOnDrop::default();
    let stopped = Arc::clone(&stop.0);
    let mut listing = tokio::task::spawn_blocking(move || {
        let outputs = list(staging.directory(), |name| redactor.sanitize(name), &stopped)?;
        Ok::<_, ListError>((staging, outputs))
    });
    let early = tokio::select! {
        // A listing that is complete counts.
        biased;
        listed = &mut listing => Ok(listed),
        () = cancel => Err(ListError::Cancelled),
        () = tokio::time::sleep(time) => Err(ListError::Time),
    };
    let listed = match early {
        Ok(listed) => listed,
        Err(error) => {
            drop(stop);
            // Wait until the staging directory is removed: the record must not be final before.
            let _ = listing.await;
            return Err(error);
        }
    };
    listed.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &std::path::Path) -> rustix::fd::OwnedFd {
        rustix::fs::open(directory, OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn deeply_nested_outputs_are_an_error() {
        for (depth, name) in [(DEPTH_MAX + 2, "d".to_owned()), (20, "d".repeat(250))] {
            let temp = tempfile::tempdir().unwrap();
            let mut directory = rustix::fs::open(temp.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
            for _ in 0..depth {
                rustix::fs::mkdirat(&directory, name.as_str(), Mode::RWXU).unwrap();
                directory = rustix::fs::openat(&directory, name.as_str(), OFlags::DIRECTORY, Mode::empty()).unwrap();
            }
            assert!(matches!(
                list(open(temp.path()).as_fd(), str::to_owned, &AtomicBool::new(false)),
                Err(ListError::Deep)
            ));
            crate::runs::remove_tree(temp.path()).unwrap();
        }
    }

    #[test]
    fn regular_files_are_listed_and_links_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("a/b")).unwrap();
        std::fs::write(temp.path().join("a/b/file"), "abc").unwrap();
        std::fs::write(temp.path().join("top"), "").unwrap();
        std::os::unix::fs::symlink("/etc", temp.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", temp.path().join("a/passwd")).unwrap();
        let outputs = list(open(temp.path()).as_fd(), str::to_owned, &AtomicBool::new(false)).unwrap();
        let paths: Vec<_> = outputs.iter().map(|output| output.path.as_str()).collect();
        assert_eq!(paths, ["a/b/file", "top"]);
        assert_eq!(outputs[0].sha256, Digest::of(b"abc"));
        assert_eq!(outputs[0].bytes, 3);
    }

    #[test]
    fn stopped_listing_hashes_nothing_more() {
        let temp = tempfile::tempdir().unwrap();
        // Hashing it would take hours.
        File::create(temp.path().join("sparse")).unwrap().set_len(1 << 42).unwrap();
        let listed = list(open(temp.path()).as_fd(), str::to_owned, &AtomicBool::new(true));
        assert!(matches!(listed, Err(ListError::Cancelled)));
    }
}
