//! Removing a folder that a component filled.
//!
//! The standard library's removal holds a descriptor for each level, and a component can nest folders deeper than a process may have
//! descriptors: the folder would stay, and with it what the component wrote. Here what is below a folder is moved up before it is
//! removed, so that two are open at a time, however deep they were nested.

use std::ffi::CString;
use std::io;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Removes a folder with all that is in it. Links are removed and never followed.
///
/// # Errors
/// The file system refuses, or `path` is a link or no folder.
#[cfg(test)]
pub(crate) fn remove_tree(path: &std::path::Path) -> io::Result<()> {
    let root = rustix::fs::open(path, flags(), Mode::empty())?;
    empty_tree(&root)?;
    drop(root);
    std::fs::remove_dir(path)
}

/// Removes all that is in an open folder.
///
/// # Errors
/// The file system refuses.
pub(crate) fn empty_tree(root: &OwnedFd) -> io::Result<()> {
    let mut serial: u64 = 0;
    loop {
        let folders = take_files(root)?;
        if folders.is_empty() {
            return Ok(());
        }
        for name in folders {
            let folder = rustix::fs::openat(root, &name, flags(), Mode::empty())?;
            for below in take_files(&folder)? {
                lift(&folder, &below, root, &mut serial)?;
            }
            rustix::fs::unlinkat(root, &name, AtFlags::REMOVEDIR)?;
        }
    }
}

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Removes what is no folder, and answers with the folders.
fn take_files(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut folders = Vec::new();
    for entry in Dir::read_from(folder.as_fd())? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            folders.push(name.to_owned());
        } else {
            rustix::fs::unlinkat(folder, name, AtFlags::empty())?;
        }
    }
    Ok(folders)
}

/// Moves a folder to the root under a name that is free there, or that an empty folder has.
fn lift(from: &OwnedFd, name: &CString, root: &OwnedFd, serial: &mut u64) -> io::Result<()> {
    loop {
        let free = format!("lifted-{serial}");
        *serial = serial.saturating_add(1);
        match rustix::fs::renameat(from, name, root, free.as_str()) {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_and_what_its_links_point_at_stays() {
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
    fn a_tree_may_be_deeper_than_a_process_has_descriptors() {
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
