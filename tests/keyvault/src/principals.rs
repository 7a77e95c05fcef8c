//! Applications and managed identities, and their permissions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::tokens::Certificate;

/// An operation on secrets, which is a data action of Azure's role-based access control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Read a value.
    Get,
    /// Read names and properties.
    ReadMetadata,
    /// Write a value.
    Set,
    /// Change properties.
    Update,
    /// Delete.
    Delete,
    /// Recover a deleted secret.
    Recover,
    /// Delete permanently.
    Purge,
}

impl Action {
    /// All actions, as the role "Key Vault Secrets Officer" has.
    pub const ALL: [Self; 7] =
        [Self::Get, Self::ReadMetadata, Self::Set, Self::Update, Self::Delete, Self::Recover, Self::Purge];

    pub(crate) fn data_action(self) -> &'static str {
        match self {
            Self::Get => "Microsoft.KeyVault/vaults/secrets/getSecret/action",
            Self::ReadMetadata => "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
            Self::Set => "Microsoft.KeyVault/vaults/secrets/setSecret/action",
            Self::Update => "Microsoft.KeyVault/vaults/secrets/update/action",
            Self::Delete => "Microsoft.KeyVault/vaults/secrets/delete",
            Self::Recover => "Microsoft.KeyVault/vaults/secrets/recover/action",
            Self::Purge => "Microsoft.KeyVault/vaults/secrets/purge/action",
        }
    }
}

/// A permission for the vault or for one secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permission {
    /// The action.
    pub action: Action,
    /// The secret. Without it, all secrets.
    #[serde(default)]
    pub secret: Option<String>,
}

impl Permission {
    /// Creates permissions for the whole vault.
    pub fn on_vault(actions: &[Action]) -> Vec<Self> {
        actions.iter().map(|action| Self { action: *action, secret: None }).collect()
    }

    /// Creates permissions for one secret.
    pub fn on_secret(actions: &[Action], secret: &str) -> Vec<Self> {
        actions.iter().map(|action| Self { action: *action, secret: Some(secret.to_owned()) }).collect()
    }
}

/// A managed identity in the metadata service.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    System,
    /// The resource ID.
    User(String),
}

/// An application or a managed identity. Not `Debug`, because it contains the client's secret.
#[derive(Clone)]
pub(crate) struct Principal {
    /// The name in the journal.
    pub(crate) name: String,
    pub(crate) client_id: String,
    pub(crate) object_id: String,
    pub(crate) client_secret: Option<String>,
    /// The `sub` claim of accepted federated tokens.
    pub(crate) subject: Option<String>,
    /// The accepted certificate.
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) identity: Option<Identity>,
    pub(crate) permissions: Vec<Permission>,
    /// Whether new tokens are refused.
    pub(crate) disabled: bool,
    /// Tokens up to this number are refused.
    pub(crate) revoked: u64,
}

impl Principal {
    /// Creates an application with a new secret.
    pub(crate) fn application(name: &str, permissions: Vec<Permission>) -> Self {
        Self {
            name: name.to_owned(),
            client_id: uuid(),
            object_id: uuid(),
            client_secret: Some(format!("{}{}", uuid(), uuid())),
            subject: None,
            certificate: None,
            identity: None,
            permissions,
            disabled: false,
            revoked: 0,
        }
    }

    pub(crate) fn may(&self, action: Action, secret: Option<&str>) -> bool {
        self.permissions.iter().filter(|permission| permission.action == action).any(|permission| {
            match (&permission.secret, secret) {
                (None, _) => true,
                (Some(granted), Some(requested)) => granted.eq_ignore_ascii_case(requested),
                (Some(_), None) => false,
            }
        })
    }
}

/// Returns a random UUID of version 4.
pub(crate) fn uuid() -> String {
    let n = (rand::random::<u128>() & !(0xf << 76) & !(0b11 << 62)) | (0x4 << 76) | (0b10 << 62);
    let text = format!("{n:032x}");
    let part = |range| text.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permission_on_a_secret_covers_only_that_secret() {
        let permissions = Permission::on_secret(&[Action::Get, Action::ReadMetadata], "Db-Password");
        let principal = Principal::application("test", permissions);
        assert!(principal.may(Action::Get, Some("db-PASSWORD")));
        assert!(!principal.may(Action::Get, Some("db-password-2")));
        assert!(!principal.may(Action::ReadMetadata, None));
        assert!(!principal.may(Action::Set, Some("db-password")));
    }

    #[test]
    fn uuid_has_version_four() {
        let text = uuid();
        assert_eq!(text.len(), 36);
        assert_eq!(text.as_bytes()[14], b'4');
        assert!("89ab".contains(text.as_bytes()[19] as char), "{text}");
    }
}
