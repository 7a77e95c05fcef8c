//! The home directory and its layout. `docs/configuration.md` is the reference.

use std::path::{Path, PathBuf};

/// The home directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// Returns the home at an absolute path.
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Returns the directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the directory of the local vault.
    pub(crate) fn vault(&self) -> PathBuf {
        self.0.join("vault")
    }

    /// Returns the directory of the audit log.
    pub(crate) fn audit(&self) -> PathBuf {
        self.0.join("audit")
    }

    /// Returns the directory of the run records.
    pub(crate) fn runs(&self) -> PathBuf {
        self.0.join("runs")
    }

    /// Returns the directory of the compiled-code cache.
    pub(crate) fn code(&self) -> PathBuf {
        self.0.join("code")
    }

    /// Returns the directory for outputs of unfinished runs without an output directory.
    pub(crate) fn temp(&self) -> PathBuf {
        self.0.join("tmp")
    }

    /// Returns the directory for components that are built from Python scripts, and their tools.
    pub(crate) fn python(&self) -> PathBuf {
        self.0.join("python")
    }
}
