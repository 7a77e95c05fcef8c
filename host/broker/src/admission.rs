//! Admission of requests: counting, checking the form and deciding.

use std::collections::HashSet;

use strongroom_audit::{Decision, Event, Kind};
use strongroom_core::ids::SecretName;
use strongroom_core::record::Limit;
use strongroom_policy::{Grant, Operation};

use super::error::unavailable_audit;
use super::{Answer, BATCH_MAX, GuestError, RequestError, RunBroker};

impl RunBroker {
    /// Counts `n` requests against the limit.
    pub(super) async fn count(&self, operation: Operation, n: u64) -> Result<(), RequestError> {
        let total = {
            let mut state = self.state();
            if state.ended {
                return Err(Answer::new(unavailable_audit(), "the run has ended").into());
            }
            state.requests = state.requests.saturating_add(n);
            state.requests
        };
        if total <= self.requests { Ok(()) } else { Err(self.stop(operation, Limit::Requests, n).await) }
    }

    /// Counts the bytes of values that are about to be written, `names` in number, against the
    /// limit.
    pub(super) async fn count_written(&self, bytes: u64, names: u64) -> Result<(), RequestError> {
        let total = {
            let mut state = self.state();
            state.secret_bytes = state.secret_bytes.saturating_add(bytes);
            state.secret_bytes
        };
        if total <= self.secret_bytes {
            return Ok(());
        }
        Err(self.stop(Operation::Set, Limit::SecretBytes, names).await)
    }

    /// Audits that `n` requests exceeded a limit, and returns the error that stops the run.
    async fn stop(&self, operation: Operation, limit: Limit, n: u64) -> RequestError {
        // The request is refused in any case, so a failure to write this event changes nothing.
        let _ = self
            .audit(Event {
                event: Kind::Summary,
                run: Some(self.run),
                operation: Some(operation.as_str().into()),
                decision: Some(Decision::Denied),
                rule: Some(format!("limits.{}", limit.as_str()).into()),
                outcome: Some("stopped at the limit".into()),
                count: Some(n),
                ..Event::default()
            })
            .await;
        RequestError::Stop(limit)
    }

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
}
