//! The checks of a run's input and output directory before it starts. They create nothing.
//!
//! The checked directories are held open, and all later access goes through those descriptors. If
//! somebody moves a directory meanwhile or replaces it with a link, this changes where a path leads
//! and not what a run reads and writes.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, Dir, FileType, Mode, OFlags};

use super::open_dir::{DIRECTORY, FileIdentity, OpenDir, open, real_path, stat};
use strongroom_core::escape::escape_controls;
use strongroom_core::spec::RunSpec;

/// Why a run's directories cannot be used. Nothing has been created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The input directory cannot be read.
    #[error("could not open the input directory `{}`", path.display())]
    Input {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        cause: io::Error,
    },
    /// The output directory exists and is not empty.
    #[error("the output directory `{}` is not empty", .0.display())]
    OutputNotEmpty(PathBuf),
    /// The output directory cannot be created or used.
    #[error("could not use the output directory `{}`", path.display())]
    Output {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        cause: io::Error,
    },
    /// One directory is the other, or is inside it.
    #[error("the input directory `{}` and the output directory `{}` overlap", input.display(), output.display())]
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
    /// The path is in a file system through which the kernel shows the host's processes and
    /// devices, such as `/proc`.
    #[error("`{}` is in a file system of the kernel, which shows the host's own state", .0.display())]
    KernelFiles(PathBuf),
    /// The component would see a private file or directory of the host.
    #[error("the input directory `{}` contains strongroom's private files", escape_controls(&.0.to_string_lossy()))]
    InputPrivate(PathBuf),
    /// The component could change a private file or directory of the host.
    #[error("the output directory `{}` is among strongroom's private files", escape_controls(&.0.to_string_lossy()))]
    OutputPrivate(PathBuf),
}

/// Directories that passed the checks, held open.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) input: Option<OwnedFd>,
    pub(super) stdin: Option<File>,
    /// `None` if the output is discarded.
    pub(super) target: Option<Target>,
}

/// The destination of the outputs.
#[derive(Debug)]
pub(super) struct Target {
    /// The staging directory is created here too, so that it can be renamed.
    pub(super) parent: OpenDir,
    pub(super) name: OsString,
    /// The empty directory that existed at the check, if any.
    pub(super) replaces: Option<FileIdentity>,
}

impl Target {
    fn path(&self) -> PathBuf {
        self.parent.path.join(&self.name)
    }
}

/// Checks the directories of a specification. `private` lists what no component may see or change.
pub(super) fn check(spec: &RunSpec, private: &[PathBuf]) -> Result<Checked, DirectoryError> {
    let input = spec.input.as_deref().map(check_input).transpose()?;
    let input_path = input.as_ref().map(|(_, path)| path.as_path());
    let target = spec.output.as_deref().map(|output| check_output(output, input_path)).transpose()?;
    let stdin = spec.stdin.as_deref().map(check_stdin).transpose()?;
    // A private path that does not exist cannot be seen, and a run does not create it.
    for private in private.iter().filter_map(|private| private.canonicalize().ok()) {
        if let (Some(input), Some(given)) = (input_path, &spec.input)
            && (input.starts_with(&private) || private.starts_with(input))
        {
            return Err(DirectoryError::InputPrivate(given.clone()));
        }
        if let (Some((_, path)), Some(given)) = (&stdin, &spec.stdin)
            && path.starts_with(&private)
        {
            return Err(DirectoryError::StdinPrivate(given.clone()));
        }
        if let (Some(target), Some(given)) = (&target, &spec.output)
            && target.path().starts_with(&private)
        {
            return Err(DirectoryError::OutputPrivate(given.clone()));
        }
    }
    Ok(Checked { input: input.map(|(directory, _)| directory), stdin: stdin.map(|(file, _)| file), target })
}

fn check_input(input: &Path) -> Result<(OwnedFd, PathBuf), DirectoryError> {
    let failed = |cause: io::Error| DirectoryError::Input { path: input.to_owned(), cause };
    let directory = open(input).map_err(failed)?;
    if shows_kernel_state(&directory).map_err(failed)? {
        return Err(DirectoryError::KernelFiles(input.to_owned()));
    }
    let path = real_path(&directory).map_err(failed)?;
    Ok((directory, path))
}

/// Returns whether a file is in procfs, sysfs, debugfs or tracefs (`linux/magic.h`). Through procfs a
/// component would read the environment and the memory of this process.
fn shows_kernel_state(file: &OwnedFd) -> io::Result<bool> {
    const PROC: u64 = 0x9fa0;
    const SYS: u64 = 0x6265_6572;
    const DEBUG: u64 = 0x6462_6720;
    const TRACE: u64 = 0x7472_6163;
    let magic = u64::try_from(rustix::fs::fstatfs(file)?.f_type).unwrap_or_default();
    Ok([PROC, SYS, DEBUG, TRACE].contains(&magic))
}

fn check_stdin(path: &Path) -> Result<(File, PathBuf), DirectoryError> {
    let failed = |cause: io::Error| DirectoryError::Stdin { path: path.to_owned(), cause };
    // Without `NONBLOCK`, opening a pipe would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let stat = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
    // Only reading a regular file never waits for somebody else.
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(DirectoryError::StdinNotAFile(path.to_owned()));
    }
    if shows_kernel_state(&file).map_err(failed)? {
        return Err(DirectoryError::KernelFiles(path.to_owned()));
    }
    let real = real_path(&file).map_err(failed)?;
    Ok((file.into(), real))
}

fn check_output(output: &Path, input: Option<&Path>) -> Result<Target, DirectoryError> {
    let failed = |cause: io::Error| DirectoryError::Output { path: output.to_owned(), cause };
    let target = match open(output) {
        Ok(existing) => {
            if !is_empty(&existing).map_err(failed)? {
                return Err(DirectoryError::OutputNotEmpty(output.to_owned()));
            }
            existing_target(&existing).map_err(failed)?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => new_target(output).map_err(failed)?,
        Err(error) => return Err(failed(error)),
    };
    // A dangling link must not be replaced, and neither must anything that somebody creates or
    // moves there at this moment.
    let present = stat(&target.parent.fd, &target.name).map_err(failed)?.map(FileIdentity::from);
    if present != target.replaces {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    let path = target.path();
    if let Some(input) = input
        && (path.starts_with(input) || input.starts_with(&path))
    {
        return Err(DirectoryError::Overlap { input: input.to_owned(), output: path });
    }
    let writable = rustix::fs::accessat(&target.parent.fd, ".", Access::WRITE_OK, AtFlags::empty());
    writable.map_err(|error| failed(error.into()))?;
    Ok(target)
}

pub(super) fn is_empty(directory: &OwnedFd) -> io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            return Ok(false);
        }
    }
    Ok(true)
}

fn existing_target(directory: &OwnedFd) -> io::Result<Target> {
    let path = real_path(directory)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    let parent = OpenDir::new(rustix::fs::openat(directory, "..", DIRECTORY, Mode::empty())?)?;
    Ok(Target { parent, name, replaces: Some(FileIdentity::of(directory)?) })
}

fn new_target(output: &Path) -> io::Result<Target> {
    let name = output.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(Target { parent: OpenDir::new(open(parent)?)?, name, replaces: None })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    pub(in super::super) fn run_spec(input: Option<&Path>, output: Option<&Path>) -> RunSpec {
        let mut spec = RunSpec::new("x.wasm");
        spec.input = input.map(Into::into);
        spec.output = output.map(Into::into);
        spec
    }

    // attack: escape: read the host's environment and memory through procfs as input or standard
    // input -> a run with a path in procfs, sysfs, debugfs or tracefs does not start
    #[test]
    fn standard_input_from_procfs_is_refused() {
        let mut spec = run_spec(None, None);
        spec.stdin = Some("/proc/self/environ".into());
        assert!(matches!(check(&spec, &[]), Err(DirectoryError::KernelFiles(_))));
    }

    #[test]
    fn unusable_directory_is_refused_with_its_reason() {
        let temp = tempfile::tempdir().unwrap();
        let full = temp.path().join("full");
        fs::create_dir(&full).unwrap();
        fs::write(full.join("a"), "a").unwrap();
        let file = full.join("a");
        assert!(matches!(check(&run_spec(None, Some(&full)), &[]), Err(DirectoryError::OutputNotEmpty(_))));
        assert!(matches!(check(&run_spec(None, Some(&file)), &[]), Err(DirectoryError::Output { .. })));
        assert!(matches!(check(&run_spec(Some(&file), None), &[]), Err(DirectoryError::Input { .. })));
        assert!(matches!(check(&run_spec(Some(Path::new("/nowhere")), None), &[]), Err(DirectoryError::Input { .. })));
        for kernel in ["/proc", "/proc/self", "/sys"] {
            let checked = check(&run_spec(Some(Path::new(kernel)), None), &[]);
            assert!(matches!(checked, Err(DirectoryError::KernelFiles(_))), "{checked:?}");
        }
        let inside = full.join("out");
        assert!(matches!(check(&run_spec(Some(&full), Some(&inside)), &[]), Err(DirectoryError::Overlap { .. })));
        let dangling = temp.path().join("dangling");
        symlink("/nowhere", &dangling).unwrap();
        assert!(matches!(check(&run_spec(None, Some(&dangling)), &[]), Err(DirectoryError::Output { .. })));
    }

    // attack: escape: get a directory that contains the vault, its key or a credential as input or
    // output -> a run with such a directory does not start
    #[test]
    fn private_directory_is_refused_as_input_and_output() {
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
        let checked = |input: Option<&Path>, output: Option<&Path>| check(&run_spec(input, output), &private);
        for input in [&home, &home.join("code"), temp.path(), &data, &link] {
            assert!(matches!(checked(Some(input), None), Err(DirectoryError::InputPrivate(_))), "{input:?}");
        }
        for output in [&home.join("out"), &home.join("code"), &link.join("out")] {
            assert!(matches!(checked(None, Some(output)), Err(DirectoryError::OutputPrivate(_))), "{output:?}");
        }
        assert!(checked(Some(&other), Some(&data.join("out"))).is_ok());
    }
}
