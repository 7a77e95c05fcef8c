//! Builds components from Python scripts.
//!
//! The work is done by the Python package in `sdk/python`, which this crate contains: it collects
//! the files, installs the dependencies, and packs them with componentize-py. This crate sets up a
//! private environment for these tools, limits the time and the memory of a build, and keeps the
//! components, so that a script whose files have not changed is not built again.

mod error;
mod inputs;
mod process;
mod sdk;
mod tools;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

pub use error::BuildError;
use inputs::{Inputs, Record, is_digest};
use process::{Ended, command, run};

/// How many components are kept. An empty script has 26 MB.
const COMPONENTS_MAX: usize = 10;

/// The beginning of the names of folders for builds.
const TEMPORARY: &str = "build-";

/// The age at which the folder of a build was left behind: longer than any build takes.
const TEMPORARY_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The files with which a folder may start.
const ENTRY_FILES: [&str; 3] = ["__main__.py", "main.py", "train.py"];

/// Where and how scripts are built.
#[derive(Clone, Debug)]
pub struct BuildSettings {
    /// The folder for the tools and the components. Only this user may write to it.
    pub dir: PathBuf,
    /// The Python interpreter, version 3.11 or newer: a path, or a name that `PATH` leads to.
    pub python: PathBuf,
    /// The whole environment of the build.
    pub environment: Vec<(OsString, OsString)>,
    /// The time limit of a build, and that of setting up the tools.
    pub time: Duration,
    /// The most memory of each process of a build, in bytes.
    pub memory: u64,
}

/// What a build tells while it is running. The texts contain names of files and packages: escape
/// control characters before showing them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildEvent {
    /// A step starts.
    Step {
        /// How many steps are done.
        done: u64,
        /// How many steps there are.
        total: u64,
        /// What the step does.
        text: String,
    },
    /// Something that the user may want to know.
    Note(String),
    /// Something that may be wrong.
    Warning(String),
}

/// A component that was built from a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The component's file. It may be removed after ten other builds.
    pub component: PathBuf,
    /// Whether the script's files were unchanged since an earlier build, so that nothing was done.
    pub is_unchanged: bool,
}

/// Returns whether a path is a Python script, or a folder that starts with one.
pub fn is_script(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "py")
        || path.is_dir() && ENTRY_FILES.iter().any(|name| path.join(name).is_file())
}

/// Returns the component of a script or a folder. Builds it unless everything that it was built
/// from is unchanged. `lock` is the lock file of the dependencies, if not the usual one.
///
/// When the returned future is dropped or this process ends, all processes of the build are killed.
///
/// # Errors
/// See [`BuildError`]. Nothing is kept of a build that failed.
pub async fn build(
    settings: &BuildSettings,
    script: &Path,
    lock: Option<&Path>,
    events: &mut (dyn FnMut(BuildEvent) + Send),
) -> Result<Built, BuildError> {
    let components = settings.dir.join("components");
    fs::create_dir_all(&components).map_err(io_error("create", &components))?;
    let record = record_path(settings, script, lock)?;
    if let Some(known) = Record::read(&record)
        && known.inputs.are_unchanged()
        && let Some(component) = component(&components, &known.digest)
    {
        return Ok(Built { component, is_unchanged: true });
    }
    let timeout = |_| BuildError::Time(settings.time);
    let python = tokio::time::timeout(settings.time, tools::python(settings, events)).await.map_err(timeout)??;
    let packed = pack(settings, &python, script, lock, &components, events);
    let built = tokio::time::timeout(settings.time, packed).await.map_err(timeout)??;
    built.write(&record).map_err(io_error("write", &record))?;
    let missing = || io_error("find", &components)(io::ErrorKind::NotFound.into());
    let component = component(&components, &built.digest).ok_or_else(missing)?;
    remove_old(&components);
    Ok(Built { component, is_unchanged: false })
}

/// Returns the file with what is known of a script's last build.
fn record_path(settings: &BuildSettings, script: &Path, lock: Option<&Path>) -> Result<PathBuf, BuildError> {
    let dir = settings.dir.join("scripts");
    fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
    let mut key = Sha256::new();
    key.update(sdk::digest());
    for path in [Some(script), lock] {
        let path = path.map(|path| std::path::absolute(path).map_err(io_error("find", path))).transpose()?;
        key.update(Sha256::digest(path.unwrap_or_default().as_os_str().as_encoded_bytes()));
    }
    Ok(dir.join(format!("{}.json", sdk::hex(&key.finalize()))))
}

/// Returns a component, and marks it as used.
fn component(components: &Path, digest: &str) -> Option<PathBuf> {
    let path = components.join(format!("{digest}.wasm"));
    let file = File::open(&path).ok()?;
    // Only the order in which components are removed depends on it.
    let _ = file.set_modified(SystemTime::now());
    Some(path)
}

/// Removes the components that have not been used for the longest time. A failure means that more
/// are kept.
fn remove_old(components: &Path) {
    let Ok(entries) = fs::read_dir(components) else { return };
    let mut files: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    files.sort_by(|a, b| b.cmp(a));
    for (_, path) in files.iter().skip(COMPONENTS_MAX) {
        let _ = fs::remove_file(path);
    }
}

/// Removes the folders of builds whose process was killed a day ago.
fn remove_interrupted(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.filter_map(Result::ok) {
        let modified = entry.metadata().and_then(|meta| meta.modified());
        let age = modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        let is_temporary = entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes());
        if is_temporary && age.is_some_and(|age| age > TEMPORARY_AGE) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A line that the build prints.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line {
    Step { step: String, state: String, text: String },
    Note { text: String },
    Warning { text: String },
    Error { text: String, help: String },
    Done { digest: String, inputs: Inputs },
}

/// The steps of a build, in their order.
const STEPS: [&str; 4] = ["stage", "resolve", "install", "pack"];

async fn pack(
    settings: &BuildSettings,
    python: &Path,
    script: &Path,
    lock: Option<&Path>,
    components: &Path,
    events: &mut (dyn FnMut(BuildEvent) + Send),
) -> Result<Record, BuildError> {
    let package = sdk::unpack(&settings.dir).map_err(io_error("unpack the Python package into", &settings.dir))?;
    remove_interrupted(&settings.dir);
    let temporary = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(&settings.dir);
    let temporary = temporary.map_err(io_error("create a folder in", &settings.dir))?;
    let mut command = command(python, &settings.environment);
    command
        .env("PYTHONPATH", package)
        .env("TMPDIR", temporary.path())
        .args(["-m", "strongroom.build", "--json", "--watch-stdin", "--components"])
        .arg(components)
        .args(["--memory", &settings.memory.to_string()]);
    if let Some(lock) = lock {
        command.arg("--lock").arg(lock);
    }
    command.arg("--").arg(script);
    let mut result = None;
    let mut line = |line: &[u8]| match serde_json::from_slice(line) {
        Ok(Line::Step { step, state, text }) if state == "begin" => {
            let done = STEPS.iter().position(|name| *name == step).unwrap_or_default() as u64;
            events(BuildEvent::Step { done, total: STEPS.len() as u64, text });
        }
        Ok(Line::Note { text }) => events(BuildEvent::Note(text)),
        Ok(Line::Warning { text }) => events(BuildEvent::Warning(text)),
        Ok(Line::Error { text, help }) => result = Some(Err(BuildError::Script { message: text, help })),
        Ok(Line::Done { digest, inputs }) if is_digest(&digest) => result = Some(Ok(Record { digest, inputs })),
        _ => {}
    };
    let ended: Ended = run(command, &mut line).await.map_err(io_error("run", python))?;
    match result {
        Some(Ok(record)) if ended.status.success() => Ok(record),
        Some(Err(error)) => Err(error),
        _ => Err(BuildError::Died { status: ended.status(), output: ended.stderr }),
    }
}

/// Returns a function that turns an error of the system into an error of a build.
fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> BuildError {
    move |cause| BuildError::Io { action, path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_recognized() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_script(Path::new("absent/train.py")));
        assert!(!is_script(Path::new("train.wasm")));
        assert!(!is_script(dir.path()));
        fs::write(dir.path().join("main.py"), "").unwrap();
        assert!(is_script(dir.path()));
    }

    #[test]
    fn least_recently_used_components_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let digest = |number: usize| format!("{number:064}");
        for number in 0..COMPONENTS_MAX + 2 {
            let file = File::create(dir.path().join(format!("{}.wasm", digest(number)))).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(number as u64)).unwrap();
        }
        assert!(component(dir.path(), &digest(0)).is_some());
        remove_old(dir.path());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), COMPONENTS_MAX);
        assert!(component(dir.path(), &digest(0)).is_some());
        assert!(component(dir.path(), &digest(1)).is_none());
        assert!(component(dir.path(), &digest(2)).is_none());
        assert!(component(dir.path(), &digest(3)).is_some());
    }

    #[tokio::test]
    async fn missing_interpreter_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let settings = BuildSettings {
            dir: dir.path().to_owned(),
            python: "/nonexistent/python3".into(),
            environment: Vec::new(),
            time: Duration::from_secs(60),
            memory: 1 << 30,
        };
        let failed = build(&settings, Path::new("train.py"), None, &mut |_| ()).await.unwrap_err();
        assert_eq!(failed.to_string(), "could not start the Python interpreter `/nonexistent/python3`");
    }
}
