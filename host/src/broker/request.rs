//! The requests of a run, each in the order that the parent module states.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::error::{from_vault, unavailable_audit, unavailable_vault};
use super::{Answer, BATCH_MAX, GuestError, Held, Repeats, RequestError, RunBroker};
use crate::audit::{Decision, Event, Kind};
use crate::ids::{SecretName, SecretVersion};
use crate::policy::{Grant, Operation, Refusal, RefusalReason};
use crate::record::Limit;
use crate::redact::escape_controls;
use crate::secret::{Secret, VALUE_MAX};
use crate::vault::{Description, Stored, VaultError};

/// A grant's facts, kept for the events after the vault has consumed the grant itself.
#[derive(Clone)]
struct Facts {
    operation: Operation,
    asked: SecretName,
    stored: SecretName,
    /// The version that the policy pins.
    pin: Option<SecretVersion>,
    rule: String,
}

impl From<&Grant> for Facts {
    fn from(grant: &Grant) -> Self {
        Self {
            operation: grant.operation(),
            asked: grant.asked().clone(),
            stored: grant.stored().clone(),
            pin: grant.version().cloned(),
            rule: grant.rule().to_owned(),
        }
    }
}

impl RunBroker {
    /// The value of a secret.
    ///
    /// # Errors
    /// [`RequestError`]: an answer for the component, or the end of the run.
    pub async fn get(&self, name: &str) -> Result<Arc<Secret>, RequestError> {
        let mut values = self.get_batch(&[name], false).await?;
        match values.pop().flatten() {
            Some(value) => Ok(value),
            None => {
                // A valid name: the batch would have failed before.
                let name = name.to_ascii_lowercase();
                Err(Answer::new(GuestError::NotFound(name.clone()), format!("no secret to be had for `{name}`")).into())
            }
        }
    }

    /// The values of several secrets, in order; `None` where a granted name has no secret to be had.
    ///
    /// # Errors
    /// [`RequestError`]: an answer for the component, or the end of the run.
    pub async fn get_many(&self, names: &[String]) -> Result<Vec<Option<Arc<Secret>>>, RequestError> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.get_batch(&names, true).await
    }

    async fn get_batch(&self, names: &[&str], batch: bool) -> Result<Vec<Option<Arc<Secret>>>, RequestError> {
        let names = self.admit(Operation::Get, names, batch).await?;
        let grants = self.decide(Operation::Get, &names).await?;
        let mut answers: Vec<Option<Arc<Secret>>> = Vec::with_capacity(grants.len());
        let mut missing = Vec::new();
        for grant in grants {
            let facts = Facts::from(&grant);
            if let Some((value, description)) = self.held_value(&facts) {
                if self.broker.repeats == Repeats::Each {
                    let event = Event {
                        outcome: Some("released again".to_owned()),
                        version: Some(description.version),
                        ..self.decided(Kind::Use, &facts)
                    };
                    self.audit(event).await?;
                }
                answers.push(Some(value));
                continue;
            }
            match self.broker.vault.cached(self.pinned(grant)) {
                Ok(answer) => answers.push(self.release_cached(&facts, answer).await?),
                Err(grant) => {
                    missing.push((answers.len(), facts, grant));
                    answers.push(None);
                }
            }
        }
        if missing.is_empty() {
            return Ok(answers);
        }
        try_join_all(missing.iter().map(|(_, facts, _)| self.audit(self.decided(Kind::Decision, facts)))).await?;
        let mut places = Vec::with_capacity(missing.len());
        let mut grants = Vec::with_capacity(missing.len());
        for (place, facts, grant) in missing {
            places.push((place, facts));
            grants.push(grant);
        }
        let fetched = match self.fetch(grants).await {
            Ok(fetched) => fetched,
            Err(error) => return Err(self.failed(&places, &error).await),
        };
        if fetched.len() != places.len() {
            let error =
                VaultError::Damaged("the vault answered another number of secrets than it was asked for".into());
            return Err(self.failed(&places, &error).await);
        }
        let outcomes = places.iter().zip(&fetched).map(|((_, facts), stored)| {
            let mut event = Event { event: Kind::Outcome, ..self.about(facts) };
            match stored {
                Some(stored) => {
                    event.version = Some(stored.description.version.clone());
                    event.outcome = Some(self.usable(&stored.description).err().unwrap_or("released").to_owned());
                }
                None => event.outcome = Some("no such secret".to_owned()),
            }
            self.audit(event)
        });
        try_join_all(outcomes).await?;
        for ((place, facts), stored) in places.into_iter().zip(fetched) {
            let value = match stored {
                Some(stored) if self.usable(&stored.description).is_ok() => Some(self.hand_out(&facts, stored)?),
                _ => None,
            };
            if let Some(answer) = answers.get_mut(place) {
                *answer = value;
            }
        }
        Ok(answers)
    }

    /// One by one where there is one, so that a vault's plain path serves the plain call.
    async fn fetch(&self, mut grants: Vec<Grant>) -> Result<Vec<Option<Stored>>, VaultError> {
        if grants.len() > 1 {
            return self.broker.vault.get_many(grants).await;
        }
        let Some(grant) = grants.pop() else { return Ok(Vec::new()) };
        match self.broker.vault.get(grant).await {
            Ok(stored) => Ok(vec![Some(stored)]),
            Err(VaultError::NotFound(_) | VaultError::Disabled(_)) => Ok(vec![None]),
            Err(error) => Err(error),
        }
    }

    /// A use answered from the cache: one event with decision and outcome, then release.
    async fn release_cached(
        &self,
        facts: &Facts,
        answer: Result<Stored, VaultError>,
    ) -> Result<Option<Arc<Secret>>, RequestError> {
        let mut event = self.decided(Kind::Use, facts);
        event.detail.insert("cache".to_owned(), "hit".to_owned());
        let (stored, outcome) = match answer {
            Ok(stored) => {
                event.version = Some(stored.description.version.clone());
                match self.usable(&stored.description) {
                    Ok(()) => (Some(stored), "released"),
                    Err(why) => (None, why),
                }
            }
            Err(VaultError::NotFound(_)) => (None, "no such secret"),
            Err(VaultError::Disabled(_)) => (None, "disabled in the vault"),
            Err(error) => {
                event.outcome = Some("failed".to_owned());
                self.audit(event).await?;
                return Err(from_vault(facts.asked.as_str(), &error).into());
            }
        };
        event.outcome = Some(outcome.to_owned());
        self.audit(event).await?;
        stored.map(|stored| self.hand_out(facts, stored)).transpose()
    }

    /// Stores one value.
    ///
    /// # Errors
    /// [`RequestError`]: an answer for the component, or the end of the run.
    pub async fn set(&self, name: &str, value: String) -> Result<(), RequestError> {
        self.set_batch(vec![(name.to_owned(), value)], false).await
    }

    /// Stores several values: all or none where the vault is transactional.
    ///
    /// # Errors
    /// [`RequestError`]: an answer for the component, or the end of the run.
    pub async fn set_many(&self, secrets: Vec<(String, String)>) -> Result<(), RequestError> {
        self.set_batch(secrets, true).await
    }

    async fn set_batch(&self, secrets: Vec<(String, String)>, batch: bool) -> Result<(), RequestError> {
        // The values become zeroizing before anything can fail, so that an early return leaves no copy behind.
        let (names, values): (Vec<_>, Vec<_>) =
            secrets.into_iter().map(|(name, value)| (name, Secret::new(value))).unzip();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let names = self.admit(Operation::Set, &names, batch).await?;
        let mut secrets = Vec::with_capacity(values.len());
        for (name, value) in names.iter().zip(values) {
            match value {
                Ok(value) => secrets.push(Arc::new(value)),
                Err(_) => {
                    let guest = GuestError::InvalidValue(format!("{name}: over {VALUE_MAX} bytes"));
                    let shown = self.shown_name(name.as_str());
                    return Err(self.refuse_unasked(Operation::Set, &shown, "value too long", guest).await);
                }
            }
        }
        let grants = self.decide(Operation::Set, &names).await?;
        let facts: Vec<Facts> = grants.iter().map(Facts::from).collect();
        let places: Vec<(usize, Facts)> = facts.iter().cloned().enumerate().collect();
        try_join_all(facts.iter().map(|facts| self.audit(self.decided(Kind::Decision, facts)))).await?;
        // Before the write: a value that the vault holds is watched for from the first moment on.
        for (facts, value) in facts.iter().zip(&secrets) {
            self.watch(facts, value)?;
        }
        let pairs: Vec<_> = grants.into_iter().zip(secrets.iter().cloned()).collect();
        let written = match self.broker.vault.set_many(pairs).await {
            Ok(written) => written,
            Err(error) => return Err(self.failed(&places, &error).await),
        };
        for ((facts, value), description) in facts.iter().zip(secrets).zip(&written) {
            self.served(facts.asked.as_str(), Operation::Set);
            let mut state = self.state();
            let repeats = state.held.get(&facts.stored).map_or(0, |held| held.repeats);
            state
                .held
                .insert(facts.stored.clone(), Held { description: description.clone(), value: Some(value), repeats });
        }
        try_join_all(facts.iter().zip(&written).map(|(facts, description)| {
            self.audit(Event {
                event: Kind::Outcome,
                outcome: Some("written".to_owned()),
                version: Some(description.version.clone()),
                ..self.about(facts)
            })
        }))
        .await?;
        Ok(())
    }

    /// A secret without its value.
    ///
    /// # Errors
    /// [`RequestError`]: an answer for the component, or the end of the run.
    pub async fn describe(&self, name: &str) -> Result<Description, RequestError> {
        let names = self.admit(Operation::Describe, &[name], false).await?;
        let grant = self.decide(Operation::Describe, &names).await?.pop();
        let Some(grant) = grant else {
            return Err(Answer::new(unavailable_vault(), "a decision without a grant").into());
        };
        let facts = Facts::from(&grant);
        let grant = self.pinned(grant);
        self.audit(self.decided(Kind::Decision, &facts)).await?;
        let answer = self.broker.vault.describe(grant).await;
        let (outcome, version, answer) = match answer {
            Ok(description) => match self.usable(&description) {
                Ok(()) => ("described", Some(description.version.clone()), Ok(description)),
                Err(why) => {
                    let guest = GuestError::NotFound(facts.asked.to_string());
                    (why, Some(description.version), Err(Answer::new(guest, why)))
                }
            },
            Err(error) => (error.kind(), None, Err(from_vault(facts.asked.as_str(), &error))),
        };
        self.audit(Event { event: Kind::Outcome, outcome: Some(outcome.to_owned()), version, ..self.about(&facts) })
            .await?;
        let description = answer?;
        self.served(facts.asked.as_str(), Operation::Describe);
        let mut state = self.state();
        state.held.entry(facts.stored).or_insert_with(|| Held {
            description: description.clone(),
            value: None,
            repeats: 0,
        });
        Ok(description)
    }

    /// The names that exist and may be listed.
    ///
    /// # Errors
    /// [`RequestError`]: an answer for the component, or the end of the run.
    pub async fn list(&self) -> Result<Vec<String>, RequestError> {
        self.count(Operation::List, 1).await?;
        let grant = match self.decisions.decide_list((self.now)()) {
            Ok(grant) => grant,
            Err(refusal) => return Err(self.refused(Operation::List, refusal).await),
        };
        let about =
            Event { run: Some(self.run), operation: Some(Operation::List.as_str().to_owned()), ..Event::default() };
        self.audit(Event {
            event: Kind::Decision,
            decision: Some(Decision::Allowed),
            rule: Some(grant.rule().to_owned()),
            ..about.clone()
        })
        .await?;
        let answer = self.broker.vault.list(grant).await;
        let (outcome, count) = match &answer {
            Ok(names) => ("listed", Some(names.len() as u64)),
            Err(error) => (error.kind(), None),
        };
        self.audit(Event { event: Kind::Outcome, outcome: Some(outcome.to_owned()), count, ..about }).await?;
        let names = answer.map_err(|error| from_vault("*", &error))?;
        self.served("*", Operation::List);
        Ok(names.into_iter().map(String::from).collect())
    }

    /// Deletes one secret.
    ///
    /// # Errors
    /// [`RequestError`]: an answer for the component, or the end of the run.
    pub async fn delete(&self, name: &str) -> Result<(), RequestError> {
        self.delete_batch(&[name], false).await
    }

    /// Deletes several secrets: all or none where the vault is transactional.
    ///
    /// # Errors
    /// [`RequestError`]: an answer for the component, or the end of the run.
    pub async fn delete_many(&self, names: &[String]) -> Result<(), RequestError> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.delete_batch(&names, true).await
    }

    async fn delete_batch(&self, names: &[&str], batch: bool) -> Result<(), RequestError> {
        let names = self.admit(Operation::Delete, names, batch).await?;
        let grants = self.decide(Operation::Delete, &names).await?;
        let places: Vec<(usize, Facts)> = grants.iter().map(Facts::from).enumerate().collect();
        try_join_all(places.iter().map(|(_, facts)| self.audit(self.decided(Kind::Decision, facts)))).await?;
        if let Err(error) = self.broker.vault.delete_many(grants).await {
            return Err(self.failed(&places, &error).await);
        }
        for (_, facts) in &places {
            self.served(facts.asked.as_str(), Operation::Delete);
            self.state().held.remove(&facts.stored);
        }
        try_join_all(places.iter().map(|(_, facts)| {
            self.audit(Event { event: Kind::Outcome, outcome: Some("deleted".to_owned()), ..self.about(facts) })
        }))
        .await?;
        Ok(())
    }

    /// Counts a request and checks its form: the limit, the size of a batch, each name, no name twice. Nothing is decided yet.
    async fn admit(&self, operation: Operation, names: &[&str], batch: bool) -> Result<Vec<SecretName>, RequestError> {
        self.count(operation, names.len().max(1) as u64).await?;
        if batch && names.len() > BATCH_MAX {
            let guest = GuestError::InvalidBatch(format!("at most {BATCH_MAX} names in a batch"));
            return Err(self.refuse_unasked(operation, "", "batch too large", guest).await);
        }
        let mut parsed = Vec::with_capacity(names.len());
        let mut seen = HashSet::new();
        for raw in names {
            let Ok(name) = SecretName::parse(raw) else {
                let shown = self.shown(raw);
                let guest = GuestError::InvalidName("1 to 127 characters of 0-9 a-z A-Z -".to_owned());
                return Err(self.refuse_unasked(operation, &shown, "invalid name", guest).await);
            };
            let shown = self.shown(raw);
            if shown != *raw {
                self.state().spelled.insert(name.clone(), shown);
            }
            if !seen.insert(name.clone()) {
                let guest = GuestError::InvalidBatch(format!("{name} twice"));
                let shown = self.shown_name(name.as_str());
                return Err(self.refuse_unasked(operation, &shown, "a name twice", guest).await);
            }
            parsed.push(name);
        }
        Ok(parsed)
    }

    /// Takes `n` requests off the limit.
    async fn count(&self, operation: Operation, n: u64) -> Result<(), RequestError> {
        let total = {
            let mut state = self.state();
            state.requests = state.requests.saturating_add(n);
            state.requests
        };
        if total <= self.requests {
            return Ok(());
        }
        // The answer is no either way: a failure to write this event changes nothing.
        let _ = self
            .audit(Event {
                event: Kind::Summary,
                run: Some(self.run),
                operation: Some(operation.as_str().to_owned()),
                decision: Some(Decision::Denied),
                rule: Some("limits.requests".to_owned()),
                outcome: Some("stopped at the limit".to_owned()),
                count: Some(n),
                ..Event::default()
            })
            .await;
        Err(RequestError::Stop(Limit::Requests))
    }

    /// The whole batch, or nothing.
    async fn decide(&self, operation: Operation, names: &[SecretName]) -> Result<Vec<Grant>, RequestError> {
        match self.decisions.decide_all(operation, names, (self.now)()) {
            Ok(grants) => Ok(grants),
            Err(refusal) => Err(self.refused(operation, refusal).await),
        }
    }

    /// Audits and counts a refusal, and makes the component's answer.
    async fn refused(&self, operation: Operation, refusal: Refusal) -> RequestError {
        let name = refusal.name.as_ref().map_or_else(|| "*".to_owned(), ToString::to_string);
        let (guest, outcome) = match refusal.reason {
            RefusalReason::Denied => (GuestError::Denied(name.clone()), "denied"),
            RefusalReason::Exhausted => (GuestError::Exhausted(name.clone()), "budget used up"),
            RefusalReason::Expired => (GuestError::Expired(name.clone()), "grant expired"),
        };
        let shown = self.shown_name(&name);
        // A line that would have to be redacted could not be used.
        let would_allow = Some(refusal.would_allow).filter(|_| shown == name);
        self.state().ledger.denied(&shown, operation, would_allow);
        let about = match &refusal.name {
            Some(name) => self.naming(operation, name),
            None => Event { run: Some(self.run), operation: Some(operation.as_str().to_owned()), ..Event::default() },
        };
        let event = Event {
            event: Kind::Use,
            decision: Some(Decision::Denied),
            rule: refusal.rule,
            outcome: Some(outcome.to_owned()),
            ..about
        };
        match self.audit(event).await {
            Ok(()) => Answer::new(guest, outcome).into(),
            Err(error) => error,
        }
    }

    /// The same for what is refused by its form, before the policy is asked. `shown` is redacted and escaped.
    async fn refuse_unasked(&self, operation: Operation, shown: &str, why: &str, guest: GuestError) -> RequestError {
        self.state().ledger.denied(shown, operation, None);
        let event = Event {
            event: Kind::Use,
            run: Some(self.run),
            operation: Some(operation.as_str().to_owned()),
            asked: Some(shown.to_owned()),
            decision: Some(Decision::Denied),
            outcome: Some(why.to_owned()),
            ..Event::default()
        };
        match self.audit(event).await {
            Ok(()) => Answer::new(guest, why).into(),
            Err(error) => error,
        }
    }

    /// Audits what the vault's failure came to, and makes the component's answer.
    async fn failed(&self, places: &[(usize, Facts)], error: &VaultError) -> RequestError {
        let written: &[SecretName] = match error {
            VaultError::Partial { written, .. } => written,
            _ => &[],
        };
        let audited = try_join_all(places.iter().map(|(_, facts)| {
            let outcome = if written.contains(&facts.stored) { "done" } else { error.kind() };
            self.audit(Event { event: Kind::Outcome, outcome: Some(outcome.to_owned()), ..self.about(facts) })
        }))
        .await;
        match error {
            // A component's own affair, which it is told.
            VaultError::NotFound(_) | VaultError::Disabled(_) => {}
            error => tracing::warn!(run = %self.run, %error, "the vault did not serve a run"),
        }
        if let Err(error) = audited {
            return error;
        }
        if !written.is_empty() || matches!(error, VaultError::Partial { .. }) {
            let names = places.iter().filter(|(_, facts)| written.contains(&facts.stored));
            let names = names.map(|(_, facts)| facts.asked.to_string()).collect();
            return Answer::new(GuestError::Partial(names), error.to_string()).into();
        }
        let concerned = match error {
            VaultError::NotFound(name) | VaultError::Disabled(name) | VaultError::Conflict { name, .. } => Some(name),
            _ => None,
        };
        let asked = places.iter().find(|(_, facts)| Some(&facts.stored) == concerned).or(places.first());
        from_vault(asked.map_or("", |(_, facts)| facts.asked.as_str()), error).into()
    }

    /// What the run already holds of this secret; counts the repeated read.
    fn held_value(&self, facts: &Facts) -> Option<(Arc<Secret>, Description)> {
        let mut state = self.state();
        let held = state.held.get_mut(&facts.stored)?;
        let value = held.value.clone()?;
        if facts.pin.as_ref().is_some_and(|pin| *pin != held.description.version) {
            return None;
        }
        let description = held.description.clone();
        if self.broker.repeats == Repeats::Sum {
            held.repeats = held.repeats.saturating_add(1);
        }
        drop(state);
        self.served(facts.asked.as_str(), Operation::Get);
        Some((value, description))
    }

    /// Narrows a grant to the version that the run has seen.
    fn pinned(&self, grant: Grant) -> Grant {
        let version = self.state().held.get(grant.stored()).map(|held| held.description.version.clone());
        match version {
            Some(version) => grant.at_version(version),
            None => grant,
        }
    }

    /// Registers a value with the redactor, remembers it for the run, and lets it go. The last step of the order.
    fn hand_out(&self, facts: &Facts, stored: Stored) -> Result<Arc<Secret>, RequestError> {
        self.watch(facts, &stored.value)?;
        self.served(facts.asked.as_str(), Operation::Get);
        let value = Arc::clone(&stored.value);
        let mut state = self.state();
        state.held.insert(
            facts.stored.clone(),
            Held { description: stored.description, value: Some(stored.value), repeats: 0 },
        );
        Ok(value)
    }

    /// From now on the run's output is searched for this value. One that the redactor has no room for is not handed out.
    fn watch(&self, facts: &Facts, value: &Secret) -> Result<(), RequestError> {
        if !self.redactor.has_room(value) {
            let guest = GuestError::Exhausted("this run has handled as much secret text as one run may".to_owned());
            return Err(Answer::new(guest, "the redactor is full").into());
        }
        self.redactor.register(&facts.asked, value);
        Ok(())
    }

    /// Whether a secret may be used at this moment: a vault may serve one that is disabled, not yet valid or expired (Key Vault
    /// documents its dates as informational).
    fn usable(&self, description: &Description) -> Result<(), &'static str> {
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

    /// Guest text as it may stand in the audit and the record: redacted, then escaped, then short.
    fn shown(&self, text: &str) -> String {
        let text = escape_controls(&self.redactor.redact(text));
        match text.char_indices().nth(160) {
            Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text,
        }
    }

    /// The same for a name that was folded: in the spelling in which it was asked for, where that one holds a value.
    fn shown_name(&self, name: &str) -> String {
        let spelled = SecretName::parse(name).ok().and_then(|name| self.state().spelled.get(&name).cloned());
        spelled.unwrap_or_else(|| self.shown(name))
    }

    fn about(&self, facts: &Facts) -> Event {
        let mut event = self.naming(facts.operation, &facts.stored);
        if facts.asked != facts.stored {
            event.asked = Some(self.shown_name(facts.asked.as_str()));
        }
        event
    }

    /// An event about a name. A value can have the form of a name, so a name that holds one the run was given is written redacted.
    pub(super) fn naming(&self, operation: Operation, name: &SecretName) -> Event {
        let shown = self.shown_name(name.as_str());
        let whole = shown == name.as_str();
        Event {
            run: Some(self.run),
            operation: Some(operation.as_str().to_owned()),
            secret: whole.then(|| name.clone()),
            asked: (!whole).then_some(shown),
            ..Event::default()
        }
    }

    /// Counts a request that was served.
    fn served(&self, name: &str, operation: Operation) {
        let shown = self.shown_name(name);
        self.state().ledger.served(&shown, operation);
    }

    fn decided(&self, kind: Kind, facts: &Facts) -> Event {
        Event { event: kind, decision: Some(Decision::Allowed), rule: Some(facts.rule.clone()), ..self.about(facts) }
    }

    async fn audit(&self, event: Event) -> Result<(), RequestError> {
        match self.broker.audit.append(event).await {
            Ok(_) => Ok(()),
            Err(error) => {
                // Once for a run: a component can ask as often as its limit allows.
                if !std::mem::replace(&mut self.state().audit_failed, true) {
                    tracing::error!(run = %self.run, %error, "the audit could not be written; requests are refused");
                }
                Err(Answer::new(unavailable_audit(), error.to_string()).into())
            }
        }
    }
}
