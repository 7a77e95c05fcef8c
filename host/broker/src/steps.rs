//! The steps that requests share: counting, checking the form, deciding, auditing, registering, and
//! formatting for display.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::task::{consume_budget, spawn_blocking};

use super::error::{from_vault, unavailable_audit};
use super::{Answer, BATCH_MAX, GuestError, Held, REFUSALS_MAX, Repeats, RequestError, RunBroker};
use strongroom_audit::{Decision, Event, Kind};
use strongroom_core::ids::SecretName;
use strongroom_core::record::Limit;
use strongroom_core::secret::Secret;
use strongroom_policy::{Grant, Operation, Refusal, RefusalReason};
use strongroom_vault::{Description, Stored, VaultError};

/// The longest component text that the audit log and the record keep, in characters.
const SHOWN_MAX: usize = 160;

/// The longest value in bytes that is encoded for the redactor on the executor, which takes about a
/// tenth of a millisecond.
const REGISTERED_INLINE_MAX: usize = 128;

/// Returns whether a failed change may have taken effect: the vault's reply was lost or unreadable.
fn is_doubtful(error: &VaultError) -> bool {
    matches!(error, VaultError::Unavailable(_) | VaultError::Damaged(_))
}

impl RunBroker {
    /// Counts a request and checks its form: the limit, the size of a batch, each name, and
    /// duplicates. The policy is not asked yet.
    pub(super) async fn admit(
        &self,
        operation: Operation,
        names: &[&str],
        batch: bool,
    ) -> Result<Vec<SecretName>, RequestError> {
        self.count(operation, names.len().max(1) as u64).await?;
        if batch && names.len() > BATCH_MAX {
            let guest = GuestError::InvalidBatch(format!("at most {BATCH_MAX} names in a batch"));
            return Err(self.refuse_unasked(operation, "", "batch too large", guest).await);
        }
        let mut parsed: Vec<SecretName> = Vec::with_capacity(names.len());
        let mut seen = HashSet::new();
        for raw in names {
            let name = self.name(operation, raw).await?;
            if names.len() > 1 && !seen.insert(name.clone()) {
                let guest = GuestError::InvalidBatch(format!("{name} twice"));
                let shown = self.shown_name(name.as_str());
                return Err(self.refuse_unasked(operation, &shown, "a name twice", guest).await);
            }
            parsed.push(name);
        }
        Ok(parsed)
    }

    /// Checks a name's form.
    pub(super) async fn name(&self, operation: Operation, raw: &str) -> Result<SecretName, RequestError> {
        let Ok(name) = SecretName::parse(raw) else {
            let shown = self.shown(raw);
            let guest = GuestError::InvalidName("1 to 127 characters of 0-9 a-z A-Z -".to_owned());
            return Err(self.refuse_unasked(operation, &shown, "invalid name", guest).await);
        };
        let folded = name.as_str() == raw;
        // A name that the policy spells out is shown as it is.
        if !folded || !self.decisions.contains_name(raw) {
            let shown = self.shown(raw);
            if shown != raw {
                let mut state = self.state();
                if folded {
                    // Another spelling takes precedence: a value that it contains is not found in
                    // this one.
                    state.spelled.entry(name.clone()).or_insert(shown);
                } else {
                    state.spelled.insert(name.clone(), shown);
                }
            }
        }
        Ok(name)
    }

    /// Counts `n` requests against the limit.
    pub(super) async fn count(&self, operation: Operation, n: u64) -> Result<(), RequestError> {
        let total = {
            let mut state = self.state();
            if state.ended {
                return Err(Answer::new(unavailable_audit(), "the run has ended, and its account is closed").into());
            }
            state.requests = state.requests.saturating_add(n);
            state.requests
        };
        if total <= self.requests {
            return Ok(());
        }
        // The request is refused in any case, so a failure to write this event changes nothing.
        let _ = self
            .audit(Event {
                event: Kind::Summary,
                run: Some(self.run),
                operation: Some(operation.as_str().into()),
                decision: Some(Decision::Denied),
                rule: Some("limits.requests".into()),
                outcome: Some("stopped at the limit".into()),
                count: Some(n),
                ..Event::default()
            })
            .await;
        Err(RequestError::Stop(Limit::Requests))
    }

    /// Counts a request for one name, checks its form and decides it.
    pub(super) async fn grant(&self, operation: Operation, raw: &str) -> Result<Grant, RequestError> {
        self.count(operation, 1).await?;
        let name = self.name(operation, raw).await?;
        match self.decisions.decide(operation, &name, (self.now)()) {
            Ok(grant) => Ok(grant),
            Err(refusal) => Err(self.refused(operation, refusal).await),
        }
    }

    /// Decides a whole batch: all names are granted, or none.
    pub(super) async fn decide(&self, operation: Operation, names: &[SecretName]) -> Result<Vec<Grant>, RequestError> {
        match self.decisions.decide_all(operation, names, (self.now)()) {
            Ok(grants) => Ok(grants),
            Err(refusal) => Err(self.refused(operation, refusal).await),
        }
    }

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

    /// Logs why the vault did not serve a request, which the component does not learn.
    pub(super) fn tell_operator(&self, error: &VaultError) {
        match error {
            // These concern only the component, which receives them as errors.
            VaultError::NotFound(_) | VaultError::Disabled(_) => {}
            error => tracing::warn!(run = %self.run, %error, "the vault did not serve a run"),
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
        self.watch(grant, &stored.value).await?;
        let shown = self.shown_name(grant.asked().as_str());
        let Stored { value, description, .. } = stored;
        let held = Held { description, value: Some(Arc::clone(&value)) };
        let mut state = self.state();
        state.ledger.served(&shown, Operation::Get);
        state.hold(grant.asked(), held);
        Ok(value)
    }

    /// Registers a value with the redactor, so that the run's output is searched for it from now
    /// on. If the redactor is full, the value is neither released nor stored, and a further audit
    /// event says so.
    ///
    /// Encoding a long value takes tens of milliseconds, which must not delay other runs.
    pub(super) async fn watch(&self, grant: &Grant, value: &Arc<Secret>) -> Result<(), RequestError> {
        let registered = if value.len() <= REGISTERED_INLINE_MAX {
            consume_budget().await;
            self.redactor.try_register(grant.asked(), value)
        } else {
            let (redactor, name, value) = (self.redactor.clone(), grant.asked().clone(), Arc::clone(value));
            spawn_blocking(move || redactor.try_register(&name, &value)).await.unwrap_or(false)
        };
        if !registered {
            let outcome = Some("withheld: the redactor is full".into());
            self.audit(Event { event: Kind::Outcome, outcome, ..self.about(grant) }).await?;
            let guest = GuestError::Exhausted("this run has handled as much secret text as one run may".to_owned());
            return Err(Answer::new(guest, "the redactor is full").into());
        }
        Ok(())
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

    pub(super) fn about(&self, grant: &Grant) -> Event {
        let mut event = self.naming(grant.operation(), grant.stored());
        if grant.asked() != grant.stored() {
            event.asked = Some(self.shown_name(grant.asked().as_str()).into_owned());
        }
        event
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

    pub(super) fn decided(&self, kind: Kind, grant: &Grant) -> Event {
        Event { event: kind, decision: Some(Decision::Allowed), rule: Some(grant.shared_rule()), ..self.about(grant) }
    }

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
}
