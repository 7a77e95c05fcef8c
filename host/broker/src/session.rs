//! The lifecycle of one run, from its first audit event to its record.
//!
//! A [`Session`] accompanies a run wherever its component is executed: in the `Runner` of the crate
//! `strongroom`, in an embedder's own WebAssembly world, or in another sandbox. It binds component,
//! policy and specification in the run's first event before any secret can be requested, and turns
//! the run's outcome into the last event and the [`RunRecord`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Broker, RunBroker, Timer};
use strongroom_audit::{AuditError, Event, Kind};
use strongroom_core::ids::RunId;
use strongroom_core::record::{Blame, ComponentRef, FORMAT, Limit, LogCount, Outcome, RunRecord};
use strongroom_core::spec::RunSpec;
use strongroom_policy::{Ceilings, Limits, PinMismatch, Policy, PolicyError, show_duration, show_size};
use strongroom_redact::Redactor;

/// How a run ended, as its executor saw it. [`Session::end`] translates it for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The component ended with success.
    Finished,
    /// The component ended with failure, or trapped.
    Failed {
        /// Its exit code, if it exited with one.
        exit_code: Option<i32>,
        /// The reason as text. Words of the component in it are redacted and escaped.
        reason: String,
    },
    /// The component needs something that is not linked; no guest code ran.
    Refused(String),
    /// The run was stopped at a limit.
    Limit(Limit),
    /// The run was cancelled from outside.
    Cancelled,
    /// The host failed.
    HostFault(String),
}

impl Ended {
    /// Returns the end of a run whose audit log cannot be written.
    pub fn audit_fault(error: &AuditError) -> Self {
        Self::HostFault(format!("the audit could not be written: {error}"))
    }
}

/// Why a session did not start. No secret can have been used.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The policy is for another component.
    #[error(transparent)]
    Pin(#[from] PinMismatch),
    /// The policy exceeds the host's ceilings.
    #[error(transparent)]
    Ceiling(#[from] PolicyError),
    /// The first event cannot be written.
    #[error("the run cannot be audited, so it was not started: {0}")]
    Audit(#[source] AuditError),
}

/// A run that has begun. [`Session::end`] ends it. If it is dropped instead, the audit log contains
/// only the run's beginning.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
///
/// use strongroom_audit::{Audit, SyncMode};
/// use strongroom_broker::{Broker, Ended, Repeats};
/// use strongroom_core::ids::Digest;
/// use strongroom_policy::{Ceilings, Policy};
/// use strongroom_core::record::{ComponentRef, Outcome};
/// use strongroom_core::spec::RunSpec;
/// use strongroom_vault::local::{LocalVault, Protection};
///
/// let home = tempfile::tempdir()?;
/// let vault = LocalVault::create(&home.path().join("vault"), Protection::KeyFile)?;
/// let audit = Audit::open(&home.path().join("audit"), SyncMode::Always)?;
/// let broker = Broker::new(Arc::new(vault), audit.clone(), Repeats::Sum);
///
/// let spec = RunSpec::new("job.bin");
/// let component = ComponentRef::new(&spec.component, Digest::of(b"what runs"), 9);
/// let policy = Arc::new(Policy::parse("version = 1\n[secrets]\nmodel-key = ['set']\n", "policy")?);
/// let session = broker.start(&spec, component, policy, &Ceilings::default()).await?;
///
/// // Whatever the sandbox is: what it asks for goes through here, and what it prints through `session.broker().redactor()`.
/// session.broker().set("model-key", "correct horse battery".to_owned()).await?;
/// let refused = session.broker().get("model-key").await.unwrap_err();
/// assert_eq!(refused.to_string(), "denied: model-key");
///
/// let record = session.end(Ended::Finished).await;
/// assert_eq!((record.outcome, record.secrets.len()), (Outcome::Finished, 2));
/// audit.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a run ends with `Session::end`, which writes its last event and makes its record"]
pub struct Session {
    broker: Arc<RunBroker>,
    policy: Arc<Policy>,
    limits: Limits,
    record: RunRecord,
}

impl Broker {
    /// Begins a run. Checks that the policy is for this component and within the ceilings, assigns
    /// the run ID, and writes the first event, which binds the digests of component, policy and
    /// specification.
    ///
    /// Only the digest of `spec` is used, so a specification that names only the component is
    /// enough.
    ///
    /// # Errors
    /// [`SessionError`]. The run has then not begun.
    pub async fn start(
        &self,
        spec: &RunSpec,
        component: ComponentRef,
        policy: Arc<Policy>,
        ceilings: &Ceilings,
    ) -> Result<Session, SessionError> {
        policy.check_component(&component.digest)?;
        let limits = policy.limits_under(ceilings)?;
        let session = Session::prepare(self, spec, component, policy, limits, Timer::start());
        session.begin().await.map_err(SessionError::Audit)?;
        Ok(session)
    }
}

impl Session {
    /// Returns a session whose first event is still to be written. The runner uses this because it
    /// writes the run's record before that event. The caller has checked pin and ceilings.
    pub fn prepare(
        broker: &Broker,
        spec: &RunSpec,
        component: ComponentRef,
        policy: Arc<Policy>,
        limits: Limits,
        timer: Timer,
    ) -> Self {
        let record = new_record(broker, spec, component, &policy);
        let mut run = broker.for_run(record.id, Arc::clone(&policy), Redactor::new(), &limits);
        run.timer = timer;
        Self { broker: Arc::new(run), policy, limits, record }
    }

    /// Stores the policy's text and writes the first event, which binds component, policy and
    /// specification.
    pub async fn begin(&self) -> Result<(), AuditError> {
        let (record, audit) = (&self.record, &self.broker.broker.audit);
        audit.keep_policy(&record.policy, self.policy.text())?;
        let detail = [
            ("component", Some(record.component.digest.to_string())),
            ("policy", Some(record.policy.to_string())),
            ("spec", Some(record.spec.to_string())),
            ("uid", Some(rustix::process::getuid().as_raw().to_string())),
            ("vault", record.vault.clone()),
        ];
        let detail = detail.into_iter().filter_map(|(name, value)| Some((name.into(), value?.into()))).collect();
        let event = Event { event: Kind::RunStart, run: Some(record.id), detail, ..Event::default() };
        self.broker.append(&event).await
    }

    /// Writes the event that this number of outputs is about to be published. It is durable, as far
    /// as the audit log requires it, before the outputs are moved.
    ///
    /// # Errors
    /// [`Ended::HostFault`] if this event, or an earlier one of the run, could not be written. The
    /// outputs must then be discarded.
    pub async fn announce_outputs(&self, count: u64) -> Result<(), Ended> {
        let event = Event { event: Kind::Publish, run: Some(self.record.id), count: Some(count), ..Event::default() };
        let written = self.broker.append(&event).await.map_err(|error| Ended::audit_fault(&error));
        // An earlier failure was the cause.
        self.audit_failure().map_or(written, Err)
    }

    fn audit_failure(&self) -> Option<Ended> {
        let cause = self.broker.state().audit_failure.clone()?;
        Some(Ended::HostFault(format!("the audit could not be written: {cause}")))
    }

    /// Returns the run's ID.
    pub fn id(&self) -> RunId {
        self.record.id
    }

    /// Returns the run's broker.
    pub fn broker(&self) -> &Arc<RunBroker> {
        &self.broker
    }

    /// Returns the run's policy.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Returns the limits of the run: the policy's, under the host's ceilings.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the record so far.
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// Returns the record for the fields that only the run's executor knows: memory, CPU time,
    /// metrics, outputs, warnings. Pass text from the component through [`Redactor::sanitize`] first.
    /// [`Session::end`] sets outcome, blame, secrets and times.
    pub fn record_mut(&mut self) -> &mut RunRecord {
        &mut self.record
    }

    /// Ends the run. Audits the total of repeated reads and the run's last event, and returns the
    /// record. If the audit log cannot be written, the record says `host-fault`, whatever the run's
    /// outcome was.
    pub async fn end(self, mut ended: Ended) -> RunRecord {
        // A clone of the broker may still exist. It must not serve requests any more, because no
        // record would contain them.
        self.broker.state().ended = true;
        let _ = self.broker.finish().await;
        ended = self.audit_failure().unwrap_or(ended);
        let Self { broker, limits, mut record, .. } = self;
        record.redactions = broker.redactor().count();
        record.secrets = broker.uses();
        record.network = broker.contacts();
        if let Ended::Limit(limit) = ended
            && record.reason.is_none()
        {
            record.reason = Some(over(limit, &limits));
        }
        settle(&mut record, ended);
        record.ended = Some(Timestamp::now());
        let append = broker.broker.audit.append(end_event(&record));
        match broker.timer.separately(|timings| &mut timings.audit, append).await {
            Ok(position) => record.audit = Some(position),
            Err(error) => settle(&mut record, Ended::audit_fault(&error)),
        }
        record
    }
}

fn new_record(broker: &Broker, spec: &RunSpec, component: ComponentRef, policy: &Policy) -> RunRecord {
    let digest = component.digest;
    let mut warnings = Vec::new();
    // A component that was built for the run has another digest after each change.
    if policy.component().is_none() && !policy.text().is_empty() && spec.source.is_none() {
        warnings
            .push(format!("the policy serves any component: add `component = \"{digest}\"` to serve this one alone"));
    }
    RunRecord {
        format: FORMAT,
        id: RunId::generate(),
        segment: broker.audit().segment().to_owned(),
        component,
        policy: policy.digest(),
        spec: spec.digest(&digest),
        vault: broker.place.as_deref().map(str::to_owned),
        started: Timestamp::now(),
        ended: None,
        outcome: Outcome::Running,
        blame: None,
        reason: None,
        exit_code: None,
        limit: None,
        secrets: Vec::new(),
        network: Vec::new(),
        peak_memory_bytes: 0,
        cpu_micros: 0,
        metrics: BTreeMap::default(),
        text_metrics: BTreeMap::new(),
        logged_tags: BTreeMap::new(),
        logged_parameters: BTreeMap::new(),
        progress: None,
        outputs: Vec::new(),
        outputs_omitted: 0,
        redactions: 0,
        log: LogCount::default(),
        log_failure: None,
        audit: None,
        timings: None,
        warnings,
    }
}

/// Returns a message that says which limit a run exceeded and what an operator can do.
fn over(limit: Limit, limits: &Limits) -> String {
    let (did, allowed) = match limit {
        Limit::Memory => ("took more memory", show_size(limits.memory)),
        Limit::Time => ("ran longer", show_duration(limits.time)),
        Limit::OutputBytes => ("wrote more to `/output`", show_size(limits.output_bytes)),
        Limit::OutputFiles => ("made more files and folders", limits.output_files.to_string()),
        Limit::Requests => ("asked for secrets more often", limits.requests.to_string()),
        Limit::SecretBytes => ("wrote more bytes of secret values", show_size(limits.secret_bytes)),
        Limit::Metrics => ("reported more metrics, tags and progress", limits.metrics.to_string()),
        Limit::Stack => return "it recursed deeper than the engine's stack: no policy changes that".to_owned(),
        Limit::Tables | Limit::HostCall | Limit::Resources | Limit::Compile => {
            return format!("it went over the host's fixed limit on `{}`: no policy changes that", limit.as_str());
        }
    };
    let name = limit.as_str();
    format!("it {did} than `{name}` allows ({allowed}): raise it in the policy's [limits] if the component needs more")
}

/// Sets outcome, blame and reason in the record.
pub fn settle(record: &mut RunRecord, ended: Ended) {
    record.limit = None;
    record.exit_code = None;
    let (outcome, blame, reason) = match ended {
        Ended::Finished => {
            record.exit_code = Some(0);
            (Outcome::Finished, None, None)
        }
        Ended::Failed { exit_code, reason } => {
            record.exit_code = exit_code;
            (Outcome::Failed, Some(Blame::Guest), Some(reason))
        }
        Ended::Refused(reason) => (Outcome::Refused, Some(Blame::Guest), Some(reason)),
        Ended::Limit(limit) => {
            record.limit = Some(limit);
            let reason = record.reason.take().unwrap_or_else(|| format!("stopped at the limit `{}`", limit.as_str()));
            (Outcome::Limit, Some(Blame::Guest), Some(reason))
        }
        Ended::Cancelled => (Outcome::Cancelled, Some(Blame::Operator), None),
        Ended::HostFault(reason) => (Outcome::HostFault, Some(Blame::Host), Some(reason)),
    };
    record.outcome = outcome;
    record.blame = blame;
    record.reason = reason;
}

fn end_event(record: &RunRecord) -> Event {
    let mut detail = BTreeMap::new();
    if let Some(blame) = record.blame {
        detail.insert("blame".into(), format!("{blame:?}").to_ascii_lowercase().into());
    }
    if let Some(limit) = record.limit {
        detail.insert("limit".into(), limit.as_str().into());
    }
    let elapsed = record.ended.map(|ended| ended.duration_since(record.started));
    if let Some(elapsed) = elapsed.and_then(|elapsed| Duration::try_from(elapsed).ok()) {
        detail.insert("milliseconds".into(), elapsed.as_millis().to_string().into());
    }
    Event {
        event: Kind::RunEnd,
        run: Some(record.id),
        outcome: Some(record.outcome.as_str().into()),
        detail,
        ..Event::default()
    }
}
