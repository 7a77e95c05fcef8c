//! Stub.
mod grant;
pub use grant::{Grant, ListGrant};
/// What a component may do with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Read the value.
    Get,
    /// Store a value.
    Set,
    /// See the name among those that exist.
    List,
    /// See version, content type and times.
    Describe,
    /// Delete with all versions.
    Delete,
}
