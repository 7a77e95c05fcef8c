//! Refused and failed requests: their audit events and the component's errors.

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::future::try_join_all;

use strongroom_audit::{Decision, Event, Kind};
use strongroom_core::ids::SecretName;
use strongroom_policy::{Grant, Operation, Refusal, RefusalReason};
use strongroom_vault::VaultError;

use super::error::from_vault;
use super::{Answer, GuestError, REFUSALS_MAX, RequestError, RunBroker};

/// Returns whether a failed change may have taken effect: the vault's reply was lost or unreadable.
fn is_doubtful(error: &VaultError) -> bool {
    matches!(error, VaultError::Unavailable(_) | VaultError::Damaged(_))
}

impl RunBroker {
    /// Audits and counts a refusal, and returns the component's error.
    pub(super) async fn refused(&self, operation: Operation, refusal: Refusal) -> RequestError {
        let name = refusal.name.as_ref().map_or_else(|| "*".to_owned(), ToString::to_string);
        let (guest, outcome) = match refusal.reason {
            RefusalReason::Denied => (GuestError::Denied(name.clone()), "denied"),
            RefusalReason::Exhausted => (GuestError::Exhausted(name.clone()), "budget used up"),
            RefusalReason::Expired => (GuestError::Expired(name.clone()), "grant expired"),
        };
        let shown = self.shown_name(&name);
        // A policy line that would have to be redacted could not be used.
        let would_allow = Some(refusal.would_allow).filter(|_| shown == name);
        self.state().ledger.denied(&shown, operation, would_allow);
        let about = match &refusal.name {
            Some(name) => self.naming(operation, name),
            None => Event { run: Some(self.run), operation: Some(operation.as_str().into()), ..Event::default() },
        };
        let event = Event {
            event: Kind::Use,
            decision: Some(Decision::Denied),
            rule: refusal.rule.map(Arc::from),
            outcome: Some(outcome.into()),
            ..about
        };
        match self.audit_refusal(operation, event).await {
            Ok(()) => Answer::new(guest, outcome).into(),
            Err(error) => error,
        }
    }

    /// Audits and counts a request that is refused for its form, before the policy is asked.
    /// `shown` is redacted and escaped.
    pub(super) async fn refuse_unasked(
        &self,
        operation: Operation,
        shown: &str,
        why: &'static str,
        guest: GuestError,
    ) -> RequestError {
        self.state().ledger.denied(shown, operation, None);
        let event = Event {
            event: Kind::Use,
            run: Some(self.run),
            operation: Some(operation.as_str().into()),
            asked: Some(shown.to_owned()),
            decision: Some(Decision::Denied),
            outcome: Some(why.into()),
            ..Event::default()
        };
        match self.audit_refusal(operation, event).await {
            Ok(()) => Answer::new(guest, why).into(),
            Err(error) => error,
        }
    }

    /// Audits a refusal, or adds it to the total.
    async fn audit_refusal(&self, operation: Operation, event: Event) -> Result<(), RequestError> {
        {
            let mut state = self.state();
            if state.refusals >= REFUSALS_MAX {
                let more = state.more_refusals.entry(operation).or_default();
                *more = more.saturating_add(1);
                return Ok(());
            }
            state.refusals = state.refusals.saturating_add(1);
        }
        self.audit(event).await
    }

    /// Audits the outcome of a vault error, and returns the component's error.
    pub(super) async fn failed(&self, grants: &[Grant], error: &VaultError) -> RequestError {
        let written: &[SecretName] = match error {
            VaultError::Partial { written, .. } => written,
            _ => &[],
        };
        let transactions = self.broker.vault.abilities().transactions;
        let audited = try_join_all(grants.iter().map(|grant| {
            let changes = matches!(grant.operation(), Operation::Set | Operation::Delete);
            let outcome = match error {
                _ if written.contains(grant.stored()) => Cow::Borrowed("done"),
                VaultError::Partial { cause, .. } if is_doubtful(cause) => {
                    "not known to be done: the batch stopped half-way".into()
                }
                error if changes && !transactions && is_doubtful(error) => {
                    format!("{}; whether it was done is not known", error.kind()).into()
                }
                error => error.kind().into(),
            };
            self.audit(Event { event: Kind::Outcome, outcome: Some(outcome), ..self.about(grant) })
        }))
        .await;
        self.tell_operator(error);
        for grant in grants {
            if written.contains(grant.stored()) {
                self.served(grant.asked().as_str(), grant.operation());
            }
            if matches!(grant.operation(), Operation::Set | Operation::Delete) {
                // The change may or may not have taken effect, so what the run knew may be outdated
                // and the vault must be asked again.
                self.state().forget(grant.asked());
            }
        }
        if let Err(error) = audited {
            return error;
        }
        if !written.is_empty() || matches!(error, VaultError::Partial { .. }) {
            let names = grants.iter().filter(|grant| written.contains(grant.stored()));
            let names = names.map(|grant| grant.asked().to_string()).collect();
            return Answer::new(GuestError::Partial(names), error.to_string()).into();
        }
        let concerned = match error {
            VaultError::NotFound(name)
            | VaultError::Disabled(name)
            | VaultError::Deleted(name)
            | VaultError::Conflict { name, .. } => Some(name),
            _ => None,
        };
        let asked = grants.iter().find(|grant| Some(grant.stored()) == concerned).or(grants.first());
        from_vault(asked.map_or("", |grant| grant.asked().as_str()), error).into()
    }

    /// Logs why the vault did not serve a request, which the component does not learn.
    pub(super) fn tell_operator(&self, error: &VaultError) {
        match error {
            // These concern only the component, which receives them as errors.
            VaultError::NotFound(_) | VaultError::Disabled(_) => {}
            error => tracing::warn!(run = %self.run, %error, "the vault did not serve a run"),
        }
    }
}
