use std::fmt;

use crate::bindings::secrets::Error as HostError;

/// Why a request for secrets failed. The text is one line, such as `denied: db-password`.
#[derive(Debug)]
pub struct Error {
    operation: &'static str,
    host: HostError,
}

impl Error {
    pub(crate) fn new(operation: &'static str, host: HostError) -> Self {
        Self { operation, host }
    }

    /// Returns the operation as the policy spells it, such as `get`.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Returns the error of the guest contract, to match on its variants.
    pub fn host(&self) -> &HostError {
        &self.host
    }

    /// Whether the policy does not grant the request.
    pub fn is_denied(&self) -> bool {
        matches!(self.host, HostError::Denied(_))
    }

    /// Whether the request is granted, but there is no usable secret of this name.
    pub fn is_not_found(&self) -> bool {
        matches!(self.host, HostError::NotFound(_))
    }

    /// Returns the line under `[secrets]` in the policy that would allow a denied request.
    pub fn policy_line(&self) -> Option<String> {
        let HostError::Denied(name) = &self.host else { return None };
        // A list concerns no single name.
        let name = if self.operation == "list" { "\"PREFIX-*\"" } else { name };
        Some(format!("{name} = [\"{}\"]", self.operation))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, about) = match &self.host {
            HostError::Denied(about) => ("denied", about),
            HostError::NotFound(about) => ("not found", about),
            HostError::InvalidName(about) => ("not a secret name", about),
            HostError::InvalidValue(about) => ("not a secret value", about),
            HostError::Exhausted(about) => ("used up", about),
            HostError::Expired(about) => ("expired", about),
            HostError::InvalidBatch(about) => ("not a batch", about),
            HostError::Conflict(about) => ("conflict", about),
            HostError::Unavailable(about) => ("not available now", about),
            HostError::Partial(names) => return write!(f, "only some were written: {}", names.join(", ")),
        };
        write!(f, "{kind}: {about}")
    }
}

impl std::error::Error for Error {}

/// The host did not accept a metric, a tag, a logged parameter or a progress report. The text says
/// what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportError(String);

impl ReportError {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ReportError {}

/// A parameter of the run has a value that cannot be parsed. The text does not repeat the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterError(String);

impl ParameterError {
    pub(crate) fn new(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value of the parameter `{}` is not valid", self.0)
    }
}

impl std::error::Error for ParameterError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_names_the_policy_line() {
        let error = Error::new("get", HostError::Denied("db-password".into()));
        assert_eq!(error.to_string(), "denied: db-password");
        assert_eq!(error.policy_line().as_deref(), Some("db-password = [\"get\"]"));
        assert!(error.is_denied() && !error.is_not_found());
        let error = Error::new("list", HostError::Denied("*".into()));
        assert_eq!(error.policy_line().as_deref(), Some("\"PREFIX-*\" = [\"list\"]"));
    }

    #[test]
    fn other_errors_have_no_policy_line() {
        let error = Error::new("set", HostError::Partial(vec!["a".into(), "b".into()]));
        assert_eq!(error.to_string(), "only some were written: a, b");
        assert_eq!(error.policy_line(), None);
    }
}
