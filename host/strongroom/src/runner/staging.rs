//! The staging directory of a run: private while the run is in progress, then published completely
//! or not at all.
//!
//! Before outputs are published the paths are checked again: if they do not lead to the directories
//! that were checked before the start, nothing is published.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::directories::{Checked, Target, is_empty};
use super::open_dir::{DIRECTORY, FileIdentity, OpenDir, open, path_of, stat};
use strongroom_core::ids::RunId;

/// The error for a staging directory that could not be created.
#[derive(Debug, thiserror::Error)]
#[error("could not create the staging directory `{}`: {cause}", path.display())]
pub(super) struct StagingError {
    path: PathBuf,
    cause: io::Error,
}

/// A run's staging directory. Dropping it removes the directory with its contents, unless it was
/// published.
#[derive(Debug)]
pub(super) struct Staging {
    directory: OwnedFd,
    name: OsString,
    parent: OpenDir,
    /// The final name in `parent`, and the empty directory that it replaces. `None` if the output
    /// is discarded.
    target: Option<(OsString, Option<FileIdentity>)>,
    input: Option<OwnedFd>,
    stdin: Option<File>,
    published: bool,
}

impl Checked {
    /// Returns the path that the run's staging directory will have: beside the output directory, or
    /// in `temp` if the output is discarded.
    pub(super) fn staging_path(&self, run: &RunId, temp: &Path) -> PathBuf {
        let parent = match &self.target {
            Some(target) => target.parent.path.clone(),
            None => temp.canonicalize().unwrap_or_else(|_| temp.to_owned()),
        };
        parent.join(staging_name(run))
    }

    /// Creates the staging directory.
    pub(super) fn stage(self, run: &RunId, temp: &Path) -> Result<Staging, StagingError> {
        let path = self.staging_path(run, temp);
        self.create(staging_name(run), temp).map_err(|cause| StagingError { path, cause })
    }

    fn create(self, name: OsString, temp: &Path) -> io::Result<Staging> {
        let (parent, target) = match self.target {
            Some(Target { parent, name, replaces }) => (parent, Some((name, replaces))),
            None => (OpenDir::new(open(temp)?)?, None),
        };
        rustix::fs::mkdirat(&parent.fd, name.as_os_str(), Mode::RWXU)?;
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        let directory = rustix::fs::openat(&parent.fd, name.as_os_str(), flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&directory)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            return Err(io::Error::other("another process replaced it"));
        }
        Ok(Staging { directory, name, parent, target, input: self.input, stdin: self.stdin, published: false })
    }
}

fn staging_name(run: &RunId) -> OsString {
    format!(".strongroom-{run}").into()
}

impl Staging {
    /// Returns the descriptor of the staging directory.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Returns a path by which this process can reach it while this value lives.
    pub(super) fn path(&self) -> PathBuf {
        path_of(&self.directory)
    }

    /// Returns such a path for the input directory.
    pub(super) fn input_path(&self) -> Option<PathBuf> {
        self.input.as_ref().map(path_of)
    }

    /// Returns the file for standard input, once.
    pub(super) fn take_stdin(&mut self) -> Option<File> {
        self.stdin.take()
    }

    /// Returns whether there is a directory in which its contents are published.
    pub(super) fn has_target(&self) -> bool {
        self.target.is_some()
    }

    /// Returns whether the component left anything, as far as that can be read.
    pub(super) fn has_files(&self) -> bool {
        is_empty(&self.directory).is_ok_and(|empty| !empty)
    }

    /// Publishes the output atomically, only in the directory that was checked. Returns an error if
    /// that directory's path now leads elsewhere, or if anything other than an empty directory is
    /// at the destination.
    pub(super) fn publish(mut self) -> io::Result<()> {
        let Some((name, replaces)) = &self.target else { return Ok(()) };
        let changed = |what: &str| io::Error::other(format!("{what} was moved or replaced during the run"));
        if !self.is_in_place()? {
            return Err(changed("the staging directory"));
        }
        if !self.parent.is_in_place()? {
            return Err(changed("the parent of the output directory"));
        }
        let present = stat(&self.parent.fd, name)?;
        if present.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory) {
            return Err(changed("the output directory"));
        }
        let mode = match present {
            Some(stat) if *replaces == Some(stat.into()) => stat.st_mode & 0o7777,
            // Use the mode that a plain `mkdir` would give. This holds even if somebody else
            // created a directory there, because the operator did not choose its mode.
            _ => 0o777 & !umask(&self.directory)?,
        };
        rustix::fs::fchmod(&self.directory, Mode::from_raw_mode(mode))?;
        // This replaces only an empty directory, whatever appears there at this moment, and does
        // not follow a link.
        let (from, to, parent) = (self.name.as_os_str(), name.as_os_str(), &self.parent.fd);
        let renamed = match present {
            Some(_) => rustix::fs::renameat(parent, from, parent, to),
            None => match rustix::fs::renameat_with(parent, from, parent, to, RenameFlags::NOREPLACE) {
                // The file system does not support `NOREPLACE`.
                Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(parent, from, parent, to),
                other => other,
            },
        };
        renamed?;
        self.published = true;
        Ok(())
    }

    /// Returns whether its name still leads to it.
    fn is_in_place(&self) -> io::Result<bool> {
        let present = stat(&self.parent.fd, &self.name)?;
        Ok(present.map(FileIdentity::from) == Some(FileIdentity::of(&self.directory)?))
    }

    /// Removes the directory and its contents. If somebody has moved it, its contents are removed
    /// where it is now, and whatever has replaced it is left alone.
    fn remove(&self) -> io::Result<()> {
        crate::runs::empty_tree(&self.directory)?;
        if !self.is_in_place()? {
            return Err(io::Error::other("it was moved, and is empty now"));
        }
        Ok(rustix::fs::unlinkat(&self.parent.fd, self.name.as_os_str(), AtFlags::REMOVEDIR)?)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = self.remove()
        {
            let path = self.parent.path.join(&self.name);
            tracing::warn!(path = %path.display(), %error, "could not remove a staging directory");
        }
    }
}

/// Returns the process's umask, derived from a directory created for this purpose: querying the
/// umask would change it for all threads. The directory is created inside the staging directory, so
/// that a process that dies here leaves nothing else behind.
fn umask(staging: &OwnedFd) -> io::Result<u32> {
    let probe = OsString::from(format!(".umask-{}", ulid::Ulid::generate()));
    rustix::fs::mkdirat(staging, probe.as_os_str(), Mode::from_raw_mode(0o777))?;
    let created = stat(staging, &probe);
    rustix::fs::unlinkat(staging, probe.as_os_str(), AtFlags::REMOVEDIR)?;
    let created = created?.ok_or(io::ErrorKind::NotFound)?;
    Ok(0o777 & !created.st_mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::directories::tests::run_spec;
    use crate::runner::directories::{DirectoryError, check};
    use std::fs;
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink};

    #[test]
    fn outputs_are_published_completely_or_not_at_all() {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("out");
        let run = RunId::generate();
        let staging = check(&run_spec(None, Some(&target)), &[]).unwrap().stage(&run, temp.path()).unwrap();
        fs::write(staging.path().join("a"), "a").unwrap();
        assert!(!target.exists());
        staging.publish().unwrap();
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "a");

        let second = temp.path().join("second");
        let staging = check(&run_spec(None, Some(&second)), &[]).unwrap().stage(&run, temp.path()).unwrap();
        fs::write(staging.path().join("a"), "a").unwrap();
        drop(staging);
        assert!(!second.exists());
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    }

    #[test]
    fn publishing_creates_nothing_beside_the_staging_directory() {
        let temp = tempfile::tempdir().unwrap();
        let (target, plain) = (temp.path().join("out"), temp.path().join("plain"));
        fs::create_dir(&plain).unwrap();
        let staging =
            check(&run_spec(None, Some(&target)), &[]).unwrap().stage(&RunId::generate(), temp.path()).unwrap();
        fs::write(staging.path().join("a"), "a").unwrap();
        // inotify also reports entries that have been removed again.
        let watch = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::NONBLOCK).unwrap();
        let flags = rustix::fs::inotify::WatchFlags::CREATE;
        rustix::fs::inotify::add_watch(&watch, temp.path(), flags).unwrap();
        staging.publish().unwrap();
        let mut buffer = [std::mem::MaybeUninit::uninit(); 512];
        let mut events = rustix::fs::inotify::Reader::new(&watch, &mut buffer);
        let made = events.next();
        assert!(matches!(made, Err(rustix::io::Errno::AGAIN)), "{made:?}");
        assert_eq!(fs::metadata(&target).unwrap().mode(), fs::metadata(&plain).unwrap().mode());
        assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    }

    #[test]
    fn existing_output_directory_keeps_its_mode() {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("out");
        fs::DirBuilder::new().mode(0o750).create(&target).unwrap();
        let staging =
            check(&run_spec(None, Some(&target)), &[]).unwrap().stage(&RunId::generate(), temp.path()).unwrap();
        fs::write(staging.path().join("a"), "a").unwrap();
        staging.publish().unwrap();
        assert!(target.join("a").exists());
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o750);
    }

    /// Returns a parent directory, an output directory in it that may be missing, and an unrelated
    /// directory that must stay untouched.
    fn outside(there: bool) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let (above, elsewhere) = (temp.path().join("above"), temp.path().join("elsewhere"));
        for folder in [&above, &elsewhere] {
            fs::create_dir(folder).unwrap();
        }
        if there {
            fs::create_dir(above.join("out")).unwrap();
        }
        (temp, above, elsewhere)
    }

    fn all_below(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| if path.is_dir() && !path.is_symlink() { all_below(&path) } else { vec![path] })
            .collect()
    }

    // promise: A run reads from and publishes to the directories that were checked, even if the
    // paths change in the meantime.
    // attack: escape: redirect outputs or inputs by moving or replacing directories before or
    // during the run -> input, output and the parent of the output stay open from the check on, and
    // outputs go only there, over nothing but an empty directory
    #[test]
    fn changed_directories_receive_no_outputs() {
        type Change = fn(&Path, &Path);
        let changes: [(&str, bool, Change); 7] = [
            ("a link in its place", false, |above, elsewhere| symlink(elsewhere, above.join("out")).unwrap()),
            ("a link that leads nowhere", false, |above, elsewhere| {
                symlink(elsewhere.join("new"), above.join("out")).unwrap()
            }),
            ("a file in its place", false, |above, _| fs::write(above.join("out"), "kept").unwrap()),
            ("the folder is filled", true, |above, _| fs::write(above.join("out/mine"), "kept").unwrap()),
            ("a link in place of the folder", true, |above, elsewhere| {
                fs::remove_dir(above.join("out")).unwrap();
                symlink(elsewhere, above.join("out")).unwrap();
            }),
            ("a link in place of the folder above", false, |above, elsewhere| {
                fs::rename(above, above.with_file_name("moved")).unwrap();
                symlink(elsewhere, above).unwrap();
            }),
            ("another folder above", true, |above, _| {
                fs::rename(above, above.with_file_name("moved")).unwrap();
                fs::create_dir_all(above.join("out")).unwrap();
            }),
        ];
        for (what, there, change) in changes {
            for before_it_is_staged in [true, false] {
                let (temp, above, elsewhere) = outside(there);
                let target = above.join("out");
                let checked = check(&run_spec(None, Some(&target)), &[]).unwrap();
                if before_it_is_staged {
                    change(&above, &elsewhere);
                }
                let staging = checked.stage(&RunId::generate(), temp.path()).unwrap();
                fs::write(staging.path().join("a"), "a").unwrap();
                if !before_it_is_staged {
                    change(&above, &elsewhere);
                }
                assert!(staging.publish().is_err(), "{what}");
                assert_eq!(all_below(&elsewhere), Vec::<PathBuf>::new(), "{what}");
                // The other party's files are unchanged, and nothing of the run's is left.
                let left = all_below(temp.path());
                let theirs = |path: &PathBuf| path.is_symlink() || fs::read(path).unwrap() == b"kept";
                assert!(left.iter().all(theirs), "{what}: {left:?}");
                for folder in [above, temp.path().join("moved")] {
                    let mut names = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().file_name());
                    assert!(names.all(|name| name == "out"), "{what}");
                }
            }
        }
    }

    #[test]
    fn empty_directory_created_or_removed_meanwhile_is_accepted() {
        for there in [false, true] {
            let (temp, above, _) = outside(there);
            let (target, plain) = (above.join("out"), temp.path().join("plain"));
            fs::create_dir(&plain).unwrap();
            let staging =
                check(&run_spec(None, Some(&target)), &[]).unwrap().stage(&RunId::generate(), temp.path()).unwrap();
            fs::write(staging.path().join("a"), "a").unwrap();
            if there {
                fs::remove_dir(&target).unwrap();
            } else {
                fs::create_dir(&target).unwrap();
                fs::set_permissions(&target, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
            }
            staging.publish().unwrap();
            assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "a");
            // The creator of the directory does not decide who may read the outputs.
            assert_eq!(fs::metadata(&target).unwrap().mode(), fs::metadata(&plain).unwrap().mode());
        }
    }

    // attack: escape: redirect outputs or inputs by moving or replacing directories before or
    // during the run -> input, output and the parent of the output stay open from the check on, and
    // outputs go only there, over nothing but an empty directory
    #[test]
    fn swapped_staging_directory_is_emptied_and_not_published() {
        for discarded in [false, true] {
            let (temp, above, elsewhere) = outside(false);
            let run = RunId::generate();
            let staging =
                check(&run_spec(None, Some(&above.join("out"))), &[]).unwrap().stage(&run, temp.path()).unwrap();
            fs::write(staging.path().join("a"), "a").unwrap();
            fs::write(elsewhere.join("theirs"), "kept").unwrap();
            let (private, moved) = (above.join(format!(".strongroom-{run}")), temp.path().join("moved"));
            fs::rename(&private, &moved).unwrap();
            symlink(&elsewhere, &private).unwrap();
            // The component still writes to the same directory.
            fs::write(staging.path().join("b"), "b").unwrap();
            assert!(moved.join("b").exists());
            if discarded {
                drop(staging);
            } else {
                assert!(
                    staging.publish().unwrap_err().to_string().contains("the staging directory was moved or replaced")
                );
            }
            assert!(!above.join("out").exists());
            assert_eq!(all_below(&moved), Vec::<PathBuf>::new());
            assert_eq!(fs::read_to_string(elsewhere.join("theirs")).unwrap(), "kept");
            assert_eq!(fs::read_link(&private).unwrap(), elsewhere);
        }
    }

    // promise: A run reads from and publishes to the directories that were checked, even if the
    // paths change in the meantime.
    // attack: escape: redirect outputs or inputs by moving or replacing directories before or
    // during the run -> input, output and the parent of the output stay open from the check on, and
    // outputs go only there, over nothing but an empty directory
    #[test]
    fn input_directory_stays_the_one_that_was_checked() {
        let (temp, above, elsewhere) = outside(false);
        fs::write(above.join("data"), "checked").unwrap();
        fs::write(elsewhere.join("data"), "private").unwrap();
        let private = [elsewhere.clone()];
        let open = check(&run_spec(Some(&above), None), &private).unwrap();
        fs::rename(&above, temp.path().join("moved")).unwrap();
        symlink(&elsewhere, &above).unwrap();
        let staging = open.stage(&RunId::generate(), temp.path()).unwrap();
        assert_eq!(fs::read_to_string(staging.input_path().unwrap().join("data")).unwrap(), "checked");
        assert!(matches!(check(&run_spec(Some(&above), None), &private), Err(DirectoryError::InputPrivate(_))));
    }
}
