//! Vault addresses.

use std::fmt;
use std::path::PathBuf;

use strongroom_vault_azure::{Exceptions, VaultLocation};

/// The address of a vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VaultAddress {
    /// The local vault in this directory.
    Local(PathBuf),
    /// An Azure Key Vault.
    Azure(Box<VaultLocation>),
}

impl fmt::Display for VaultAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(dir) => write!(f, "local:{}", dir.to_string_lossy()),
            Self::Azure(place) => place.fmt(f),
        }
    }
}

impl VaultAddress {
    /// Parses `local:DIR` or the URL of a Key Vault. The returned path is absolute.
    pub(super) fn parse(text: &str, exceptions: &Exceptions) -> Result<Self, String> {
        if let Some(dir) = text.strip_prefix("local:") {
            if dir.is_empty() {
                return Err("`local:` needs a directory, such as `local:/srv/vault`".to_owned());
            }
            return match std::path::absolute(dir) {
                Ok(dir) => Ok(VaultAddress::Local(dir)),
                Err(cause) => Err(format!("invalid directory after `local:`: {cause}")),
            };
        }
        if text.starts_with("https://") {
            return VaultLocation::parse(text, exceptions).map(|place| VaultAddress::Azure(Box::new(place)));
        }
        Err("expected `local:DIR` or `https://NAME.vault.azure.net`".to_owned())
    }
}
