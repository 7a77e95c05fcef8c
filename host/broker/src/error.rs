//! Errors with two messages: one for the component and one for the operator.

use std::fmt;

use strongroom_core::record::Limit;
use strongroom_vault::VaultError;

/// The error that a component receives. The variants are those of the guest contract
/// (`wit/training.wit`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestError {
    /// The policy does not grant the request.
    Denied(String),
    /// The request is granted, but no such secret is available.
    NotFound(String),
    /// The name is not valid.
    InvalidName(String),
    /// The value is too long.
    InvalidValue(String),
    /// The grant's `max-uses` or the redactor's capacity is used up.
    Exhausted(String),
    /// The grant has expired.
    Expired(String),
    /// The batch has too many names, or contains a name twice.
    InvalidBatch(String),
    /// The vault holds the name in a state that cannot be written.
    Conflict(String),
    /// These names were written. The others were not, or it is not known whether they were.
    Partial(Vec<String>),
    /// The vault or the audit log is unavailable.
    Unavailable(String),
}

impl GuestError {
    /// Returns the variant's name in the guest contract.
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

/// Why a request was not served. `Display` and `Debug` show only the message for the component.
#[derive(thiserror::Error)]
pub enum RequestError {
    /// The component receives an error and continues.
    #[error("{0}")]
    Answer(Answer),
    /// The run exceeded a limit and stops.
    #[error("the run is over its `{}` limit", .0.as_str())]
    Stop(Limit),
}

/// An error with a message for the component and one for the operator. `Display` shows the
/// component's; [`Answer::internal`] returns the operator's.
pub struct Answer {
    guest: GuestError,
    internal: String,
}

impl Answer {
    pub(super) fn new(guest: GuestError, internal: impl Into<String>) -> Self {
        Self { guest, internal: internal.into() }
    }

    /// Converts this into the component's error.
    pub fn into_guest(self) -> GuestError {
        self.guest
    }

    /// Returns the component's error.
    pub fn guest(&self) -> &GuestError {
        &self.guest
    }

    /// Returns the message for the operator, such as upstream texts and file names. It is never
    /// shown to a component.
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

/// Maps a vault error to what a component may know about it. `name` is the name that it asked for.
/// For a failure of the vault itself, the component learns only that the vault failed: upstream
/// text is for the operator only.
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
