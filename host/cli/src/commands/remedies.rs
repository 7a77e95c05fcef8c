//! What the command line adds to errors of the library: an exit code, and what to do.
//!
//! An error says what failed, through its text and its causes (`source()`), and knows nothing of
//! commands and options. This is the only place that adds them, by the type and variant of an error
//! and never by its text.

use std::error::Error;
use std::io;

use super::failure::{Exit, Failure};
use super::policy;
use crate::config::ConfigError;
use strongroom::audit::AuditError;
use strongroom::ids::SecretName;
use strongroom::runner::{DirectoryError, RunnerError, StartError};
use strongroom::runs::RunStoreError;
use strongroom::runtime::LoadError;
use strongroom::runtime::imports::Malformed;
use strongroom::vault::VaultError;
use strongroom_python::BuildError;

/// An error that commands report with the exit code and the help that [`Remedy::remedy`] returns.
pub(super) trait Remedy: Error {
    /// Returns the exit code, and what to do if there is anything to do.
    fn remedy(&self) -> (Exit, Option<String>);
}

impl<E: Remedy> From<E> for Failure {
    fn from(error: E) -> Self {
        let (exit, help) = error.remedy();
        Self::caused(exit, &error, help)
    }
}

fn help(text: impl Into<String>) -> Option<String> {
    Some(text.into())
}

impl Remedy for ConfigError {
    fn remedy(&self) -> (Exit, Option<String>) {
        let help = match self {
            Self::Insecure(_) => help("run `chmod o-w` on it"),
            Self::Foreign(_) => help("check its contents, then change its owner with `chown`"),
            Self::NoHome => help("set `STRONGROOM_HOME` to the directory that strongroom should use"),
            _ => None,
        };
        (Exit::Invalid, help)
    }
}

impl Remedy for VaultError {
    fn remedy(&self) -> (Exit, Option<String>) {
        match self {
            Self::NotFound(_) => (Exit::Invalid, help("run `strongroom secret list` to list secrets")),
            Self::Disabled(name) => {
                let enable = format!("enable it with `az keyvault secret set-attributes --name {name} --enabled true`");
                (Exit::Invalid, help(enable))
            }
            Self::Deleted(name) => {
                let recover = format!(
                    "run `strongroom secret set {name} --recover` to recover it and store the value as its newest version; \
                     `strongroom secret recover {name}` only recovers it, and `strongroom secret purge {name}` removes it"
                );
                (Exit::Invalid, help(recover))
            }
            Self::Partial { written, cause } => {
                let (exit, help) = cause.remedy();
                (exit, Some(partial_help(written, help)))
            }
            Self::Invalid(_) | Self::Conflict { .. } => (Exit::Invalid, None),
            Self::Absent(_) => {
                (Exit::Host, help("run `strongroom init` to create one, or select another with `--vault local:DIR`"))
            }
            _ => (Exit::Host, None),
        }
    }
}

fn partial_help(written: &[SecretName], help: Option<String>) -> String {
    let names: Vec<String> = written.iter().map(|name| format!("`{name}`")).collect();
    let written = format!("only these were written before the failure: {}", names.join(", "));
    help.into_iter().chain([written]).collect::<Vec<_>>().join("\n")
}

impl Remedy for AuditError {
    fn remedy(&self) -> (Exit, Option<String>) {
        let help = match self {
            Self::LedgerAltered { .. } => help("run `strongroom audit verify` to find out what was changed"),
            Self::Busy { .. } => help("wait until that process ends, or end it"),
            _ => None,
        };
        (Exit::Host, help)
    }
}

impl Remedy for RunStoreError {
    fn remedy(&self) -> (Exit, Option<String>) {
        match self {
            Self::Absent(_) => (Exit::Invalid, help("run `strongroom runs list` to list runs")),
            Self::Ambiguous { .. } => (Exit::Invalid, help("use a longer prefix")),
            Self::Busy { .. } => (Exit::Host, help("wait until that process ends, or end it")),
            _ => (Exit::Host, None),
        }
    }
}

impl Remedy for RunnerError {
    fn remedy(&self) -> (Exit, Option<String>) {
        (Exit::Host, None)
    }
}

impl Remedy for StartError {
    fn remedy(&self) -> (Exit, Option<String>) {
        match self {
            Self::Component(error) => error.remedy(),
            Self::Record(error) => (Exit::Host, error.remedy().1),
            Self::Directory(error) => (Exit::Invalid, help(unusable_directory(error))),
            error => (if error.is_host_fault() { Exit::Host } else { Exit::Invalid }, None),
        }
    }
}

impl Remedy for BuildError {
    fn remedy(&self) -> (Exit, Option<String>) {
        let help = match self {
            Self::Script { help, .. } => (!help.is_empty()).then(|| help.clone()),
            Self::Python { .. } | Self::PythonTooOld { .. } => help(
                "install Python 3.11 or newer, or name another interpreter in the configuration: \
                 `[python] interpreter = \"PATH\"`",
            ),
            Self::Environment { .. } => help("install Python's module `venv`; on Debian and Ubuntu: `python3-venv`"),
            Self::Tools { .. } => help(
                "check the network; pip's own settings apply, such as PIP_INDEX_URL; docs/python.md describes proxies \
                 and offline use",
            ),
            Self::Time(_) => help("allow more time in the configuration: `[python] build-time = \"30m\"`"),
            Self::Died { .. } => help(
                "if its memory was not sufficient, allow more in the configuration: `[python] build-memory = \"8GiB\"`",
            ),
            _ => None,
        };
        (if matches!(self, Self::Io { .. }) { Exit::Host } else { Exit::Invalid }, help)
    }
}

impl Remedy for LoadError {
    fn remedy(&self) -> (Exit, Option<String>) {
        match self {
            Self::NotAFile { path } if path.is_dir() => (
                Exit::Invalid,
                help(
                    "it is a directory: give the `.wasm` file in it, such as `target/wasm32-wasip2/release/NAME.wasm`",
                ),
            ),
            Self::Malformed { path, why: Malformed::NotWebAssembly } if policy::read(path).is_ok() => {
                (Exit::Invalid, help("it is a policy: pass a `.wasm` file: `strongroom run COMPONENT --policy FILE`"))
            }
            _ => (if self.is_host_fault() { Exit::Host } else { Exit::Invalid }, None),
        }
    }
}

/// Returns which input or output directory can be used instead.
fn unusable_directory(error: &DirectoryError) -> &'static str {
    match error {
        DirectoryError::Input { cause, .. } => match cause.kind() {
            io::ErrorKind::NotFound => "check the path",
            io::ErrorKind::NotADirectory => "give the directory that contains the file",
            _ => "give a directory that you may read",
        },
        DirectoryError::Output { cause, .. } => match cause.kind() {
            io::ErrorKind::NotFound => "create the parent directory first",
            _ => "give a new directory inside one that you may write",
        },
        DirectoryError::OutputNotEmpty(_) => "give an empty or new directory, so that nothing is overwritten",
        DirectoryError::Overlap { .. } => "give two separate directories",
        DirectoryError::InputPrivate(_) => "choose a directory that contains only what the component may read",
        DirectoryError::KernelFiles(_) => "copy what the component may read into a directory of its own",
        DirectoryError::Stdin { .. } => "give a file that you may read",
        DirectoryError::StdinNotAFile(_) => "write the data to a file first, and give that file",
        DirectoryError::StdinPrivate(_) => "choose a file that the component may read",
        _ => "choose a directory outside of it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_batch_names_written_secrets() {
        let name = |text| SecretName::parse(text).unwrap();
        let cause = Box::new(VaultError::Deleted(name("c")));
        let failure = Failure::from(VaultError::Partial { written: vec![name("a"), name("b")], cause });
        let shown = anstream::adapter::strip_str(&failure.to_string()).to_string();
        assert!(
            shown.ends_with(
                "help: run `strongroom secret set c --recover` to recover it and store the value as its newest version; \
                 `strongroom secret recover c` only recovers it, and `strongroom secret purge c` removes it\n        \
                 only these were written before the failure: `a`, `b`"
            ),
            "{shown}"
        );
        assert_eq!(failure.exit(), Exit::Invalid);
    }
}
