//! Folders: the home with everything in it, and the vault.

use std::fmt;
use std::path::{Path, PathBuf};

use strongroom_vault_azure::{Exceptions, VaultLocation};

/// The home folder and what lies where in it. `docs/configuration.md` has the layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// A home at an absolute path.
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The local vault.
    pub(crate) fn vault(&self) -> PathBuf {
        self.0.join("vault")
    }

    /// The audit.
    pub(crate) fn audit(&self) -> PathBuf {
        self.0.join("audit")
    }

    /// The run records.
    pub(crate) fn runs(&self) -> PathBuf {
        self.0.join("runs")
    }

    /// The store of compiled code.
    pub(crate) fn code(&self) -> PathBuf {
        self.0.join("code")
    }

    /// Outputs of runs without an output folder, while they go on.
    pub(crate) fn temp(&self) -> PathBuf {
        self.0.join("tmp")
    }
}

/// Where a vault is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VaultPlace {
    /// The local vault in this folder.
    Local(PathBuf),
    /// A Key Vault.
    Azure(Box<VaultLocation>),
}

impl fmt::Display for VaultPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(dir) => write!(f, "local:{}", dir.to_string_lossy()),
            Self::Azure(place) => place.fmt(f),
        }
    }
}

impl VaultPlace {
    /// Reads `local:DIR`, where the answer's path is absolute, or the address of a Key Vault.
    pub(super) fn parse(text: &str, exceptions: &Exceptions) -> Result<Self, String> {
        if let Some(dir) = text.strip_prefix("local:") {
            if dir.is_empty() {
                return Err("`local:` is followed by a folder, such as `local:/srv/vault`".to_owned());
            }
            return match std::path::absolute(dir) {
                Ok(dir) => Ok(VaultPlace::Local(dir)),
                Err(cause) => Err(format!("the folder after `local:` cannot be used: {cause}")),
            };
        }
        if text.starts_with("https://") {
            return VaultLocation::parse(text, exceptions).map(|place| VaultPlace::Azure(Box::new(place)));
        }
        Err("a vault is named `local:DIR` or `https://NAME.vault.azure.net`".to_owned())
    }
}
