//! The least policy under which a run would have gone as it did.
//!
//! What the run was *given* is granted. Granting it again gives a component nothing that a person had not granted before: where the run's own
//! policy can be read, every entry here is one of its entries made narrower, with the same `stored-as`, version and expiry, and a use that
//! it does not explain is not granted, whatever the record says.
//!
//! What the run merely *asked for* is shown in comments. Asking proves no need: whoever writes a component decides what it asks for. So the
//! text grants nothing of it as it stands, and a person has to decide line by line. A line in a comment replaces the one for the same name, so
//! that who leaves both in place gets an error and not a guess. Of a component's own words nothing is repeated but what has the form of a
//! secret's name or of an address, which can neither end a comment nor a string; the rest is counted.

mod amounts;
mod plan;
mod text;

use std::time::Duration;

use super::{Policy, PolicyError};
use plan::Plan;
use strongroom_core::ids::Digest;

/// What is known of a run. Every text in it may be hostile.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The run's identity.
    pub run: String,
    /// Where the run did not finish: how it ended. It may need more than it got to.
    pub cut_off: Option<String>,
    /// The component.
    pub component: Digest,
    /// What the component's file was called.
    pub path: String,
    /// What it asked for.
    pub secrets: Vec<SecretAsked>,
    /// Where it wanted to connect to.
    pub tcp: Vec<TcpAsked>,
    /// What it used of what is limited.
    pub usage: Usage,
}

/// One operation on one name.
#[derive(Clone, Debug)]
pub struct SecretAsked {
    /// The name as it was asked for; `*` for a list.
    pub name: String,
    /// The operation.
    pub operation: String,
    /// How often it was served.
    pub served: u64,
    /// How often it was denied.
    pub denied: u64,
}

/// One destination.
#[derive(Clone, Debug)]
pub struct TcpAsked {
    /// The entry of `tcp` that allows it, or would.
    pub entry: String,
    /// How often it was allowed.
    pub allowed: u64,
    /// How often it was denied.
    pub denied: u64,
}

/// What a run used; none where that is not known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Bytes of linear memory.
    pub memory: Option<u64>,
    /// How long it took.
    pub time: Option<Duration>,
    /// Bytes in `/output`.
    pub output_bytes: Option<u64>,
    /// Files and folders in `/output`.
    pub output_files: Option<u64>,
    /// Bytes printed.
    pub log_bytes: Option<u64>,
    /// Names of secrets asked for.
    pub requests: Option<u64>,
    /// Values of metrics.
    pub metrics: Option<u64>,
}

/// No policy can be suggested.
#[derive(Debug, thiserror::Error)]
pub enum SuggestError {
    /// The run used more than a policy can list.
    #[error("the run used more names or destinations than one policy can list; write prefixes by hand")]
    TooMuch,
    /// What was written does not read back. A fault of this program, found before anybody relies on it.
    #[error("the suggestion is no valid policy, so it is not shown: {0}")]
    Invalid(PolicyError),
}

/// The text of a policy that grants what a run was given. `policy` is the run's own; none where it cannot be read.
///
/// # Errors
/// [`SuggestError`]; what is returned parses.
pub fn suggest(observed: &Observed, policy: Option<&Policy>) -> Result<String, SuggestError> {
    let plan = Plan::of(observed, policy)?;
    let text = text::write(observed, policy, &plan);
    if text.len() > super::TEXT_MAX {
        return Err(SuggestError::TooMuch);
    }
    Policy::parse(&text, "suggestion").map_err(SuggestError::Invalid)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
