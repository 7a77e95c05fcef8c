//! Removes a directory that a component filled.
//!
//! The standard library's removal holds a descriptor for each level, and a component can nest
//! directories deeper than a process may have descriptors. The removal would then fail and leave
//! what the component wrote. This module moves the contents of a directory up before it removes the
//! directory, so that only two are open at a time at any depth.

use std::ffi::CString;
use std::io;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Removes a directory with all its contents. Links are removed and never followed.
///
/// # Errors
/// The file system returned an error, or `path` is a link or not a directory.
#[cfg(test)]
pub(crate) fn remove_tree(path: &std::path::Path) -> io::Result<()> {
    let root = rustix::fs::open(path, flags(), Mode::empty())?;
    empty_tree(&root)?;
    drop(root);
    std::fs::remove_dir(path)
}

/// Removes all contents of an open directory. Several processes may do so at the same time.
///
/// # Errors
/// The file system returned an error.
pub(crate) fn empty_tree(root: &OwnedFd) -> io::Result<()> {
    let mut serial: u64 = 0;
    loop {
        let folders = take_files(root)?;
        if folders.is_empty() {
            return Ok(());
        }
        for name in folders {
            let folder = match rustix::fs::openat(root, &name, flags(), Mode::empty()) {
                Err(Errno::NOENT) => continue,
                folder => folder?,
            };
            for below in take_files(&folder)? {
                lift(&folder, &below, root, &mut serial)?;
            }
            match rustix::fs::unlinkat(root, &name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Removes everything except directories, and returns the directories.
fn take_files(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut folders = Vec::new();
    for entry in Dir::read_from(folder.as_fd())? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            folders.push(name.to_owned());
        } else {
            match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(folders)
}

/// Moves a directory to the root under a name that is unused there or belongs to an empty
/// directory.
fn lift(from: &OwnedFd, name: &CString, root: &OwnedFd, serial: &mut u64) -> io::Result<()> {
    loop {
        let free = format!("lifted-{serial}");
        *serial = serial.saturating_add(1);
        match rustix::fs::renameat(from, name, root, free.as_str()) {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            Err(Errno::NOENT) => return Ok(()),
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_is_removed_without_following_links() {
        let temp = tempfile::tempdir().unwrap();
        let (tree, kept) = (temp.path().join("tree"), temp.path().join("kept"));
        std::fs::create_dir_all(tree.join("a/b/c")).unwrap();
        std::fs::create_dir_all(tree.join("lifted-0/lifted-0/x")).unwrap();
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        std::fs::write(tree.join("a/b/c/file"), "x").unwrap();
        std::fs::write(tree.join("lifted-1"), "x").unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("a/link")).unwrap();
        std::os::unix::fs::symlink(&kept, temp.path().join("link")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && kept.join("file").exists());
        assert!(remove_tree(&temp.path().join("link")).is_err());
        assert!(kept.join("file").exists());
    }

    #[test]
    fn tree_deeper_than_the_descriptor_limit_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let tree = temp.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        let depth = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(0).min(3_000) + 100;
        let mut at = rustix::fs::open(&tree, flags(), Mode::empty()).unwrap();
        for _ in 0..depth {
            rustix::fs::mkdirat(&at, c"d", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, c"d", flags(), Mode::empty()).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
