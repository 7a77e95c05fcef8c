//! Traits that vault backends implement, with typed errors.
//!
//! [`Vault`] is the guest-facing path: every method takes a [`Grant`] or [`ListGrant`], which only
//! the policy constructs. [`Operator`] is for operator commands and takes names.
//!
//! Implementations: [`local`] (an encrypted file, feature `local`), `strongroom-vault-azure` (Azure
//! Key Vault), and [`cache`], which wraps any other vault. To add a backend, implement [`Vault`],
//! as the example `own_vault` does, and run the conformance cases in `vault::cases` (feature
//! `cases`) against it.

pub mod cache;
#[cfg(any(test, feature = "cases"))]
pub mod cases;
#[cfg(feature = "local")]
pub mod local;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use strongroom_core::ids::{SecretName, SecretVersion};
use strongroom_core::secret::Secret;
use strongroom_policy::{Grant, ListGrant};

/// Maximum length of a content type in characters (Azure Key Vault, "Secret attributes").
pub const CONTENT_TYPE_MAX: usize = 255;

/// Optional operations of a vault. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Batches are written or deleted atomically.
    pub transactions: bool,
    /// Old versions of a secret can be read.
    pub versions: bool,
    /// Deleted secrets can be recovered for a time. Until then their names cannot be written.
    pub soft_delete: bool,
}

/// Metadata of a secret version. None of it is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Media type or other label, at most [`CONTENT_TYPE_MAX`] characters.
    pub content_type: Option<String>,
    /// The secret must not be used before this time.
    pub not_before: Option<Timestamp>,
    /// The secret must not be used at or after this time.
    pub expires: Option<Timestamp>,
}

/// A secret version without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The name in the vault.
    pub name: SecretName,
    /// The version of the secret.
    pub version: SecretVersion,
    /// Content type and validity period.
    pub attributes: Attributes,
    /// When the version was created.
    pub created: Timestamp,
    /// When the version was last changed.
    pub updated: Timestamp,
    /// Whether the vault returns the value. Always true in the local vault.
    pub enabled: bool,
}

impl Description {
    /// Describes an enabled version without attributes that has not changed since it was created.
    pub fn new(name: SecretName, version: SecretVersion, created: Timestamp) -> Self {
        Self { name, version, attributes: Attributes::default(), created, updated: created, enabled: true }
    }
}

/// A secret version with its value. Clones share the value.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The value.
    pub value: Arc<Secret>,
    /// Name, version and metadata.
    pub description: Description,
    /// Whether a cache returned the value after its time to live because the vault cannot be
    /// reached. The audit log records this.
    pub stale: bool,
}

impl Stored {
    /// Combines a value with its description. The value is not stale.
    pub fn new(value: Arc<Secret>, description: Description) -> Self {
        Self { value, description, stale: false }
    }
}

/// A value that an operator stores. Clones share the value.
#[derive(Clone, Debug)]
pub struct NewSecret {
    /// The name in the vault.
    pub name: SecretName,
    /// The value.
    pub value: Arc<Secret>,
    /// Content type and validity period.
    pub attributes: Attributes,
}

impl NewSecret {
    /// Creates a value without attributes.
    pub fn new(name: SecretName, value: Arc<Secret>) -> Self {
        Self { name, value, attributes: Attributes::default() }
    }
}

/// Why a vault operation failed. The text is for operators: it may name files and responses of a
/// service, and must not reach a guest. The broker maps each variant to what a guest may learn.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VaultError {
    /// The secret, or this version of it, does not exist.
    #[error("there is no secret `{0}` in the vault")]
    NotFound(SecretName),
    /// The secret exists and is disabled.
    #[error("the secret `{0}` is disabled in the vault")]
    Disabled(SecretName),
    /// The secret was deleted and can be recovered. Its name cannot be written until it is
    /// recovered or purged.
    #[error("could not write `{0}`: it was deleted, and the vault retains it until it is recovered or purged")]
    Deleted(SecretName),
    /// The name is in another state in which it cannot be written.
    #[error("could not write `{name}`: {reason}")]
    Conflict {
        /// The name.
        name: SecretName,
        /// The state, and what an operator can do.
        reason: String,
    },
    /// A batch failed part-way on a vault without transactions.
    #[error("only {} of the batch were written ({cause})", .written.len())]
    Partial {
        /// Exactly the names, as the vault knows them, that were written or deleted.
        written: Vec<SecretName>,
        /// Why the batch stopped.
        cause: Box<VaultError>,
    },
    /// The vault refuses the host's credential, the passphrase or key file is wrong, or the format
    /// has a version that this program does not support.
    #[error("{0}")]
    Refused(String),
    /// The vault does not exist.
    #[error("{0}")]
    Absent(String),
    /// The stored data differs from what was written: the file is damaged or was tampered with.
    #[error("{0}")]
    Damaged(String),
    /// The vault cannot be reached or is busy; a later attempt may succeed.
    #[error("{0}")]
    Unavailable(String),
    /// The vault cannot store this value or attribute.
    #[error("{0}")]
    Invalid(String),
}

impl VaultError {
    /// Returns the kind of failure as the audit log states it. Never contains upstream text.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFound(_) => Missing::NotFound.kind(),
            Self::Disabled(_) => Missing::Disabled.kind(),
            Self::Deleted(_) => "conflict: it was deleted and can be recovered",
            Self::Conflict { .. } => "conflict",
            Self::Partial { .. } => "not done: the batch stopped half-way",
            Self::Refused(_) => "failed: the vault refused the host",
            Self::Absent(_) => "failed: there is no vault",
            Self::Damaged(_) => "failed: the vault is damaged",
            Self::Unavailable(_) => "failed: the vault cannot be reached",
            Self::Invalid(_) => "failed: the vault cannot take the value",
        }
    }
}

/// Why a batch has no value for a name. This is not a failure of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The secret or version does not exist: [`VaultError::NotFound`].
    NotFound,
    /// The secret is disabled: [`VaultError::Disabled`].
    Disabled,
}

impl Missing {
    /// Separates a missing secret from a failure of the vault, for a vault that reads a batch one
    /// secret at a time.
    ///
    /// # Errors
    /// Every error other than [`VaultError::NotFound`] and [`VaultError::Disabled`].
    pub fn separate(result: Result<Stored, VaultError>) -> Result<Result<Stored, Self>, VaultError> {
        match result {
            Ok(stored) => Ok(Ok(stored)),
            Err(VaultError::NotFound(_)) => Ok(Err(Self::NotFound)),
            Err(VaultError::Disabled(_)) => Ok(Err(Self::Disabled)),
            Err(error) => Err(error),
        }
    }

    /// Returns the reason as the audit log states it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::NotFound => "no such secret",
            Self::Disabled => "disabled in the vault",
        }
    }

    /// Returns the error that [`Vault::get`] gives for this name.
    pub fn into_error(self, name: SecretName) -> VaultError {
        match self {
            Self::NotFound => VaultError::NotFound(name),
            Self::Disabled => VaultError::Disabled(name),
        }
    }
}

/// Guest-facing operations. Every call takes a grant as proof that the policy allowed it.
///
/// Requirements for implementations:
///
/// - A [`Grant`] identifies the secret: return the secret named [`Grant::stored`], at
///   [`Grant::version`] if that is set. A vault does not handle policy, audit or redaction.
/// - The value of a version never changes. A new write creates a new version, whose identifier is
///   never reused: a run keeps using the version that it read first. A vault without old versions
///   returns [`VaultError::NotFound`] for them.
/// - Return [`VaultError::NotFound`] or [`VaultError::Disabled`] for a missing secret. Any other
///   error is a failure of the vault, which the component receives as `unavailable`. Return the
///   dates in [`Attributes`] without checking them: the broker does that.
/// - Error texts are for operators. They may name hosts and files, and must never contain a value.
/// - Bound the time of every operation. The time limit of a run ends its wait, not the operation.
///
/// A run may be dropped while it waits for any of these futures: an implementation must complete or
/// roll back an operation that it started.
#[async_trait]
pub trait Vault: Send + Sync {
    /// Returns which optional operations this vault supports.
    fn abilities(&self) -> Abilities;

    /// Returns the vault's address as it is configured. Run records and the audit log state it as
    /// the source of secrets. By default there is none.
    fn address(&self) -> Option<String> {
        None
    }

    /// Returns the version of a secret that the grant names, or the newest.
    async fn get(&self, grant: &Grant) -> Result<Stored, VaultError>;

    /// Returns the result of [`Vault::get`] if it is known without asking the vault. Only a cache
    /// returns anything other than `None`.
    fn cached(&self, _grant: &Grant) -> Option<Result<Stored, VaultError>> {
        None
    }

    /// Returns several secrets in order, with the reason for each one that is missing.
    async fn get_many(&self, grants: &[Grant]) -> Result<Vec<Result<Stored, Missing>>, VaultError>;

    /// Returns a secret without its value.
    async fn describe(&self, grant: &Grant) -> Result<Description, VaultError>;

    /// Stores values as new versions without attributes, and returns their descriptions in order.
    /// The batch is atomic if the vault has transactions; otherwise a failure may be
    /// [`VaultError::Partial`].
    async fn set_many(&self, secrets: &[(Grant, Arc<Secret>)]) -> Result<Vec<Description>, VaultError>;

    /// Deletes secrets with all their versions; batches behave as in `set_many`. A missing name is
    /// [`VaultError::NotFound`].
    async fn delete_many(&self, grants: &[Grant]) -> Result<(), VaultError>;

    /// Returns the existing names that the grant allows, as the component knows them, sorted.
    async fn list(&self, grant: &ListGrant) -> Result<Vec<SecretName>, VaultError>;
}

/// Operations for operators.
#[async_trait]
pub trait Operator: Send + Sync {
    /// Returns the given version of a secret, or the newest.
    async fn get(&self, name: &SecretName, version: Option<&SecretVersion>) -> Result<Stored, VaultError>;

    /// Stores values as new versions. The batch is atomic if the vault has transactions.
    async fn set_many(&self, secrets: Vec<NewSecret>) -> Result<Vec<Description>, VaultError>;

    /// Returns the newest version of every secret, sorted by name.
    async fn list(&self) -> Result<Vec<Description>, VaultError>;

    /// Returns all versions of one secret, newest first.
    async fn versions(&self, name: &SecretName) -> Result<Vec<Description>, VaultError>;

    /// Deletes a secret with all its versions.
    async fn delete(&self, name: &SecretName) -> Result<(), VaultError>;

    /// Recovers a deleted secret with all its versions, if the vault has soft delete.
    async fn recover(&self, name: &SecretName) -> Result<Description, VaultError> {
        Err(no_soft_delete(name))
    }

    /// Purges a deleted secret before its retention period ends, so that its name can be reused.
    async fn purge(&self, name: &SecretName) -> Result<(), VaultError> {
        Err(no_soft_delete(name))
    }
}

fn no_soft_delete(name: &SecretName) -> VaultError {
    VaultError::Invalid(format!("this vault does not keep deleted secrets, so there is no deleted `{name}`"))
}

/// Checks the attributes that an operator wants to store.
///
/// # Errors
/// [`VaultError::Invalid`] if the content type is too long or has control characters.
pub fn check_attributes(name: &SecretName, attributes: &Attributes) -> Result<(), VaultError> {
    let Some(text) = &attributes.content_type else { return Ok(()) };
    if text.chars().count() > CONTENT_TYPE_MAX || text.chars().any(char::is_control) {
        return Err(VaultError::Invalid(format!(
            "the content type of `{name}` is longer than {CONTENT_TYPE_MAX} characters or has control characters: change it"
        )));
    }
    Ok(())
}
