//! Audit events about a name, and the form in which text from the component is shown.

use std::borrow::Cow;

use strongroom_audit::{Decision, Event, Kind};
use strongroom_core::ids::SecretName;
use strongroom_policy::{Grant, Operation};

use super::error::unavailable_audit;
use super::{Answer, RequestError, RunBroker};

/// The longest component text that the audit log and the record keep, in characters.
const SHOWN_MAX: usize = 160;

impl RunBroker {
    pub(super) async fn audit(&self, event: Event) -> Result<(), RequestError> {
        match self.append(&event).await {
            Ok(()) => Ok(()),
            Err(error) => {
                // Logged once per run: a component can ask as often as its limit allows.
                if !std::mem::replace(&mut self.state().audit_failed, true) {
                    tracing::error!(run = %self.run, %error, "the audit could not be written; requests are refused");
                }
                Err(Answer::new(unavailable_audit(), error.to_string()).into())
            }
        }
    }

    pub(super) fn decided(&self, kind: Kind, grant: &Grant) -> Event {
        Event { event: kind, decision: Some(Decision::Allowed), rule: Some(grant.shared_rule()), ..self.about(grant) }
    }

    pub(super) fn about(&self, grant: &Grant) -> Event {
        let mut event = self.naming(grant.operation(), grant.stored());
        if grant.asked() != grant.stored() {
            event.asked = Some(self.shown_name(grant.asked().as_str()).into_owned());
        }
        event
    }

    /// Returns an event about a name. A value can have the form of a name, so a name that contains
    /// a value the run was given is written redacted.
    pub(super) fn naming(&self, operation: Operation, name: &SecretName) -> Event {
        let shown = self.shown_name(name.as_str());
        let whole = shown == name.as_str();
        Event {
            run: Some(self.run),
            operation: Some(operation.as_str().into()),
            secret: whole.then(|| name.clone()),
            asked: (!whole).then(|| shown.into_owned()),
            ..Event::default()
        }
    }

    /// Counts a request that was served.
    pub(super) fn served(&self, name: &str, operation: Operation) {
        let shown = self.shown_name(name);
        self.state().ledger.served(&shown, operation);
    }

    /// Records that a secret is about to be released that the vault had before this run, so its
    /// name is not text from the component.
    pub(super) fn found(&self, grant: &Grant) {
        // `found` is never consulted for a name that the policy spells out.
        if self.decisions.contains_name(grant.asked().as_str()) {
            return;
        }
        let mut state = self.state();
        let known = state.names.entry(grant.asked().clone()).or_default();
        known.found |= !known.written;
    }

    /// Returns guest text in the form for the audit log and the record: redacted, then escaped,
    /// then shortened.
    pub(super) fn shown(&self, text: &str) -> String {
        self.redactor.sanitize_prefix(text, SHOWN_MAX)
    }

    /// Returns a folded name in the form for the audit log and the record. If its requested
    /// spelling contains a value, that spelling is shown, redacted. Two kinds of names are shown as
    /// they are: those that the policy spells out, and those of secrets that the vault had before
    /// this run. Neither is text from the component. Otherwise a component could set a value equal
    /// to such a name and so remove the name from its own record.
    pub(super) fn shown_name<'n>(&self, name: &'n str) -> Cow<'n, str> {
        if self.decisions.contains_name(name) {
            return name.into();
        }
        let spelled = {
            let state = self.state();
            if state.names.get(name).is_some_and(|known| known.found) {
                return name.into();
            }
            state.spelled.get(name).cloned()
        };
        // Redact even a spelling that was redacted before: since then the run may have been given
        // another value that it contains.
        let shown = self.shown(spelled.as_deref().unwrap_or(name));
        if shown == name { name.into() } else { shown.into() }
    }
}
