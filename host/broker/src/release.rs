//! Values that a run holds, and the release of a value.

use std::sync::Arc;

use tokio::task::{consume_budget, spawn_blocking};

use strongroom_audit::{Event, Kind};
use strongroom_core::secret::Secret;
use strongroom_policy::{Grant, Operation};
use strongroom_vault::{Description, Stored};

use super::{Answer, GuestError, Held, Repeats, RequestError, RunBroker};

/// The longest value in bytes that is encoded for the redactor on the executor, which takes about a
/// tenth of a millisecond.
const REGISTERED_INLINE_MAX: usize = 128;

/// The audited outcome of a value that the redactor has no room for.
pub(super) const WITHHELD: &str = "withheld: the redactor is full";

impl RunBroker {
    /// Returns the value that the run already holds of this secret, and counts the repeated read.
    pub(super) fn held_value(&self, grant: &Grant) -> Option<(Arc<Secret>, Description)> {
        let (value, description) = {
            let state = self.state();
            let held = state.held(grant.asked())?;
            (held.value.clone()?, held.description.clone())
        };
        if grant.version().is_some_and(|pin| *pin != description.version) {
            return None;
        }
        let shown = self.shown_name(grant.asked().as_str());
        let mut state = self.state();
        if self.broker.repeats == Repeats::Sum {
            let count = state.repeats.entry((grant.stored().clone(), description.version.clone())).or_default();
            *count = count.saturating_add(1);
        }
        state.ledger.served(&shown, Operation::Get);
        Some((value, description))
    }

    /// Restricts a grant to the version that the run has seen.
    pub(super) fn pinned(&self, grant: Grant) -> Grant {
        let version = self.state().held(grant.asked()).map(|held| held.description.version.clone());
        match version {
            Some(version) => grant.at_version(version),
            None => grant,
        }
    }

    /// Registers a value with the redactor, remembers it for the run, and releases it. This is the
    /// last step of the order.
    pub(super) async fn hand_out(&self, grant: &Grant, stored: Stored) -> Result<Arc<Secret>, RequestError> {
        if let Err(guest) = self.register(grant, &stored.value).await {
            self.audit(Event { event: Kind::Outcome, outcome: Some(WITHHELD.into()), ..self.about(grant) }).await?;
            return Err(Answer::new(guest, WITHHELD).into());
        }
        let shown = self.shown_name(grant.asked().as_str());
        let Stored { value, description, .. } = stored;
        let held = Held { description, value: Some(Arc::clone(&value)) };
        let mut state = self.state();
        state.ledger.served(&shown, Operation::Get);
        state.hold(grant.asked(), held);
        Ok(value)
    }

    /// Registers a value with the redactor, so that the run's output is searched for it from now
    /// on. If the redactor is full, the value must be neither released nor stored.
    ///
    /// Encoding a long value takes tens of milliseconds, which must not delay other runs.
    pub(super) async fn register(&self, grant: &Grant, value: &Arc<Secret>) -> Result<(), GuestError> {
        let registered = if value.len() <= REGISTERED_INLINE_MAX {
            consume_budget().await;
            self.redactor.try_register(grant.asked(), value)
        } else {
            let (redactor, name, value) = (self.redactor.clone(), grant.asked().clone(), Arc::clone(value));
            spawn_blocking(move || redactor.try_register(&name, &value)).await.unwrap_or(false)
        };
        if registered {
            return Ok(());
        }
        Err(GuestError::Exhausted("this run has reached the limit on secret text".to_owned()))
    }

    /// Refuses to store a secret under a name that contains a value of this run: the name would be
    /// in the vault, the audit log and the record in clear text. A name that the policy spells out,
    /// or of a secret that existed before, is not text from the component.
    pub(super) async fn refuse_value_as_name(&self, grant: &Grant) -> Result<(), RequestError> {
        let name = grant.asked().as_str();
        let shown = self.shown_name(name).into_owned();
        if shown == name {
            return Ok(());
        }
        let guest = GuestError::InvalidName("a name must not contain the value of a secret".to_owned());
        Err(self.refuse_unasked(grant.operation(), &shown, "the name contains a value", guest).await)
    }

    /// Checks that a secret may be used now. A vault may serve a secret that is disabled, not yet
    /// valid or expired (Key Vault documents its dates as informational).
    pub(super) fn usable(&self, description: &Description) -> Result<(), &'static str> {
        let now = (self.now)();
        if !description.enabled {
            return Err("disabled in the vault");
        }
        if description.attributes.not_before.is_some_and(|from| now < from) {
            return Err("not yet valid in the vault");
        }
        if description.attributes.expires.is_some_and(|until| now >= until) {
            return Err("expired in the vault");
        }
        Ok(())
    }
}
