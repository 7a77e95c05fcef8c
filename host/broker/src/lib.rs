//! The choke point: every use of a secret by a run passes through this crate, in one order.
//!
//! > decide → audit the decision → fetch → audit the outcome → register with the redactor → release
//!
//! - The decision precedes the cache and any contact with the vault, for every operation.
//! - A use that the cache answers is one event with decision and outcome, written before release.
//! - A repeated read of a value that the run already holds discloses nothing new. It is decided and
//!   counted, and audited as a total at the end of the run ([`Repeats::Each`] audits every one).
//! - Refusals disclose nothing. Those beyond the first thousand of a run are audited as a total
//!   ([`REFUSALS_MAX`]).
//! - A batch is decided as a whole: if one name is not granted, the vault is not asked.
//! - If the audit log cannot be written, the request is refused.
//!
//! A [`Broker`] serves a process. A [`RunBroker`] is one run's view of it and holds that run's
//! request count, the versions that it has seen, and its counts of uses. The interface is narrow by
//! design and passes only text, so a sandbox in a separate process could use it.

mod admission;
mod error;
mod events;
mod ledger;
mod network;
mod refusal;
mod release;
mod request;
mod session;
#[cfg(test)]
mod tests;
mod timer;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

pub use error::{Answer, GuestError, RequestError};
use ledger::Ledger;
pub use network::{Contact, DESTINATIONS_MAX};
pub use session::settle;
pub use session::{Ended, Session, SessionError};
pub use timer::Timer;

use strongroom_audit::{Audit, Decision, Event, Kind};
use strongroom_core::ids::{RunId, SecretName, SecretVersion};
use strongroom_core::record::SecretUse;
use strongroom_core::secret::Secret;
use strongroom_policy::{Decisions, Limits, Operation, Policy};
use strongroom_redact::Redactor;
pub use strongroom_vault::Description;
use strongroom_vault::Vault;

/// The maximum of names in a batch.
pub const BATCH_MAX: usize = 256;

/// How many refused requests of a run have an audit event, each with the requested name. A hostile
/// component can be refused as often as its request limit allows; further refusals are written as a
/// total at the end of the run. A refusal discloses nothing, so no refusal need wait for its event.
pub const REFUSALS_MAX: u64 = 1_000;

/// How repeated reads of a value that a run already holds are audited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repeats {
    /// One event per secret, with the count, at the end of the run.
    #[default]
    Sum,
    /// One event per read.
    Each,
}

/// The vault and the audit log of a process, through which runs use secrets.
#[derive(Clone)]
pub struct Broker {
    vault: Arc<dyn Vault>,
    /// The vault's address, for the records of all runs.
    place: Option<Arc<str>>,
    audit: Audit,
    repeats: Repeats,
}

impl Broker {
    /// Returns a broker for a vault and an audit log.
    pub fn new(vault: Arc<dyn Vault>, audit: Audit, repeats: Repeats) -> Self {
        let place = vault.address().map(Arc::from);
        Self { vault, place, audit, repeats }
    }

    /// Returns the audit log that this broker writes.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Returns one run's view. Embedders use [`Broker::start`] instead, which checks the policy's
    /// pin and writes the first event. Of the limits, `requests` and `secret_bytes` apply here.
    pub fn for_run(&self, run: RunId, policy: Arc<Policy>, redactor: Redactor, limits: &Limits) -> RunBroker {
        RunBroker {
            broker: self.clone(),
            run,
            decisions: Decisions::new(policy),
            redactor,
            requests: limits.requests,
            secret_bytes: limits.secret_bytes,
            state: Mutex::new(State::default()),
            timer: Timer::start(),
            now: Timestamp::now,
        }
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("audit", &self.audit).field("repeats", &self.repeats).finish_non_exhaustive()
    }
}

/// The broker of one run.
pub struct RunBroker {
    broker: Broker,
    run: RunId,
    decisions: Decisions,
    redactor: Redactor,
    requests: u64,
    secret_bytes: u64,
    state: Mutex<State>,
    timer: Timer,
    /// The clock, which tests replace.
    now: fn() -> Timestamp,
}

#[derive(Default)]
struct State {
    /// Requests so far, counted against the limit.
    requests: u64,
    /// Bytes of the values that the run wrote or tried to write, counted against the limit.
    secret_bytes: u64,
    /// The run's knowledge of each secret, by the name that it asks for. Within a policy only one
    /// such name leads to a secret, so this is equivalent to the name in the vault.
    names: HashMap<SecretName, Known>,
    /// Repeated reads that are not yet audited, by the name in the vault and the version. They are
    /// separate from `names`, because a value that the run deletes or replaces was read
    /// nevertheless.
    repeats: Repeated,
    /// Refusals that have their own event.
    refusals: u64,
    /// Refusals beyond [`REFUSALS_MAX`], not yet audited.
    more_refusals: BTreeMap<Operation, u64>,
    /// Whether [`Session::end`] was called.
    ended: bool,
    ledger: Ledger,
    network: network::Contacts,
    /// Names that were requested in a spelling that contains a value the run was given, each with
    /// the text to show. Folding a name to lower case hides the value from the redactor, but not
    /// from a reader.
    spelled: HashMap<SecretName, String>,
    /// Whether an audit failure has already been logged.
    audit_failed: bool,
    /// Why the first event that could not be written could not be.
    audit_failure: Option<String>,
}

/// A run's knowledge of a name.
#[derive(Default)]
struct Known {
    /// Whether a secret was found that this run had not written.
    found: bool,
    /// Whether this run has written the secret, or tried to.
    written: bool,
    held: Option<Held>,
}

/// A run's view of a secret: after the first read it sees only this version.
struct Held {
    description: Description,
    value: Option<Arc<Secret>>,
}

type Repeated = BTreeMap<(SecretName, SecretVersion), u64>;

impl State {
    /// Records what a run has seen of a secret, replacing what it had seen before.
    fn hold(&mut self, asked: &SecretName, held: Held) {
        self.names.entry(asked.clone()).or_default().held = Some(held);
    }

    /// Forgets what the run holds of a secret, because it has changed or may have changed.
    fn forget(&mut self, asked: &SecretName) {
        if let Some(known) = self.names.get_mut(asked) {
            known.held = None;
        }
    }

    fn held(&self, asked: &SecretName) -> Option<&Held> {
        self.names.get(asked)?.held.as_ref()
    }
}

impl fmt::Debug for RunBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunBroker").field("run", &self.run).finish_non_exhaustive()
    }
}

impl RunBroker {
    /// Returns the run's ID.
    pub fn run_id(&self) -> RunId {
        self.run
    }

    /// Returns the timer of the run.
    pub fn timer(&self) -> &Timer {
        &self.timer
    }

    /// Returns the run's redactor.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Ends the run's use of secrets. Audits the totals of repeated reads and of refusals beyond
    /// [`REFUSALS_MAX`].
    ///
    /// # Errors
    /// [`strongroom_audit::AuditError`] if the audit log cannot be written.
    pub async fn finish(&self) -> Result<(), strongroom_audit::AuditError> {
        let (repeated, refused) = {
            let mut state = self.state();
            (std::mem::take(&mut state.repeats), std::mem::take(&mut state.more_refusals))
        };
        // `naming` locks the state, so the lock must be released first.
        let mut events: Vec<Event> = repeated
            .into_iter()
            .map(|((name, version), count)| Event {
                event: Kind::Repeats,
                version: Some(version),
                count: Some(count),
                ..self.naming(Operation::Get, &name)
            })
            .collect();
        events.extend(refused.into_iter().map(|(operation, count)| Event {
            event: Kind::Summary,
            run: Some(self.run),
            operation: Some(operation.as_str().into()),
            decision: Some(Decision::Denied),
            outcome: Some("refused as well".into()),
            count: Some(count),
            ..Event::default()
        }));
        for event in events {
            self.append(&event).await?;
        }
        Ok(())
    }

    /// Appends an event to the audit log. The run remembers a failure, whatever follows.
    async fn append(&self, event: &Event) -> Result<(), strongroom_audit::AuditError> {
        let written = self.timer.separately(|timings| &mut timings.audit, self.broker.audit.put(event)).await;
        if let Err(error) = &written {
            self.remember_audit_failure(error.to_string());
        }
        written
    }

    fn remember_audit_failure(&self, cause: String) {
        self.state().audit_failure.get_or_insert(cause);
    }

    /// Waits for the vault and measures the time.
    async fn ask_vault<T>(&self, work: impl Future<Output = T>) -> T {
        self.timer.separately(|timings| &mut timings.secrets, work).await
    }

    /// Returns the uses so far, for the run record.
    pub fn uses(&self) -> Vec<SecretUse> {
        self.state().ledger.uses()
    }

    /// Ignoring poisoning is sound: the state is consistent between statements, so a panic
    /// elsewhere under the lock has not corrupted it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
