//! Audited operator commands on a vault.

use super::block_on;
use super::context::Opened;
use super::failure::Failure;
use strongroom::audit::{Event, Kind};
use strongroom::ids::SecretName;
use strongroom::policy::Operation;
use strongroom::vault::VaultError;

/// An operator command on the vault.
pub(super) struct Work {
    /// The operation as the audit log spells it.
    operation: &'static str,
    /// The affected secrets, each with its own events. `None` stands for one pair of events without
    /// a secret.
    secrets: Vec<Option<SecretName>>,
    /// The audited outcome on success.
    done: &'static str,
    changes: bool,
    detail: Vec<(&'static str, String)>,
}

impl Work {
    /// Returns work on one secret, or on all.
    pub(super) fn on_secret(operation: Operation, name: Option<&SecretName>, done: &'static str) -> Self {
        Self {
            operation: operation.as_str(),
            secrets: vec![name.cloned()],
            done,
            changes: matches!(operation, Operation::Set | Operation::Delete),
            detail: Vec::new(),
        }
    }

    /// Returns work on a deleted secret that the vault retains.
    pub(super) fn on_deleted(operation: &'static str, name: &SecretName, done: &'static str) -> Self {
        Self { operation, secrets: vec![Some(name.clone())], done, changes: true, detail: Vec::new() }
    }

    /// Returns work that stores several secrets at once.
    pub(super) fn storing(names: impl IntoIterator<Item = SecretName>) -> Self {
        let mut work = Self::on_secret(Operation::Set, None, "written");
        work.secrets = names.into_iter().map(Some).collect();
        work
    }

    /// Returns work on the vault itself.
    pub(super) fn on_vault(operation: &'static str, done: &'static str, changes: bool) -> Self {
        Self { operation, secrets: vec![None], done, changes, detail: Vec::new() }
    }

    /// Adds a detail to both events.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.detail.push((name, value.to_string()));
        self
    }
}

/// Runs an operator command between two audit events. It does not start if the first event cannot
/// be written, and its result is returned only after the last event is written. `complete` adds
/// result data to the event of each secret, selected by its index.
pub(super) fn audited<T>(
    opened: &Opened,
    work: &Work,
    operation: impl Future<Output = Result<T, VaultError>>,
    complete: impl Fn(&T, usize, &mut Event),
) -> Result<T, Failure> {
    // The vault is recorded because one audit log may cover several vaults.
    let vault = opened.vault.address().map(|address| ("vault".into(), address.into()));
    let detail = work.detail.iter().map(|(name, value)| ((*name).into(), value.clone().into()));
    let detail = vault.into_iter().chain(detail).collect();
    let about = Event { operation: Some(work.operation.into()), detail, ..Event::default() };
    let event = |kind, secret: &Option<SecretName>| Event { event: kind, secret: secret.clone(), ..about.clone() };
    for secret in &work.secrets {
        opened.audit.append_blocking(event(Kind::Operator, secret))?;
    }
    let result = block_on(operation)?;
    let mut written = Ok(());
    for (at, secret) in work.secrets.iter().enumerate() {
        let mut event = event(Kind::OperatorOutcome, secret);
        let outcome = match &result {
            Ok(result) => {
                complete(result, at, &mut event);
                work.done
            }
            // In a partly written batch, each secret gets its own outcome.
            Err(VaultError::Partial { written, .. }) if secret.as_ref().is_some_and(|name| written.contains(name)) => {
                work.done
            }
            Err(error) => error.kind(),
        };
        event.outcome = Some(outcome.into());
        written = written.and(opened.audit.append_blocking(event).map(drop));
    }
    let result = result?;
    match written {
        Ok(()) => Ok(result),
        Err(error) if work.changes => {
            Err(Failure::host(format!("the vault was changed, but the audit log does not record it: {error}")))
        }
        Err(error) => Err(error.into()),
    }
}
