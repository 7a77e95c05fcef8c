//! The requests of a run, each in the order that the crate documentation states.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::error::from_vault;
use super::release::WITHHELD;
use super::{Answer, GuestError, Held, Repeats, RequestError, RunBroker};
use strongroom_audit::{Decision, Event, Kind};
use strongroom_core::secret::{Secret, VALUE_MAX};
use strongroom_policy::{Grant, Operation};
use strongroom_vault::{Description, Missing, Stored, VaultError};

/// The result of a look-up without the vault.
enum AtHand {
    /// The value, or `None` if no such secret is available.
    Answer(Option<Arc<Secret>>),
    /// The vault must be asked.
    Missing(Grant),
}

impl RunBroker {
    /// Returns the value of a secret.
    ///
    /// # Errors
    /// [`RequestError`]: an error for the component, or the end of the run.
    pub async fn get(&self, name: &str) -> Result<Arc<Secret>, RequestError> {
        let grant = self.grant(Operation::Get, name).await?;
        let name = grant.asked().clone();
        let value = match self.at_hand(grant).await? {
            AtHand::Answer(value) => value,
            // Boxed because this future is much larger than the code before it, which usually
            // suffices.
            AtHand::Missing(grant) => Box::pin(self.ask(vec![(0, grant)])).await?.pop().and_then(|(_, value)| value),
        };
        let not_found =
            || Answer::new(GuestError::NotFound(name.to_string()), format!("no usable secret named `{name}`"));
        value.ok_or_else(|| not_found().into())
    }

    /// Returns the values of several secrets, in order; `None` for a granted name without a secret.
    ///
    /// # Errors
    /// [`RequestError`]: an error for the component, or the end of the run.
    pub async fn get_many(&self, names: &[String]) -> Result<Vec<Option<Arc<Secret>>>, RequestError> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let names = self.admit(Operation::Get, &names, true).await?;
        let grants = self.decide(Operation::Get, &names).await?;
        let mut answers: Vec<Option<Arc<Secret>>> = Vec::with_capacity(grants.len());
        let mut missing = Vec::new();
        for grant in grants {
            match self.at_hand(grant).await? {
                AtHand::Answer(value) => answers.push(value),
                AtHand::Missing(grant) => {
                    missing.push((answers.len(), grant));
                    answers.push(None);
                }
            }
        }
        for (place, value) in self.ask(missing).await? {
            if let Some(answer) = answers.get_mut(place) {
                *answer = value;
            }
        }
        Ok(answers)
    }

    /// Serves a read from the values that the run holds, or from the cache.
    async fn at_hand(&self, grant: Grant) -> Result<AtHand, RequestError> {
        if let Some((value, description)) = self.held_value(&grant) {
            if self.broker.repeats == Repeats::Each {
                let event = Event {
                    outcome: Some("released again".into()),
                    version: Some(description.version),
                    ..self.decided(Kind::Use, &grant)
                };
                self.audit(event).await?;
            }
            return Ok(AtHand::Answer(Some(value)));
        }
        let grant = self.pinned(grant);
        match self.broker.vault.cached(&grant) {
            Some(answer) => Ok(AtHand::Answer(self.release_cached(&grant, answer).await?)),
            None => Ok(AtHand::Missing(grant)),
        }
    }

    /// Asks the vault for granted names, each with its position in the request, and releases the
    /// values.
    async fn ask(&self, missing: Vec<(usize, Grant)>) -> Result<Vec<(usize, Option<Arc<Secret>>)>, RequestError> {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let (positions, grants): (Vec<usize>, Vec<Grant>) = missing.into_iter().unzip();
        try_join_all(grants.iter().map(|grant| self.audit(self.decided(Kind::Decision, grant)))).await?;
        let fetched = match self.fetch(&grants).await {
            Ok(fetched) => fetched,
            Err(error) => return Err(self.failed(&grants, &error).await),
        };
        if fetched.len() != grants.len() {
            let error =
                VaultError::Damaged("the vault answered another number of secrets than it was asked for".into());
            return Err(self.failed(&grants, &error).await);
        }
        // Each answer is judged once, with one reading of the clock, so that what is released
        // matches the audit log.
        let judged: Vec<_> =
            fetched.into_iter().map(|stored| stored.map(|stored| (self.usable(&stored.description), stored))).collect();
        for (grant, judged) in grants.iter().zip(&judged) {
            if matches!(judged, Ok((Ok(()), _))) {
                self.found(grant);
            }
        }
        let outcomes = grants.iter().zip(&judged).map(|(grant, judged)| {
            let mut event = Event { event: Kind::Outcome, ..self.about(grant) };
            match judged {
                Ok((usable, stored)) => {
                    event.version = Some(stored.description.version.clone());
                    event.outcome = Some(usable.err().unwrap_or("released").into());
                    if stored.stale {
                        event.detail.insert("cache".into(), "overdue: the vault cannot be reached".into());
                    }
                }
                Err(missing) => event.outcome = Some(missing.kind().into()),
            }
            self.audit(event)
        });
        try_join_all(outcomes).await?;
        let mut answers = Vec::with_capacity(grants.len());
        for ((position, grant), judged) in positions.into_iter().zip(&grants).zip(judged) {
            let value = match judged {
                Ok((Ok(()), stored)) => Some(self.hand_out(grant, stored).await?),
                _ => None,
            };
            answers.push((position, value));
        }
        Ok(answers)
    }

    /// Reads one secret with [`Vault::get`](strongroom_vault::Vault::get), or several in one batch.
    async fn fetch(&self, grants: &[Grant]) -> Result<Vec<Result<Stored, Missing>>, VaultError> {
        match grants {
            [grant] => Ok(vec![Missing::separate(self.ask_vault(self.broker.vault.get(grant)).await)?]),
            grants => self.ask_vault(self.broker.vault.get_many(grants)).await,
        }
    }

    /// Releases a value from the cache after one event with decision and outcome.
    async fn release_cached(
        &self,
        grant: &Grant,
        answer: Result<Stored, VaultError>,
    ) -> Result<Option<Arc<Secret>>, RequestError> {
        // Judged once, with one reading of the clock, as in `ask`.
        let judged = answer.map(|stored| (self.usable(&stored.description), stored));
        if matches!(judged, Ok((Ok(()), _))) {
            self.found(grant);
        }
        let mut event = self.decided(Kind::Use, grant);
        event.detail.insert("cache".into(), "hit".into());
        let (stored, outcome) = match judged {
            Ok((usable, stored)) => {
                event.version = Some(stored.description.version.clone());
                match usable {
                    Ok(()) => (Some(stored), "released"),
                    Err(why) => (None, why),
                }
            }
            Err(error @ (VaultError::NotFound(_) | VaultError::Disabled(_))) => (None, error.kind()),
            Err(error) => {
                event.outcome = Some("failed".into());
                self.audit(event).await?;
                return Err(from_vault(grant.asked().as_str(), &error).into());
            }
        };
        event.outcome = Some(outcome.into());
        self.audit(event).await?;
        match stored {
            Some(stored) => Ok(Some(self.hand_out(grant, stored).await?)),
            None => Ok(None),
        }
    }

    /// Stores one value.
    ///
    /// # Errors
    /// [`RequestError`]: an error for the component, or the end of the run.
    pub async fn set(&self, name: &str, value: String) -> Result<(), RequestError> {
        self.set_batch(vec![(name.to_owned(), value)], false).await
    }

    /// Stores several values: all or none if the vault is transactional.
    ///
    /// # Errors
    /// [`RequestError`]: an error for the component, or the end of the run.
    pub async fn set_many(&self, secrets: Vec<(String, String)>) -> Result<(), RequestError> {
        self.set_batch(secrets, true).await
    }

    async fn set_batch(&self, secrets: Vec<(String, String)>, batch: bool) -> Result<(), RequestError> {
        // Make the values zeroizing before anything can fail, so that an early return leaves no
        // copy behind.
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
        let bytes = secrets.iter().fold(0, |sum: u64, value| sum.saturating_add(value.len() as u64));
        self.count_written(bytes, grants.len() as u64).await?;
        // Register before the first event, so that no event contains a value as a name, and no
        // value is in the vault without being redacted.
        for (grant, value) in grants.iter().zip(&secrets) {
            if let Err(guest) = self.register(grant, value).await {
                let shown = self.shown_name(grant.asked().as_str()).into_owned();
                return Err(self.refuse_unasked(Operation::Set, &shown, WITHHELD, guest).await);
            }
        }
        for grant in &grants {
            self.refuse_value_as_name(grant).await?;
        }
        try_join_all(grants.iter().map(|grant| self.audit(self.decided(Kind::Decision, grant)))).await?;
        {
            let mut state = self.state();
            grants.iter().for_each(|grant| state.names.entry(grant.asked().clone()).or_default().written = true);
        }
        let pairs: Vec<(Grant, Arc<Secret>)> = grants.iter().cloned().zip(secrets.iter().cloned()).collect();
        let written = match self.ask_vault(self.broker.vault.set_many(&pairs)).await {
            Ok(written) => written,
            Err(error) => return Err(self.failed(&grants, &error).await),
        };
        for ((grant, value), description) in grants.iter().zip(secrets).zip(&written) {
            self.served(grant.asked().as_str(), Operation::Set);
            let held = Held { description: description.clone(), value: Some(value) };
            self.state().hold(grant.asked(), held);
        }
        try_join_all(grants.iter().zip(&written).map(|(grant, description)| {
            self.audit(Event {
                event: Kind::Outcome,
                outcome: Some("written".into()),
                version: Some(description.version.clone()),
                ..self.about(grant)
            })
        }))
        .await?;
        Ok(())
    }

    /// Describes a secret without its value.
    ///
    /// # Errors
    /// [`RequestError`]: an error for the component, or the end of the run.
    pub async fn describe(&self, name: &str) -> Result<Description, RequestError> {
        let grant = self.grant(Operation::Describe, name).await?;
        let grant = self.pinned(grant);
        self.audit(self.decided(Kind::Decision, &grant)).await?;
        let answer =
            self.ask_vault(self.broker.vault.describe(&grant)).await.inspect_err(|error| self.tell_operator(error));
        let (outcome, version, answer) = match answer {
            Ok(description) => match self.usable(&description) {
                Ok(()) => ("described", Some(description.version.clone()), Ok(description)),
                Err(why) => {
                    let guest = GuestError::NotFound(grant.asked().to_string());
                    (why, Some(description.version), Err(Answer::new(guest, why)))
                }
            },
            Err(error) => (error.kind(), None, Err(from_vault(grant.asked().as_str(), &error))),
        };
        self.audit(Event { event: Kind::Outcome, outcome: Some(outcome.into()), version, ..self.about(&grant) })
            .await?;
        let description = answer?;
        self.served(grant.asked().as_str(), Operation::Describe);
        let mut state = self.state();
        let known = state.names.entry(grant.asked().clone()).or_default();
        let seen = description.clone();
        known.held.get_or_insert_with(|| Held { description: seen, value: None });
        Ok(description)
    }

    /// Returns the names that exist and may be listed.
    ///
    /// # Errors
    /// [`RequestError`]: an error for the component, or the end of the run.
    pub async fn list(&self) -> Result<Vec<String>, RequestError> {
        self.count(Operation::List, 1).await?;
        let grant = match self.decisions.decide_list((self.now)()) {
            Ok(grant) => grant,
            Err(refusal) => return Err(self.refused(Operation::List, refusal).await),
        };
        let about = Event { run: Some(self.run), operation: Some(Operation::List.as_str().into()), ..Event::default() };
        self.audit(Event {
            event: Kind::Decision,
            decision: Some(Decision::Allowed),
            rule: Some(grant.rule().into()),
            ..about.clone()
        })
        .await?;
        let answer =
            self.ask_vault(self.broker.vault.list(&grant)).await.inspect_err(|error| self.tell_operator(error));
        let (outcome, count) = match &answer {
            Ok(names) => ("listed", Some(names.len() as u64)),
            Err(error) => (error.kind(), None),
        };
        self.audit(Event { event: Kind::Outcome, outcome: Some(outcome.into()), count, ..about }).await?;
        let names = answer.map_err(|error| from_vault("*", &error))?;
        self.served("*", Operation::List);
        Ok(names.into_iter().map(String::from).collect())
    }

    /// Deletes one secret.
    ///
    /// # Errors
    /// [`RequestError`]: an error for the component, or the end of the run.
    pub async fn delete(&self, name: &str) -> Result<(), RequestError> {
        self.delete_batch(&[name], false).await
    }

    /// Deletes several secrets: all or none if the vault is transactional.
    ///
    /// # Errors
    /// [`RequestError`]: an error for the component, or the end of the run.
    pub async fn delete_many(&self, names: &[String]) -> Result<(), RequestError> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.delete_batch(&names, true).await
    }

    async fn delete_batch(&self, names: &[&str], batch: bool) -> Result<(), RequestError> {
        let names = self.admit(Operation::Delete, names, batch).await?;
        let grants = self.decide(Operation::Delete, &names).await?;
        try_join_all(grants.iter().map(|grant| self.audit(self.decided(Kind::Decision, grant)))).await?;
        if let Err(error) = self.ask_vault(self.broker.vault.delete_many(&grants)).await {
            return Err(self.failed(&grants, &error).await);
        }
        for grant in &grants {
            self.served(grant.asked().as_str(), Operation::Delete);
            self.state().forget(grant.asked());
        }
        try_join_all(grants.iter().map(|grant| {
            self.audit(Event { event: Kind::Outcome, outcome: Some("deleted".into()), ..self.about(grant) })
        }))
        .await?;
        Ok(())
    }
}
