//! The choke point: every use of a secret by a run goes through here, in one order.
//!
//! > decide → audit the decision → fetch → audit the outcome → register with the redactor → release
//!
//! - Deciding comes before the cache and before any contact with the vault, for every operation.
//! - A use that the cache answers is one event with decision and outcome, written before release.
//! - A repeated read of a value that the run already holds discloses nothing new: it is decided and counted, and audited in sum at
//!   the end of the run ([`Repeats::Each`] audits every one).
//! - Of refusals, which disclose nothing, those beyond the first thousand of a run are audited in sum ([`REFUSALS_MAX`]).
//! - A batch is decided whole: one name not granted, and the vault is not asked.
//! - Where the audit cannot be written the answer is no.
//!
//! A [`Broker`] serves a process; a [`RunBroker`] is one run's view of it and holds that run's budgets, the versions that it has seen, and
//! its counts. The interface is narrow on purpose, and all that passes through it is text: a sandbox in a process of
//! its own could stand on the other side.

mod error;
mod ledger;
mod meter;
mod network;
mod request;
mod session;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

pub use error::{Answer, GuestError, RequestError};
use ledger::Ledger;
pub use meter::Begun;
pub use meter::Meter;
pub use network::{Contact, DESTINATIONS_MAX};
pub use session::settle;
pub use session::{Ended, Session, SessionError};

use strongroom_audit::{Audit, Decision, Event, Kind};
use strongroom_core::ids::{RunId, SecretName, SecretVersion};
use strongroom_core::record::SecretUse;
use strongroom_core::secret::Secret;
use strongroom_policy::{Decisions, Operation, Policy};
use strongroom_redact::Redactor;
pub use strongroom_vault::Description;
use strongroom_vault::Vault;

/// The most names in a batch.
pub const BATCH_MAX: usize = 256;

/// How many refused requests of a run the audit has an event for, each with the name that was asked for. A hostile component can be refused as often as
/// its limit on requests allows; what is over is written in sum at the end of the run. A refusal discloses nothing, so none of them waits for it.
pub const REFUSALS_MAX: u64 = 1_000;

/// How repeated reads of a value that a run already holds are audited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repeats {
    /// One event for each secret, with the count, at the end of the run.
    #[default]
    Sum,
    /// One event for each read.
    Each,
}

/// The vault and the audit of a process, behind which runs use secrets.
#[derive(Clone)]
pub struct Broker {
    vault: Arc<dyn Vault>,
    /// Which vault it is, for the records of all runs.
    place: Option<Arc<str>>,
    audit: Audit,
    repeats: Repeats,
}

impl Broker {
    /// A broker over a vault and an audit.
    pub fn new(vault: Arc<dyn Vault>, audit: Audit, repeats: Repeats) -> Self {
        let place = vault.address().map(Arc::from);
        Self { vault, place, audit, repeats }
    }

    /// The audit that this broker writes.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// One run's view. Not for embedders: a run begins with [`Broker::start`], which checks the policy's pin and writes the first event.
    /// `requests` is the limit on broker requests: every name of a batch and every denial counts.
    pub fn for_run(&self, run: RunId, policy: Arc<Policy>, redactor: Redactor, requests: u64) -> RunBroker {
        RunBroker {
            broker: self.clone(),
            run,
            decisions: Decisions::new(policy),
            redactor,
            requests,
            state: Mutex::new(State::default()),
            meter: Meter::default(),
            now: Timestamp::now,
        }
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("audit", &self.audit).field("repeats", &self.repeats).finish_non_exhaustive()
    }
}

/// One run's way to secrets.
pub struct RunBroker {
    broker: Broker,
    run: RunId,
    decisions: Decisions,
    redactor: Redactor,
    requests: u64,
    state: Mutex<State>,
    meter: Meter,
    /// The clock: another one in tests.
    now: fn() -> Timestamp,
}

#[derive(Default)]
struct State {
    /// Requests so far, against the limit.
    requests: u64,
    /// What the run knows, by the name that it asks for. A policy has no two ways to one secret, so this is as good as by the name in the vault.
    names: HashMap<SecretName, Known>,
    /// Reads of a value that the run held already, not yet audited, by the name in the vault and the version. Apart from
    /// `names`, because a value that the run deletes or replaces was read all the same.
    repeats: Repeated,
    /// Refusals that have an event of their own.
    refusals: u64,
    /// Those beyond [`REFUSALS_MAX`], not yet audited.
    more_refusals: BTreeMap<Operation, u64>,
    /// [`Session::end`] was called.
    ended: bool,
    ledger: Ledger,
    network: network::Contacts,
    /// Names that were asked for in a spelling which holds a value the run was given, and how they may be shown. Folding a name to lower
    /// case hides the value from the redactor, but not from a reader.
    spelled: HashMap<SecretName, String>,
    /// Whether the log says already that the audit cannot be written.
    audit_failed: bool,
}

/// What a run knows of a name.
#[derive(Default)]
struct Known {
    /// A secret was found there that this run had not written.
    found: bool,
    /// This run has written the secret, or tried to.
    written: bool,
    held: Option<Held>,
}

/// What a run has seen of a secret: from then on it sees this version and no other.
struct Held {
    description: Description,
    value: Option<Arc<Secret>>,
}

type Repeated = BTreeMap<(SecretName, SecretVersion), u64>;

impl State {
    /// Remembers what a run has seen of a secret, and replaces what it had seen before.
    fn hold(&mut self, asked: &SecretName, held: Held) {
        self.names.entry(asked.clone()).or_default().held = Some(held);
    }

    /// Forgets what is held of a secret: it has changed, or may have.
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
    /// The run.
    pub fn run_id(&self) -> RunId {
        self.run
    }

    /// What measures where the run's time goes.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The run's redactor.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Ends the run's use of secrets: audits in sum the repeated reads, and the refusals beyond [`REFUSALS_MAX`].
    ///
    /// # Errors
    /// [`strongroom_audit::AuditError`] where the audit cannot be written.
    pub async fn finish(&self) -> Result<(), strongroom_audit::AuditError> {
        let (repeated, refused) = {
            let mut state = self.state();
            (std::mem::take(&mut state.repeats), std::mem::take(&mut state.more_refusals))
        };
        // Naming looks at the state again.
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
            let begun = self.meter.begin();
            let appended = self.broker.audit.put(&event).await;
            self.meter.audited(begun);
            appended?;
        }
        Ok(())
    }

    /// The uses so far, for the run record.
    pub fn uses(&self) -> Vec<SecretUse> {
        self.state().ledger.uses()
    }

    /// The state stays whole between statements, so that a panic elsewhere while it was locked has not broken it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
