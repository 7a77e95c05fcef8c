//! The directories of a run: checked before it starts, private while it is in progress, and
//! published completely or not at all.
//!
//! The checked directories are held open, and all later access goes through those descriptors. If
//! somebody moves a directory meanwhile or replaces it with a link, this changes where a path leads
//! and not what a run reads and writes. Before outputs are published the paths are checked again:
//! if they do not lead to what was checked, nothing is published.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::private::{Beside, FOLDER, Identity, Private, Temp, open, path_of, real_path, stat};
use strongroom_core::ids::RunId;
use strongroom_core::spec::RunSpec;

/// Why a run's directories cannot be used. Nothing has been created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The input directory cannot be read.
    #[error("the input folder `{}` {}", path.display(), match cause.kind() {
        io::ErrorKind::NotFound => "is not there: check the path".to_owned(),
        io::ErrorKind::NotADirectory => "is a file: give the folder that holds it".to_owned(),
        _ => format!("cannot be used ({cause}): give a folder that you may read"),
    })]
    Input {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The output directory exists and is not empty.
    #[error("the output folder `{}` is not empty: give an empty or new folder, so that nothing is overwritten", .0.display())]
    OutputNotEmpty(PathBuf),
    /// The output directory cannot be created or used.
    #[error("the output folder `{}` {}", path.display(), match cause.kind() {
        io::ErrorKind::NotFound => "cannot be made, because the folder above it is not there: make that one first".to_owned(),
        io::ErrorKind::NotADirectory => "is a file: give an empty or new folder".to_owned(),
        _ => format!("cannot be used ({cause}): give a new folder below one that you may write"),
    })]
    Output {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// One directory is the other, or is inside it.
    #[error("the input folder `{}` and the output folder `{}` overlap: give two separate folders", input.display(), output.display())]
    Overlap {
        /// The input directory.
        input: PathBuf,
        /// The output directory.
        output: PathBuf,
    },
    /// The file for standard input cannot be read.
    #[error("could not read the standard input `{}`", .path.display())]
    Stdin {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        cause: io::Error,
    },
    /// The standard input is a directory, pipe or device.
    #[error("the standard input `{}` is not a regular file", .0.display())]
    StdinNotAFile(PathBuf),
    /// The standard input is a private file of the host.
    #[error("the standard input `{}` is a private file of strongroom", .0.display())]
    StdinPrivate(PathBuf),
    /// The component would see a private file or directory of the host.
    #[error("the input folder `{}` holds what strongroom keeps for itself", strongroom_core::escape::escape_controls(&.0.to_string_lossy()))]
    InputPrivate(PathBuf),
    /// The component could change a private file or directory of the host.
    #[error("the output folder `{}` is among what strongroom keeps for itself", strongroom_core::escape::escape_controls(&.0.to_string_lossy()))]
    OutputPrivate(PathBuf),
}

/// Directories that passed the checks, held open.
#[derive(Debug)]
pub(super) struct Checked {
    input: Option<OwnedFd>,
    stdin: Option<File>,
    /// Where the output is published, and its parent directory, in which the staging directory is
    /// created so that it can be renamed. `None` if the output is discarded: its staging directory
    /// is then created in the temporary directory.
    target: Option<(Target, Beside)>,
}

/// The destination of the outputs in its parent directory.
#[derive(Debug)]
struct Target {
    name: OsString,
    /// The empty directory that existed at the check, if any.
    was: Option<Identity>,
}

/// Checks the directories of a specification and creates nothing. `private` lists what no component
/// may see or change.
pub(super) fn check(spec: &RunSpec, private: &[PathBuf]) -> Result<Checked, FolderError> {
    let input = spec.input.as_deref().map(check_input).transpose()?;
    let input_path = input.as_ref().map(|(_, path)| path.as_path());
    let target = spec.output.as_deref().map(|output| check_output(output, input_path)).transpose()?;
    let stdin = spec.stdin.as_deref().map(check_stdin).transpose()?;
    // A private path that does not exist cannot be seen, and a run does not create it.
    for private in private.iter().filter_map(|private| private.canonicalize().ok()) {
        if let (Some(input), Some(given)) = (input_path, &spec.input)
            && (input.starts_with(&private) || private.starts_with(input))
        {
            return Err(FolderError::InputPrivate(given.clone()));
        }
        if let (Some((_, path)), Some(given)) = (&stdin, &spec.stdin)
            && path.starts_with(&private)
        {
            return Err(FolderError::StdinPrivate(given.clone()));
        }
        if let (Some((target, beside)), Some(given)) = (&target, &spec.output)
            && beside.path.join(&target.name).starts_with(&private)
        {
            return Err(FolderError::OutputPrivate(given.clone()));
        }
    }
    Ok(Checked { input: input.map(|(folder, _)| folder), stdin: stdin.map(|(file, _)| file), target })
}

fn check_output(output: &Path, input: Option<&Path>) -> Result<(Target, Beside), FolderError> {
    let failed = |cause: io::Error| FolderError::Output { path: output.to_owned(), cause };
    let (beside, target) = match open(output) {
        Ok(folder) => {
            for entry in Dir::read_from(&folder).map_err(|error| failed(error.into()))? {
                let entry = entry.map_err(|error| failed(error.into()))?;
                if entry.file_name() != c"." && entry.file_name() != c".." {
                    return Err(FolderError::OutputNotEmpty(output.to_owned()));
                }
            }
            let path = real_path(&folder).map_err(failed)?;
            let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?.to_owned();
            let beside = rustix::fs::openat(&folder, "..", FOLDER, Mode::empty());
            let beside = beside.map_err(|error| failed(error.into()))?;
            (beside, Target { name, was: Some(Identity::of(&folder).map_err(failed)?) })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = output.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
            let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            (open(parent).map_err(failed)?, Target { name: name.to_owned(), was: None })
        }
        Err(error) => return Err(failed(error)),
    };
    let beside = Beside::new(beside).map_err(failed)?;
    // A dangling link must not be replaced, and neither must anything that somebody creates or
    // moves there at this moment.
    let there = stat(&*beside.folder, &target.name).map_err(failed)?.map(Identity::from);
    if there != target.was {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    let path = beside.path.join(&target.name);
    if let Some(input) = input
        && (path.starts_with(input) || input.starts_with(&path))
    {
        return Err(FolderError::Overlap { input: input.to_owned(), output: path });
    }
    let writable = rustix::fs::accessat(&*beside.folder, ".", Access::WRITE_OK, AtFlags::empty());
    writable.map_err(|error| failed(error.into()))?;
    Ok((target, beside))
}

fn check_input(input: &Path) -> Result<(OwnedFd, PathBuf), FolderError> {
    let failed = |cause: io::Error| FolderError::Input { path: input.to_owned(), cause };
    let folder = open(input).map_err(failed)?;
    let path = real_path(&folder).map_err(failed)?;
    Ok((folder, path))
}

fn check_stdin(path: &Path) -> Result<(File, PathBuf), FolderError> {
    let failed = |cause: io::Error| FolderError::Stdin { path: path.to_owned(), cause };
    // Without `NONBLOCK`, opening a pipe would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let stat = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
    // Only reading a regular file never waits for somebody else.
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(FolderError::StdinNotAFile(path.to_owned()));
    }
    let real = real_path(&file).map_err(failed)?;
    Ok((file.into(), real))
}

/// The error for a staging directory that could not be created.
#[derive(Debug, thiserror::Error)]
#[error("could not create the staging directory `{}`: {cause}", path.display())]
pub(super) struct Unstaged {
    path: PathBuf,
    cause: io::Error,
}

/// A run's staging directory. Dropping it removes the directory with its contents.
#[derive(Debug)]
pub(super) struct Staging {
    private: Private,
    target: Option<Target>,
    input: Option<OwnedFd>,
    stdin: Option<File>,
}

impl Checked {
    /// Returns the directory in which the staging directory is created: the parent of the output
    /// directory, or the temporary directory if the output is discarded.
    fn beside(&self, temp: &Temp) -> io::Result<Beside> {
        self.target.as_ref().map_or_else(|| temp.get(), |(_, beside)| Ok(beside.clone()))
    }

    /// Returns the path that the run's staging directory will have.
    pub(super) fn staging_path(&self, run: &RunId, temp: &Temp) -> PathBuf {
        self.beside(temp).map_or_else(|_| temp.path.clone(), |beside| beside.path).join(staging_name(run))
    }

    /// Creates the staging directory.
    pub(super) fn stage(self, run: &RunId, temp: &Temp) -> Result<Staging, Unstaged> {
        let made = self.beside(temp).and_then(|beside| Private::make(beside, staging_name(run)));
        let private = made.map_err(|cause| Unstaged { path: self.staging_path(run, temp), cause })?;
        Ok(Staging { private, target: self.target.map(|(target, _)| target), input: self.input, stdin: self.stdin })
    }
}

fn staging_name(run: &RunId) -> OsString {
    format!(".strongroom-{run}").into()
}

impl Staging {
    /// Returns the descriptor of the staging directory.
    pub(super) fn folder(&self) -> BorrowedFd<'_> {
        self.private.folder.as_fd()
    }

    /// Returns a path by which this process can reach it while this value lives.
    pub(super) fn path(&self) -> PathBuf {
        path_of(&self.private.folder)
    }

    /// Returns such a path for the input directory.
    pub(super) fn input_path(&self) -> Option<PathBuf> {
        self.input.as_ref().map(path_of)
    }

    /// Returns the file for standard input, once.
    pub(super) fn take_stdin(&mut self) -> Option<File> {
        self.stdin.take()
    }

    /// Publishes the output atomically, only in the directory that was checked. Returns an error if
    /// that directory's path now leads elsewhere, or if anything other than an empty directory is
    /// at the destination.
    pub(super) fn publish(mut self) -> io::Result<()> {
        let Some(target) = &self.target else { return Ok(()) };
        let private = &mut self.private;
        let changed = |what: &str| io::Error::other(format!("{what} was moved or replaced while the run went on"));
        if !private.is_in_place()? {
            return Err(changed("the run's private folder"));
        }
        if !private.beside.is_in_place()? {
            return Err(changed("the folder above it"));
        }
        let beside = &*private.beside.folder;
        let there = stat(beside, &target.name)?;
        if there.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory) {
            return Err(io::Error::other("what stands there is no folder any more"));
        }
        let mode = match there {
            Some(stat) if target.was == Some(stat.into()) => stat.st_mode & 0o7777,
            // Use the mode that a plain `mkdir` would give. This holds even if somebody else
            // created a directory there, because the operator did not choose its mode.
            _ => 0o777 & !umask(&private.folder)?,
        };
        rustix::fs::fchmod(&private.folder, Mode::from_raw_mode(mode))?;
        // This replaces only an empty directory, whatever appears there at this moment, and does
        // not follow a link.
        let (from, to) = (private.name.as_os_str(), target.name.as_os_str());
        let renamed = match there {
            Some(_) => rustix::fs::renameat(beside, from, beside, to),
            None => match rustix::fs::renameat_with(beside, from, beside, to, RenameFlags::NOREPLACE) {
                // The file system does not support `NOREPLACE`.
                Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(beside, from, beside, to),
                other => other,
            },
        };
        renamed?;
        private.placed = true;
        Ok(())
    }
}

/// Returns the process's umask, derived from a directory created for this purpose: querying the
/// umask would change it for all threads. The directory is created inside the private one, so that
/// a process that dies here leaves nothing else behind.
fn umask(private: &OwnedFd) -> io::Result<u32> {
    let probe = OsString::from(format!(".umask-{}", ulid::Ulid::generate()));
    rustix::fs::mkdirat(private, probe.as_os_str(), Mode::from_raw_mode(0o777))?;
    let made = stat(private, &probe);
    rustix::fs::unlinkat(private, probe.as_os_str(), AtFlags::REMOVEDIR)?;
    let made = made?.ok_or(io::ErrorKind::NotFound)?;
    Ok(0o777 & !made.st_mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink};

    fn spec(input: Option<&Path>, output: Option<&Path>) -> RunSpec {
        let mut spec = RunSpec::new("x.wasm");
        spec.input = input.map(Into::into);
        spec.output = output.map(Into::into);
        spec
    }

    #[test]
    fn outputs_appear_whole_or_not_at_all() {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("out");
        let run = RunId::generate();
        let staging =
            check(&spec(None, Some(&target)), &[]).unwrap().stage(&run, &Temp::new(temp.path().to_owned())).unwrap();
        fs::write(staging.path().join("a"), "a").unwrap();
        assert!(!target.exists());
        staging.publish().unwrap();
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "a");

        let second = temp.path().join("second");
        let staging =
            check(&spec(None, Some(&second)), &[]).unwrap().stage(&run, &Temp::new(temp.path().to_owned())).unwrap();
        fs::write(staging.path().join("a"), "a").unwrap();
        drop(staging);
        assert!(!second.exists());
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    }

    #[test]
    fn nothing_is_made_beside_the_private_folder() {
        let temp = tempfile::tempdir().unwrap();
        let (target, plain) = (temp.path().join("out"), temp.path().join("plain"));
        fs::create_dir(&plain).unwrap();
        let staging = check(&spec(None, Some(&target)), &[])
            .unwrap()
            .stage(&RunId::generate(), &Temp::new(temp.path().to_owned()))
            .unwrap();
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
    fn an_empty_folder_is_used_and_keeps_its_mode() {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("out");
        fs::DirBuilder::new().mode(0o750).create(&target).unwrap();
        let staging = check(&spec(None, Some(&target)), &[])
            .unwrap()
            .stage(&RunId::generate(), &Temp::new(temp.path().to_owned()))
            .unwrap();
        fs::write(staging.path().join("a"), "a").unwrap();
        staging.publish().unwrap();
        assert!(target.join("a").exists());
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o750);
    }

    #[test]
    fn unusable_folders_are_told_apart() {
        let temp = tempfile::tempdir().unwrap();
        let full = temp.path().join("full");
        fs::create_dir(&full).unwrap();
        fs::write(full.join("a"), "a").unwrap();
        let file = full.join("a");
        assert!(matches!(check(&spec(None, Some(&full)), &[]), Err(FolderError::OutputNotEmpty(_))));
        assert!(matches!(check(&spec(None, Some(&file)), &[]), Err(FolderError::Output { .. })));
        assert!(matches!(check(&spec(Some(&file), None), &[]), Err(FolderError::Input { .. })));
        assert!(matches!(check(&spec(Some(Path::new("/nowhere")), None), &[]), Err(FolderError::Input { .. })));
        let inside = full.join("out");
        assert!(matches!(check(&spec(Some(&full), Some(&inside)), &[]), Err(FolderError::Overlap { .. })));
        let dangling = temp.path().join("dangling");
        symlink("/nowhere", &dangling).unwrap();
        assert!(matches!(check(&spec(None, Some(&dangling)), &[]), Err(FolderError::Output { .. })));
    }

    // attack: escape: get a directory that contains the vault, its key or a credential as input or
    // output -> a run with such a directory does not start
    #[test]
    fn what_is_private_is_neither_seen_nor_changed() {
        let temp = tempfile::tempdir().unwrap();
        let (home, other, data) = (temp.path().join("home"), temp.path().join("other"), temp.path().join("data"));
        for folder in [&home, &home.join("code"), &other, &data] {
            fs::create_dir(folder).unwrap();
        }
        let file = data.join("passphrase");
        fs::write(&file, "words").unwrap();
        let link = temp.path().join("link");
        symlink(&home, &link).unwrap();
        let private = [home.clone(), file, temp.path().join("not there")];
        let checked = |input: Option<&Path>, output: Option<&Path>| check(&spec(input, output), &private);
        for input in [&home, &home.join("code"), temp.path(), &data, &link] {
            assert!(matches!(checked(Some(input), None), Err(FolderError::InputPrivate(_))), "{input:?}");
        }
        for output in [&home.join("out"), &home.join("code"), &link.join("out")] {
            assert!(matches!(checked(None, Some(output)), Err(FolderError::OutputPrivate(_))), "{output:?}");
        }
        assert!(checked(Some(&other), Some(&data.join("out"))).is_ok());
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
    fn outputs_go_nowhere_when_somebody_changes_the_folders_meanwhile() {
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
                let checked = check(&spec(None, Some(&target)), &[]).unwrap();
                if before_it_is_staged {
                    change(&above, &elsewhere);
                }
                let staging = checked.stage(&RunId::generate(), &Temp::new(temp.path().to_owned())).unwrap();
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
    fn an_empty_folder_that_was_made_or_removed_meanwhile_costs_no_outputs() {
        for there in [false, true] {
            let (temp, above, _) = outside(there);
            let (target, plain) = (above.join("out"), temp.path().join("plain"));
            fs::create_dir(&plain).unwrap();
            let staging = check(&spec(None, Some(&target)), &[])
                .unwrap()
                .stage(&RunId::generate(), &Temp::new(temp.path().to_owned()))
                .unwrap();
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
    fn a_private_folder_that_is_swapped_is_not_published_and_is_emptied() {
        for discarded in [false, true] {
            let (temp, above, elsewhere) = outside(false);
            let run = RunId::generate();
            let staging = check(&spec(None, Some(&above.join("out"))), &[])
                .unwrap()
                .stage(&run, &Temp::new(temp.path().to_owned()))
                .unwrap();
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
                assert!(staging.publish().unwrap_err().to_string().contains("private folder was moved or replaced"));
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
    fn an_input_folder_stays_the_one_that_was_checked() {
        let (temp, above, elsewhere) = outside(false);
        fs::write(above.join("data"), "checked").unwrap();
        fs::write(elsewhere.join("data"), "private").unwrap();
        let private = [elsewhere.clone()];
        let open = check(&spec(Some(&above), None), &private).unwrap();
        fs::rename(&above, temp.path().join("moved")).unwrap();
        symlink(&elsewhere, &above).unwrap();
        let staging = open.stage(&RunId::generate(), &Temp::new(temp.path().to_owned())).unwrap();
        assert_eq!(fs::read_to_string(staging.input_path().unwrap().join("data")).unwrap(), "checked");
        assert!(matches!(check(&spec(Some(&above), None), &private), Err(FolderError::InputPrivate(_))));
    }
}
