//! Two-faced errors: what the component may know, and what the operator may know.

use std::fmt;

use strongroom_core::record::Limit;
use strongroom_vault::VaultError;

/// What a component is told. The variants are those of the guest contract (`wit/training.wit`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestError {
    /// The policy does not grant it.
    Denied(String),
    /// Granted, and there is no such secret to be had.
    NotFound(String),
    /// No valid name.
    InvalidName(String),
    /// Value too long.
    InvalidValue(String),
    /// The budget is used up.
    Exhausted(String),
    /// The grant has expired.
    Expired(String),
    /// Too many names, or one twice.
    InvalidBatch(String),
    /// The vault holds the name in a state that cannot be written.
    Conflict(String),
    /// These names were written. The rest were not, or it is not known.
    Partial(Vec<String>),
    /// Neither vault nor audit can serve now.
    Unavailable(String),
}

impl GuestError {
    /// The variant's name in the guest contract.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::NotFound(_) => "not-found",
            Self::InvalidName(_) => "invalid-name",
            Self::InvalidValue(_) => "invalid-value",
            Self::Exhausted(_) => "exhausted",
            Self::Expired(_) => "expired",
            Self::InvalidBatch(_) => "invalid-batch",
            Self::Conflict(_) => "conflict",
            Self::Partial(_) => "partial",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// Why a request was not served. `Display` and `Debug` show what the component may know.
#[derive(thiserror::Error)]
pub enum RequestError {
    /// The component gets an answer and goes on.
    #[error("{0}")]
    Answer(Answer),
    /// The run is over its limit and stops.
    #[error("the run is over its `{}` limit", .0.as_str())]
    Stop(Limit),
}

/// An answer with two faces. `Display` shows the component's; the other has to be asked for by name.
pub struct Answer {
    guest: GuestError,
    internal: String,
}

impl Answer {
    pub(super) fn new(guest: GuestError, internal: impl Into<String>) -> Self {
        Self { guest, internal: internal.into() }
    }

    /// What the component is told.
    pub fn into_guest(self) -> GuestError {
        self.guest
    }

    /// What the component is told.
    pub fn guest(&self) -> &GuestError {
        &self.guest
    }

    /// What the operator may read: upstream texts, file names. Never shown to a component.
    pub fn internal(&self) -> &str {
        &self.internal
    }
}

impl fmt::Debug for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(answer) => write!(f, "Answer({:?})", answer.guest),
            Self::Stop(limit) => write!(f, "Stop({})", limit.as_str()),
        }
    }
}

impl From<Answer> for RequestError {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(text)
            | Self::NotFound(text)
            | Self::InvalidName(text)
            | Self::InvalidValue(text)
            | Self::Exhausted(text)
            | Self::Expired(text)
            | Self::InvalidBatch(text)
            | Self::Conflict(text)
            | Self::Unavailable(text) => write!(f, "{}: {text}", self.kind()),
            Self::Partial(names) => write!(f, "{}: {}", self.kind(), names.join(", ")),
        }
    }
}

impl std::error::Error for GuestError {}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.guest.fmt(f)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Answer").field(&self.guest).finish()
    }
}

/// What a component may know of a vault's failure to serve `name`, the name that it asked for. A failure of the vault itself says
/// nothing but that: upstream text stays with the operator.
pub(super) fn from_vault(name: &str, error: &VaultError) -> Answer {
    let guest = match error {
        VaultError::NotFound(_) | VaultError::Disabled(_) => GuestError::NotFound(name.to_owned()),
        VaultError::Deleted(_) | VaultError::Conflict { .. } => GuestError::Conflict(name.to_owned()),
        VaultError::Partial { .. }
        | VaultError::Refused(_)
        | VaultError::Absent(_)
        | VaultError::Damaged(_)
        | VaultError::Unavailable(_)
        | VaultError::Invalid(_) => unavailable_vault(),
    };
    Answer::new(guest, error.to_string())
}

fn unavailable_vault() -> GuestError {
    GuestError::Unavailable("the vault cannot serve now".to_owned())
}

pub(super) fn unavailable_audit() -> GuestError {
    GuestError::Unavailable("the audit cannot be written now".to_owned())
}
