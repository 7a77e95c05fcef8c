//! How a limit ends a run: it is noted first and then raised as a trap, so that neither a guest that swallows the error nor a layer that
//! wraps it can turn it into something else.

use std::sync::{Arc, OnceLock};

use strongroom_core::record::Limit;

/// The trap that ends a run at a limit.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the run is over its `{}` limit", .0.as_str())]
pub struct Stop(pub Limit);

/// The first limit that a run went over.
#[derive(Clone, Debug, Default)]
pub(super) struct StopCell(Arc<OnceLock<Limit>>);

impl StopCell {
    /// Notes the limit and makes the trap. The first limit noted stays.
    pub(super) fn stop(&self, limit: Limit) -> Stop {
        Stop(*self.0.get_or_init(|| limit))
    }

    /// The limit that the run went over, if it did.
    pub(super) fn limit(&self) -> Option<Limit> {
        self.0.get().copied()
    }
}
