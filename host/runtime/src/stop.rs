//! Ends a run at a limit. The limit is recorded first and then raised as a trap, so that neither a
//! guest that swallows the error nor a layer that wraps it can change the outcome.

use std::sync::{Arc, OnceLock};

use strongroom_core::record::Limit;

/// The trap that ends a run at a limit.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the run is over its `{}` limit", .0.as_str())]
pub struct Stop(pub Limit);

/// The first limit that a run exceeded.
#[derive(Clone, Debug, Default)]
pub(super) struct StopCell(Arc<OnceLock<Limit>>);

impl StopCell {
    /// Records the limit and returns the trap. The first recorded limit stays.
    pub(super) fn stop(&self, limit: Limit) -> Stop {
        Stop(*self.0.get_or_init(|| limit))
    }

    /// Returns the limit that the run exceeded, if any.
    pub(super) fn limit(&self) -> Option<Limit> {
        self.0.get().copied()
    }
}
