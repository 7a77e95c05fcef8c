//! Records tokens that the vault refused although they have not expired, for example because they
//! were revoked.
//!
//! The SDK's credentials cache a token until it expires. So the guard records a refused token here,
//! and a credential that returns a recorded token is recreated with an empty cache. This happens
//! once per refusal and at most once every [`REST`], so that a vault that refuses everything does
//! not flood the token authority.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Minimum time between two replacements of refused tokens.
const REST: Duration = Duration::from_secs(1);

/// The last refused token, stored only as a keyed hash.
#[derive(Default)]
pub(crate) struct RefusedTokens {
    keys: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<u64>,
    renewed: Option<Instant>,
}

impl RefusedTokens {
    /// Records that the vault refused this token.
    pub(crate) fn note(&self, token: &str) {
        let hash = self.keys.hash_one(token);
        self.state.lock().unwrap_or_else(PoisonError::into_inner).last = Some(hash);
    }

    /// Returns whether this token was refused.
    pub(super) fn is(&self, token: &str) -> bool {
        let hash = self.keys.hash_one(token);
        self.state.lock().unwrap_or_else(PoisonError::into_inner).last == Some(hash)
    }

    /// Returns whether this token was refused and it is time to replace it. The caller must then do
    /// so.
    pub(super) fn should_replace(&self, token: &str) -> bool {
        let hash = self.keys.hash_one(token);
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let rested = state.renewed.is_none_or(|renewed| now.duration_since(renewed) >= REST);
        let wanted = state.last == Some(hash) && rested;
        if wanted {
            state.renewed = Some(now);
        }
        wanted
    }
}

impl fmt::Debug for RefusedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefusedTokens")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // promise: A token that the vault refuses is replaced once, and at a limited rate.
    #[tokio::test(start_paused = true)]
    async fn refused_token_is_replaced_at_a_limited_rate() {
        let refused = RefusedTokens::default();
        assert!(!refused.should_replace("one"));
        refused.note("one");
        assert!(!refused.should_replace("two"));
        assert!(refused.should_replace("one"));
        assert!(!refused.should_replace("one"), "somebody is at it");
        // The next token is refused too.
        refused.note("two");
        assert!(!refused.should_replace("one") && !refused.should_replace("two"));
        tokio::time::advance(REST).await;
        assert!(refused.should_replace("two"));
    }
}
