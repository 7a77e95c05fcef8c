//! What the fuzz targets share.

pub mod edits;

/// The host's modules under the paths that the crate `strongroom` gives them.
///
/// The tests replay the seeds with `strongroom` itself, which the fuzzers cannot use because it
/// depends on the engine.
pub mod host {
    pub use strongroom_audit as audit;
    pub use strongroom_core::{ids, record, secret};
    pub use strongroom_policy as policy;
    pub use strongroom_redact as redact;
    pub use strongroom_vault as vault;
}
