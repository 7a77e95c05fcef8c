//! Audited operator actions on a vault.

use super::block_on;
use super::context::Opened;
use super::failure::Failure;
use strongroom::audit::{Event, Kind};
use strongroom::ids::SecretName;
use strongroom::vault::VaultError;

/// What an operator does to a vault, as the audit log states it.
pub(super) struct OperatorAction {
    operation: &'static str,
    /// The audited outcome on success.
    done: &'static str,
    /// The affected secrets, each with its own events. `None` stands for one pair of events without
    /// a secret.
    secrets: Vec<Option<SecretName>>,
    changes: bool,
    detail: Vec<(&'static str, String)>,
}

impl OperatorAction {
    /// Returns an action that reads, on the vault as a whole.
    pub(super) fn new(operation: &'static str, done: &'static str) -> Self {
        Self { operation, done, secrets: vec![None], changes: false, detail: Vec::new() }
    }

    /// Sets the affected secrets.
    #[must_use]
    pub(super) fn on(mut self, secrets: impl IntoIterator<Item = SecretName>) -> Self {
        self.secrets = secrets.into_iter().map(Some).collect();
        self
    }

    /// Marks the action as one that changes the vault.
    #[must_use]
    pub(super) fn changing(mut self) -> Self {
        self.changes = true;
        self
    }

    /// Adds a detail to the events.
    #[must_use]
    pub(super) fn detail(mut self, name: &'static str, value: impl ToString) -> Self {
        self.detail.push((name, value.to_string()));
        self
    }
}

/// Performs an action between two audit events, and closes the audit log. The action does not start
/// if the first event cannot be written, and its result is returned only after the last event is
/// written. `complete` adds result data to the event of each secret, selected by its index.
pub(super) fn audited<T>(
    opened: &Opened,
    action: &OperatorAction,
    operation: impl Future<Output = Result<T, VaultError>>,
    complete: impl Fn(&T, usize, &mut Event),
) -> Result<T, Failure> {
    // The vault is recorded because one audit log may cover several vaults.
    let vault = opened.vault.address().map(|address| ("vault".into(), address.into()));
    let detail = action.detail.iter().map(|(name, value)| ((*name).into(), value.clone().into()));
    let detail = vault.into_iter().chain(detail).collect();
    let about = Event { operation: Some(action.operation.into()), detail, ..Event::default() };
    let event = |kind, secret: &Option<SecretName>| Event { event: kind, secret: secret.clone(), ..about.clone() };
    for secret in &action.secrets {
        opened.audit.append_blocking(event(Kind::Operator, secret))?;
    }
    let result = block_on(operation)?;
    let mut written = Ok(());
    for (at, secret) in action.secrets.iter().enumerate() {
        let mut event = event(Kind::OperatorOutcome, secret);
        let outcome = match &result {
            Ok(result) => {
                complete(result, at, &mut event);
                action.done
            }
            // In a partly written batch, each secret gets its own outcome.
            Err(VaultError::Partial { written, .. }) if secret.as_ref().is_some_and(|name| written.contains(name)) => {
                action.done
            }
            Err(error) => error.kind(),
        };
        event.outcome = Some(outcome.into());
        written = written.and(opened.audit.append_blocking(event).map(drop));
    }
    let closed = opened.close();
    let result = result?;
    match written {
        Ok(()) => {}
        Err(error) if action.changes => {
            return Err(Failure::host(format!("the vault was changed, but the audit log does not record it: {error}")));
        }
        Err(error) => return Err(error.into()),
    }
    closed?;
    Ok(result)
}
