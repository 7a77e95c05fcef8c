//! Where secrets live: one trait for what a run may do, one for what an operator may do, and typed errors.
//!
//! [`Vault`] is the guest-facing path: every method takes a [`Grant`] or [`ListGrant`], which only the policy makes.
//! [`Operator`] is for the person at the command line and takes names.
//! Implementations: [`local`] (an encrypted file, feature `local`), `strongroom-vault-azure` (Azure Key Vault), and [`cache`] around any
//! other vault. A vault of your own implements [`Vault`]; the example `own_vault` is one, and `vault::cases` (feature `cases`) is what it can
//! be held against.

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

/// The most characters a content type has (Azure Key Vault, "Secret attributes").
pub const CONTENT_TYPE_MAX: usize = 255;

/// What a vault can do beyond the common operations. By default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// A batch is written or deleted whole or not at all.
    pub transactions: bool,
    /// Old versions of a secret can be read.
    pub versions: bool,
    /// A deleted secret can be recovered for a time, during which its name cannot be written.
    pub soft_delete: bool,
}

impl Abilities {
    /// With [`Abilities::transactions`].
    #[must_use]
    pub const fn with_transactions(mut self) -> Self {
        self.transactions = true;
        self
    }

    /// With [`Abilities::versions`].
    #[must_use]
    pub const fn with_versions(mut self) -> Self {
        self.versions = true;
        self
    }

    /// With [`Abilities::soft_delete`].
    #[must_use]
    pub const fn with_soft_delete(mut self) -> Self {
        self.soft_delete = true;
        self
    }
}

/// What is stored beside a value. None of it is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The media type or other label, at most 255 characters.
    pub content_type: Option<String>,
    /// Before this moment the secret is not to be used.
    pub not_before: Option<Timestamp>,
    /// From this moment the secret is not to be used.
    pub expires: Option<Timestamp>,
}

/// A secret without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The name in the vault.
    pub name: SecretName,
    /// The version described.
    pub version: SecretVersion,
    /// What is stored beside the value.
    pub attributes: Attributes,
    /// When the version was made.
    pub created: Timestamp,
    /// When the version was last changed.
    pub updated: Timestamp,
    /// Whether the vault serves it. Always true in the local vault.
    pub enabled: bool,
}

impl Description {
    /// A version that was made at a moment and not changed since, enabled and without attributes.
    pub fn new(name: SecretName, version: SecretVersion, created: Timestamp) -> Self {
        Self { name, version, attributes: Attributes::default(), created, updated: created, enabled: true }
    }
}

/// A secret with its value. The value is shared, not copied.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The value.
    pub value: Arc<Secret>,
    /// Everything else.
    pub description: Description,
    /// It comes from a cache and is older than the cache would serve, because the vault cannot be reached. The audit says so.
    pub overdue: bool,
}

impl Stored {
    /// A value and what is known about it.
    pub fn new(value: Arc<Secret>, description: Description) -> Self {
        Self { value, description, overdue: false }
    }
}

/// A value to be stored by an operator. A clone shares the value.
#[derive(Clone, Debug)]
pub struct NewSecret {
    /// The name in the vault.
    pub name: SecretName,
    /// The value.
    pub value: Arc<Secret>,
    /// What to store beside it.
    pub attributes: Attributes,
}

impl NewSecret {
    /// A value without attributes.
    pub fn new(name: SecretName, value: Arc<Secret>) -> Self {
        Self { name, value, attributes: Attributes::default() }
    }
}

/// Why a vault did not serve. This is the operator's face: the text may name files and upstream answers, and never goes to a guest;
/// the broker maps each variant to what a guest may know.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VaultError {
    /// There is no such secret, or no such version of it.
    #[error("there is no secret `{0}` in the vault")]
    NotFound(SecretName),
    /// The secret is there and disabled.
    #[error("the secret `{0}` is disabled in the vault")]
    Disabled(SecretName),
    /// The secret was deleted and can be recovered, and its name cannot be written meanwhile.
    #[error(
        "the vault cannot write `{0}`: it was deleted, and the vault keeps it to be recovered: `strongroom secret recover {0}` brings it back, \
         `strongroom secret purge {0}` removes it for good"
    )]
    Deleted(SecretName),
    /// The name is held in another state that cannot be written.
    #[error("the vault cannot write `{name}`: {reason}")]
    Conflict {
        /// The name concerned.
        name: SecretName,
        /// What state it is in, and what an operator can do.
        reason: String,
    },
    /// A batch failed half-way on a vault without transactions.
    #[error("only {} of the batch were written ({cause})", .written.len())]
    Partial {
        /// Exactly the names (in the vault) that were written or deleted.
        written: Vec<SecretName>,
        /// Why it stopped.
        cause: Box<VaultError>,
    },
    /// The vault refuses the host's own credential, or the passphrase or key file does not open it, or its format is of another
    /// version than this program reads.
    #[error("{0}")]
    Refused(String),
    /// There is no vault at that place.
    #[error("{0}")]
    Absent(String),
    /// What is stored is not what was written: a damaged or tampered file.
    #[error("{0}")]
    Damaged(String),
    /// The vault cannot be reached or is busy; trying again later may help.
    #[error("{0}")]
    Unavailable(String),
    /// The vault cannot take this value or attribute.
    #[error("{0}")]
    Invalid(String),
}

impl VaultError {
    /// What kind of failure this is, in the words of the audit: never upstream text.
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

/// Why a batch has no value for a name, which is no failure of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is no such secret or version: [`VaultError::NotFound`].
    NotFound,
    /// There is one, and it is disabled: [`VaultError::Disabled`].
    Disabled,
}

impl Missing {
    /// Sets apart from the answer to one read what is no failure of the vault, for a vault that reads a batch one by one.
    ///
    /// # Errors
    /// Any other error of the answer.
    pub fn apart(answer: Result<Stored, VaultError>) -> Result<Result<Stored, Self>, VaultError> {
        match answer {
            Ok(stored) => Ok(Ok(stored)),
            Err(VaultError::NotFound(_)) => Ok(Err(Self::NotFound)),
            Err(VaultError::Disabled(_)) => Ok(Err(Self::Disabled)),
            Err(error) => Err(error),
        }
    }

    /// Why, in the words of the audit.
    pub fn kind(self) -> &'static str {
        match self {
            Self::NotFound => "no such secret",
            Self::Disabled => "disabled in the vault",
        }
    }

    /// What a read of this one name is answered with.
    pub fn of(self, name: SecretName) -> VaultError {
        match self {
            Self::NotFound => VaultError::NotFound(name),
            Self::Disabled => VaultError::Disabled(name),
        }
    }
}

/// The guest-facing path. Every call takes the proof that it was allowed.
///
/// What an implementation may rely on, and what it owes:
///
/// - A [`Grant`] says which secret: ask for [`Grant::stored`], the name in the vault, at [`Grant::version`] where it names one. The policy,
///   the audit and the redactor are no concern of a vault.
/// - A version never changes its value, and a new write makes a new version, whose name is not used again: a run keeps to the version that it saw first.
///   A vault that keeps no old versions answers for an old one [`VaultError::NotFound`].
/// - Not to be had is [`VaultError::NotFound`] or [`VaultError::Disabled`]; anything else is a failure of the vault, which the component is
///   told as `unavailable`. Dates in [`Attributes`] are passed on, not judged: the broker does that.
/// - Error texts are for the operator. They may name hosts and files, and never hold a value.
/// - A vault bounds its own time. A run's limit ends the waiting and not the work.
///
/// A run may be dropped while it waits on any of these futures: an implementation finishes or undoes what it began on its own.
#[async_trait]
pub trait Vault: Send + Sync {
    /// What this vault can do.
    fn abilities(&self) -> Abilities;

    /// Which vault this is, in the form in which it is configured: what run records and the audit say of where secrets came from. By
    /// default they say nothing.
    fn place(&self) -> Option<String> {
        None
    }

    /// The value of a secret: the version that the grant names, or the latest.
    async fn get(&self, grant: &Grant) -> Result<Stored, VaultError>;

    /// Returns the answer to [`Vault::get`] if it is known without asking the vault; otherwise `None`. Only a cache ever answers.
    fn cached(&self, grant: &Grant) -> Option<Result<Stored, VaultError>> {
        let _ = grant;
        None
    }

    /// The values of several secrets, in order, and where there is none to be had, why.
    async fn get_many(&self, grants: &[Grant]) -> Result<Vec<Result<Stored, Missing>>, VaultError>;

    /// A secret without its value.
    async fn describe(&self, grant: &Grant) -> Result<Description, VaultError>;

    /// Stores values as new versions, without attributes. All or none where the vault has transactions, else
    /// [`VaultError::Partial`]. Answers in order.
    async fn set_many(&self, secrets: &[(Grant, Arc<Secret>)]) -> Result<Vec<Description>, VaultError>;

    /// Deletes secrets with all their versions; batches as in `set_many`. A name that is not there is [`VaultError::NotFound`].
    async fn delete_many(&self, grants: &[Grant]) -> Result<(), VaultError>;

    /// The names that exist and that the grant admits, as the component knows them, sorted.
    async fn list(&self, grant: &ListGrant) -> Result<Vec<SecretName>, VaultError>;
}

/// What an operator does to a vault.
#[async_trait]
pub trait Operator: Send + Sync {
    /// The value of a secret: the given version or the latest.
    async fn get(&self, name: &SecretName, version: Option<&SecretVersion>) -> Result<Stored, VaultError>;

    /// Stores values as new versions; all or none where the vault has transactions.
    async fn set_many(&self, secrets: Vec<NewSecret>) -> Result<Vec<Description>, VaultError>;

    /// The latest version of every secret, sorted by name.
    async fn list(&self) -> Result<Vec<Description>, VaultError>;

    /// All versions of one secret, newest first.
    async fn versions(&self, name: &SecretName) -> Result<Vec<Description>, VaultError>;

    /// Deletes a secret with all its versions.
    async fn delete(&self, name: &SecretName) -> Result<(), VaultError>;

    /// Brings a deleted secret back with all its versions, where the vault keeps those for a time.
    async fn recover(&self, name: &SecretName) -> Result<Description, VaultError> {
        Err(keeps_nothing(name))
    }

    /// Removes a deleted secret for good before its time, so that its name is free.
    async fn purge(&self, name: &SecretName) -> Result<(), VaultError> {
        Err(keeps_nothing(name))
    }
}

fn keeps_nothing(name: &SecretName) -> VaultError {
    VaultError::Invalid(format!("this vault keeps nothing that was deleted, so there is no deleted `{name}`"))
}

/// Checks what an operator wants stored beside a value.
pub fn check_attributes(name: &SecretName, attributes: &Attributes) -> Result<(), VaultError> {
    let Some(text) = &attributes.content_type else { return Ok(()) };
    if text.chars().count() > CONTENT_TYPE_MAX || text.chars().any(char::is_control) {
        return Err(VaultError::Invalid(format!(
            "the content type of `{name}` is not at most {CONTENT_TYPE_MAX} characters without control characters: shorten it"
        )));
    }
    Ok(())
}
