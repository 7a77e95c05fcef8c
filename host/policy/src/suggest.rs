//! Suggests the least policy under which a run would have had the same result.
//!
//! The suggestion grants what the run was *given*. That gives a component nothing that a person had
//! not granted before: if the run's own policy is available, every entry is a narrower form of one
//! of its entries, with the same `stored-as`, version and expiry. A use that the policy does not
//! explain is not granted, whatever the record says.
//!
//! What the run only *requested* appears in comments, because a request does not prove a need: the
//! author of a component decides what it requests. A person has to decide about each line. A
//! commented line replaces the line for the same name, and keeping both is an error.
//!
//! The suggestion repeats text of the component only if it has the form of a secret name or an
//! address, because such text cannot end a comment or a string. Other text is only counted.

mod amounts;
mod plan;
mod text;

use std::time::Duration;

use super::{Policy, PolicyError};
use plan::Plan;
use strongroom_core::ids::Digest;

/// What a run requested and used. Every text in it may be hostile.
#[derive(Clone, Debug)]
pub struct ObservedRun {
    /// The run ID.
    pub run: String,
    /// How the run ended, if it did not finish: it may need more than it used.
    pub unfinished: Option<String>,
    /// The component.
    pub component: Digest,
    /// The path of the component's file.
    pub path: String,
    /// The secrets that the run requested.
    pub secrets: Vec<SecretRequests>,
    /// The destinations that the run tried to reach.
    pub tcp: Vec<TcpAttempts>,
    /// The run's use of limited resources.
    pub usage: Usage,
}

/// The requests for one operation on one name.
#[derive(Clone, Debug)]
pub struct SecretRequests {
    /// The requested name; `*` for a list.
    pub name: String,
    /// The operation.
    pub operation: String,
    /// The number of requests that were served.
    pub served: u64,
    /// The number that were denied.
    pub denied: u64,
}

/// The attempts to reach one destination.
#[derive(Clone, Debug)]
pub struct TcpAttempts {
    /// The entry of `tcp` that allows it or would allow it.
    pub entry: String,
    /// The number of attempts that were allowed.
    pub allowed: u64,
    /// The number that were denied.
    pub denied: u64,
}

/// The resources that a run used; `None` if unknown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// The peak linear memory in bytes.
    pub memory: Option<u64>,
    /// The wall-clock time.
    pub time: Option<Duration>,
    /// Bytes in `/output`.
    pub output_bytes: Option<u64>,
    /// Files and directories in `/output`.
    pub output_files: Option<u64>,
    /// Bytes of log output.
    pub log_bytes: Option<u64>,
    /// The number of requested secret names.
    pub requests: Option<u64>,
    /// The number of metric values.
    pub metrics: Option<u64>,
}

/// The reason why no policy can be suggested.
#[derive(Debug, thiserror::Error)]
pub enum SuggestError {
    /// The run used more than one policy can list.
    #[error(
        "could not suggest a policy: the run used more names or destinations than one policy can list; write entries with prefixes instead"
    )]
    TooLarge,
    /// The generated policy is invalid. This is a bug in strongroom.
    #[error("could not suggest a policy: the generated policy is invalid: {0}")]
    Invalid(PolicyError),
}

/// Returns the text of a valid policy that grants what a run was given. `policy` is the run's own;
/// `None` if it is not available.
///
/// # Errors
/// Returns [`SuggestError`] if the run used too much for one policy.
pub fn suggest(observed: &ObservedRun, policy: Option<&Policy>) -> Result<String, SuggestError> {
    let plan = Plan::of(observed, policy)?;
    let text = text::write(observed, policy, &plan);
    if text.len() > super::TEXT_MAX {
        return Err(SuggestError::TooLarge);
    }
    Policy::parse(&text, "suggestion").map_err(SuggestError::Invalid)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
