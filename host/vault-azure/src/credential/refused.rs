//! Tokens that the vault has refused although they have not expired: revoked, or judged by another clock.
//!
//! The SDK's credentials keep a token until it expires, and hand it out again. So the guard, which sees the refusal, notes the token here;
//! and where a credential comes with one that is noted, the credential is made anew, which has forgotten it. That happens once for a
//! refusal and not more often than every [`REST`], so that a vault that refuses everything does not become a storm at the token authority.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The least time between two tokens that are asked for because others were refused.
const REST: Duration = Duration::from_secs(1);

/// What is known about refused tokens. A token is known by a keyed hash: it is not kept for longer because it is of no use.
#[derive(Default)]
pub(crate) struct Refused {
    keys: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<u64>,
    renewed: Option<Instant>,
}

impl Refused {
    /// The vault does not take this token.
    pub(crate) fn note(&self, token: &str) {
        let hash = self.keys.hash_one(token);
        self.state.lock().unwrap_or_else(PoisonError::into_inner).last = Some(hash);
    }

    /// Whether this token is the refused one.
    pub(super) fn is(&self, token: &str) -> bool {
        let hash = self.keys.hash_one(token);
        self.state.lock().unwrap_or_else(PoisonError::into_inner).last == Some(hash)
    }

    /// Whether this token is the refused one, and it is time to ask for another. Whoever is told so does it.
    pub(super) fn wants_another(&self, token: &str) -> bool {
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

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refused")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // promise: A token that the vault refuses is replaced once, and at a limited rate.
    #[tokio::test(start_paused = true)]
    async fn only_the_refused_token_is_replaced_and_not_in_a_storm() {
        let refused = Refused::default();
        assert!(!refused.wants_another("one"));
        refused.note("one");
        assert!(!refused.wants_another("two"));
        assert!(refused.wants_another("one"));
        assert!(!refused.wants_another("one"), "somebody is at it");
        // The next one is refused as well.
        refused.note("two");
        assert!(!refused.wants_another("one") && !refused.wants_another("two"));
        tokio::time::advance(REST).await;
        assert!(refused.wants_another("two"));
    }
}
