//! Lists what a run has left in its output directory: regular files only, without following links.

use std::fs::File;
use std::io::{self, Read as _};

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use sha2::Digest as _;

use strongroom_core::ids::Digest;
use strongroom_core::record::Output;

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
        "its outputs are nested too deeply: at most {DEPTH_MAX} folders, and {PATH_MAX} bytes of path, are possible"
    )]
    Deep,
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
/// stored.
pub(super) fn list(root: BorrowedFd<'_>, shown: impl Fn(&str) -> String) -> Result<Vec<Output>, ListError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut outputs = Vec::new();
    // Paths from the root of the directories still to be listed, so that only one is open at a
    // time.
    let mut waiting = vec![Vec::<std::ffi::CString>::new()];
    while let Some(path) = waiting.pop() {
        let length: usize = path.iter().map(|part| part.as_bytes().len().saturating_add(1)).sum();
        if path.len() > DEPTH_MAX {
            return Err(ListError::Deep);
        }
        let folder = descend(root, &path, flags)?;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if length.saturating_add(name.to_bytes().len()) > PATH_MAX {
                return Err(ListError::Deep);
            }
            let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let mut below = path.clone();
                    below.push(name.to_owned());
                    waiting.push(below);
                }
                FileType::RegularFile => {
                    let whole: Vec<_> =
                        path.iter().map(|part| part.to_string_lossy()).chain([name.to_string_lossy()]).collect();
                    let (bytes, sha256) = digest(folder.as_fd(), name)?;
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

fn descend(root: BorrowedFd<'_>, path: &[std::ffi::CString], flags: OFlags) -> io::Result<rustix::fd::OwnedFd> {
    let mut folder = rustix::fs::openat(root, c".", flags, Mode::empty())?;
    for part in path {
        folder = rustix::fs::openat(&folder, part.as_c_str(), flags, Mode::empty())?;
    }
    Ok(folder)
}

fn digest(folder: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<(u64, Digest)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut total: u64 = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((total, Digest::from_bytes(hasher.finalize().into())));
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
        total = total.saturating_add(read as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &std::path::Path) -> rustix::fd::OwnedFd {
        rustix::fs::open(folder, OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn what_is_nested_too_deeply_is_told_apart() {
        for (depth, name) in [(DEPTH_MAX + 2, "d".to_owned()), (20, "d".repeat(250))] {
            let temp = tempfile::tempdir().unwrap();
            let mut folder = rustix::fs::open(temp.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
            for _ in 0..depth {
                rustix::fs::mkdirat(&folder, name.as_str(), Mode::RWXU).unwrap();
                folder = rustix::fs::openat(&folder, name.as_str(), OFlags::DIRECTORY, Mode::empty()).unwrap();
            }
            assert!(matches!(list(open(temp.path()).as_fd(), str::to_owned), Err(ListError::Deep)));
            crate::runs::remove_tree(temp.path()).unwrap();
        }
    }

    #[test]
    fn only_regular_files_are_listed_and_no_link_is_followed() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("a/b")).unwrap();
        std::fs::write(temp.path().join("a/b/file"), "abc").unwrap();
        std::fs::write(temp.path().join("top"), "").unwrap();
        std::os::unix::fs::symlink("/etc", temp.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", temp.path().join("a/passwd")).unwrap();
        let outputs = list(open(temp.path()).as_fd(), str::to_owned).unwrap();
        let paths: Vec<_> = outputs.iter().map(|output| output.path.as_str()).collect();
        assert_eq!(paths, ["a/b/file", "top"]);
        assert_eq!(outputs[0].sha256, Digest::of(b"abc"));
        assert_eq!(outputs[0].bytes, 3);
    }
}
