//! The folders of a run: checked before it starts, private while it goes on, published whole or not at all.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::spares::{Home, Spares};
use crate::ids::RunId;
use crate::spec::RunSpec;

/// Why a run's folders cannot be used. Nothing has been created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The input folder cannot be read.
    #[error("the input folder `{}` {}", path.display(), match cause.kind() {
        io::ErrorKind::NotFound => "is not there: check the path".to_owned(),
        io::ErrorKind::NotADirectory => "is a file: give the folder that holds it".to_owned(),
        _ => format!("cannot be used ({cause}): give a folder that you may read"),
    })]
    Input {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        cause: io::Error,
    },
    /// The output folder is there and has something in it.
    #[error("the output folder `{}` is not empty: give an empty or new folder, so that nothing is overwritten", .0.display())]
    OutputNotEmpty(PathBuf),
    /// The output folder cannot be made or used.
    #[error("the output folder `{}` {}", path.display(), match cause.kind() {
        io::ErrorKind::NotFound => "cannot be made, because the folder above it is not there: make that one first".to_owned(),
        io::ErrorKind::NotADirectory => "is a file: give an empty or new folder".to_owned(),
        _ => format!("cannot be used ({cause}): give a new folder below one that you may write"),
    })]
    Output {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        cause: io::Error,
    },
    /// One folder is the other, or inside it.
    #[error("the input folder `{}` and the output folder `{}` overlap: give two separate folders", input.display(), output.display())]
    Overlap {
        /// The input folder.
        input: PathBuf,
        /// The output folder.
        output: PathBuf,
    },
    /// The component would see what is private to the host.
    #[error("the input folder `{}` holds what strongroom keeps for itself", crate::redact::escape_controls(&.0.to_string_lossy()))]
    InputPrivate(PathBuf),
    /// The component could change what is private to the host.
    #[error("the output folder `{}` is among what strongroom keeps for itself", crate::redact::escape_controls(&.0.to_string_lossy()))]
    OutputPrivate(PathBuf),
}

/// Folders that were found to be usable.
#[derive(Debug)]
pub(super) struct Checked {
    /// Where the output goes at the end, links resolved; none where it is discarded.
    target: Option<PathBuf>,
    /// The folder in which the private folder is made: beside the target, so that it can be renamed.
    beside: PathBuf,
}

/// Checks the folders of a specification and creates nothing. `temp` is where the output of a run without an output folder is kept, and `private`
/// what no component may see or change.
pub(super) fn check(spec: &RunSpec, temp: &Path, private: &[PathBuf]) -> Result<Checked, FolderError> {
    let input = spec.input.as_deref().map(check_input).transpose()?;
    let checked = match spec.output.as_deref() {
        Some(output) => check_output(output, input.as_deref())?,
        None => Checked { target: None, beside: temp.to_owned() },
    };
    // What is not there cannot be seen, and is not made by a run.
    for private in private.iter().filter_map(|private| private.canonicalize().ok()) {
        if let (Some(input), Some(given)) = (&input, &spec.input)
            && (input.starts_with(&private) || private.starts_with(input))
        {
            return Err(FolderError::InputPrivate(given.clone()));
        }
        if let (Some(target), Some(given)) = (&checked.target, &spec.output)
            && target.starts_with(&private)
        {
            return Err(FolderError::OutputPrivate(given.clone()));
        }
    }
    Ok(checked)
}

fn check_output(output: &Path, input: Option<&Path>) -> Result<Checked, FolderError> {
    let failed = |cause| FolderError::Output { path: output.to_owned(), cause };
    let target = match fs::read_dir(output) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(FolderError::OutputNotEmpty(output.to_owned()));
            }
            output.canonicalize().map_err(failed)?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = output.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
            // A dangling link is `NotFound` to `read_dir`, and is not to be replaced.
            if output.symlink_metadata().is_ok() {
                return Err(failed(io::ErrorKind::AlreadyExists.into()));
            }
            let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            parent.canonicalize().map_err(failed)?.join(name)
        }
        Err(error) => return Err(failed(error)),
    };
    if let Some(input) = input
        && (target.starts_with(input) || input.starts_with(&target))
    {
        return Err(FolderError::Overlap { input: input.to_owned(), output: target });
    }
    let beside = target.parent().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?.to_owned();
    rustix::fs::access(&beside, rustix::fs::Access::WRITE_OK).map_err(|error| failed(error.into()))?;
    Ok(Checked { target: Some(target), beside })
}

fn check_input(input: &Path) -> Result<PathBuf, FolderError> {
    let failed = |cause| FolderError::Input { path: input.to_owned(), cause };
    fs::read_dir(input).map_err(failed)?;
    input.canonicalize().map_err(failed)
}

/// A run's private output folder. Dropped, it is removed with all that is in it.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    target: Option<PathBuf>,
    /// It is no longer this run's.
    placed: bool,
    /// Where it goes back to if nobody touches it.
    home: Option<Home>,
}

impl Checked {
    /// Where the private folder of a run will be.
    pub(super) fn staging_path(&self, run: &RunId) -> PathBuf {
        self.beside.join(format!(".strongroom-{run}"))
    }

    /// Makes the private folder.
    pub(super) fn stage(self, run: &RunId) -> io::Result<Staging> {
        let path = self.staging_path(run);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Staging { path, target: self.target, placed: false, home: None })
    }

    /// The same, or a folder that is to spare where the output is discarded.
    pub(super) fn stage_or_take(self, run: &RunId, spares: &Arc<Spares>) -> io::Result<Staging> {
        if self.target.is_some() {
            return self.stage(run);
        }
        let spare = spares.take(self.staging_path(run))?;
        let path = spare.path.clone();
        Ok(Staging { path, target: None, placed: false, home: Some((Arc::clone(spares), spare)) })
    }
}

impl Staging {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives a folder back to those that are to spare, where it came from there and is as it was. Otherwise it is still here.
    pub(super) fn give_back(mut self) -> Option<Self> {
        let Some((spares, spare)) = self.home.take() else { return Some(self) };
        self.placed = spares.give_back(spare).is_ok();
        (!self.placed).then_some(self)
    }

    /// Puts the output in its place in one step. A folder that was made or filled there since the check is not replaced.
    pub(super) fn publish(mut self) -> io::Result<()> {
        let Some(target) = &self.target else { return Ok(()) };
        let mode = match fs::metadata(target) {
            Ok(there) => there.mode() & 0o7777,
            // What a plain `mkdir` would have given.
            Err(_) => 0o777 & !umask(&self.path)?,
        };
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode))?;
        fs::rename(&self.path, target)?;
        self.placed = true;
        Ok(())
    }
}

/// The process's mask for new folders, read off a folder made for this: asking for the mask would change it for all threads. It is made inside the
/// private folder, so that a process that dies here leaves nothing else behind.
fn umask(private: &Path) -> io::Result<u32> {
    let probe = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o777)).tempdir_in(private)?;
    let mode = fs::metadata(probe.path())?.mode();
    probe.close()?;
    Ok(0o777 & !mode)
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.placed
            && let Err(error) = crate::runs::remove_tree(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a run's private output folder could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let staging = check(&spec(None, Some(&target)), temp.path(), &[]).unwrap().stage(&run).unwrap();
        fs::write(staging.path().join("a"), "a").unwrap();
        assert!(!target.exists());
        staging.publish().unwrap();
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "a");

        let second = temp.path().join("second");
        let staging = check(&spec(None, Some(&second)), temp.path(), &[]).unwrap().stage(&run).unwrap();
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
        let staging = check(&spec(None, Some(&target)), temp.path(), &[]).unwrap().stage(&RunId::generate()).unwrap();
        fs::write(staging.path().join("a"), "a").unwrap();
        // The file system tells, also of what is gone again.
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
        let staging = check(&spec(None, Some(&target)), temp.path(), &[]).unwrap().stage(&RunId::generate()).unwrap();
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
        assert!(matches!(check(&spec(None, Some(&full)), temp.path(), &[]), Err(FolderError::OutputNotEmpty(_))));
        assert!(matches!(check(&spec(None, Some(&file)), temp.path(), &[]), Err(FolderError::Output { .. })));
        assert!(matches!(check(&spec(Some(&file), None), temp.path(), &[]), Err(FolderError::Input { .. })));
        assert!(matches!(
            check(&spec(Some(Path::new("/nowhere")), None), temp.path(), &[]),
            Err(FolderError::Input { .. })
        ));
        let inside = full.join("out");
        assert!(matches!(check(&spec(Some(&full), Some(&inside)), temp.path(), &[]), Err(FolderError::Overlap { .. })));
        let dangling = temp.path().join("dangling");
        std::os::unix::fs::symlink("/nowhere", &dangling).unwrap();
        assert!(matches!(check(&spec(None, Some(&dangling)), temp.path(), &[]), Err(FolderError::Output { .. })));
    }

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
        std::os::unix::fs::symlink(&home, &link).unwrap();
        let private = [home.clone(), file, temp.path().join("not there")];
        let checked = |input: Option<&Path>, output: Option<&Path>| check(&spec(input, output), temp.path(), &private);
        for input in [&home, &home.join("code"), temp.path(), &data, &link] {
            assert!(matches!(checked(Some(input), None), Err(FolderError::InputPrivate(_))), "{input:?}");
        }
        for output in [&home.join("out"), &home.join("code"), &link.join("out")] {
            assert!(matches!(checked(None, Some(output)), Err(FolderError::OutputPrivate(_))), "{output:?}");
        }
        assert!(checked(Some(&other), Some(&data.join("out"))).is_ok());
    }
}
