//! An operator's own work on a vault, between two events of the audit.

use super::block_on;
use super::failure::Failure;
use super::home::Opened;
use strongroom::audit::{Event, Kind};
use strongroom::ids::SecretName;
use strongroom::policy::Operation;
use strongroom::vault::VaultError;

/// What an operator is about to do.
pub(super) struct Work {
    /// In the words of the audit.
    operation: &'static str,
    /// The secrets concerned. Each gets events of its own; without any there is one pair.
    secrets: Vec<Option<SecretName>>,
    /// What came of it where it was done.
    done: &'static str,
    changes: bool,
    detail: Vec<(&'static str, String)>,
}

impl Work {
    /// Work on one secret, or on all.
    pub(super) fn on_secret(operation: Operation, name: Option<&SecretName>, done: &'static str) -> Self {
        Self {
            operation: operation.as_str(),
            secrets: vec![name.cloned()],
            done,
            changes: matches!(operation, Operation::Set | Operation::Delete),
            detail: Vec::new(),
        }
    }

    /// Work on what the vault keeps of a deleted secret.
    pub(super) fn on_deleted(operation: &'static str, name: &SecretName, done: &'static str) -> Self {
        Self { operation, secrets: vec![Some(name.clone())], done, changes: true, detail: Vec::new() }
    }

    /// Storing several secrets at once.
    pub(super) fn storing(names: impl IntoIterator<Item = SecretName>) -> Self {
        let mut work = Self::on_secret(Operation::Set, None, "written");
        work.secrets = names.into_iter().map(Some).collect();
        work
    }

    /// Work on the vault itself.
    pub(super) fn on_vault(operation: &'static str, done: &'static str, changes: bool) -> Self {
        Self { operation, secrets: vec![None], done, changes, detail: Vec::new() }
    }

    /// Adds something that both events say.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.detail.push((name, value.to_string()));
        self
    }
}

/// Does an operator's work. Where the first events cannot be written it is not begun; what it answers is handed on only once the last is
/// written. `complete` adds to the event of each secret, by its place, what the answer says of it.
pub(super) fn audited<T>(
    opened: &Opened,
    work: &Work,
    doing: impl Future<Output = Result<T, VaultError>>,
    complete: impl Fn(&T, usize, &mut Event),
) -> Result<T, Failure> {
    // Which vault it was: one audit may tell of several.
    let vault = opened.vault.address().map(|address| ("vault".into(), address.into()));
    let detail = work.detail.iter().map(|(name, value)| ((*name).into(), value.clone().into()));
    let detail = vault.into_iter().chain(detail).collect();
    let about = Event { operation: Some(work.operation.into()), detail, ..Event::default() };
    let event = |kind, secret: &Option<SecretName>| Event { event: kind, secret: secret.clone(), ..about.clone() };
    for secret in &work.secrets {
        opened.audit.append_blocking(event(Kind::Operator, secret))?;
    }
    let answer = block_on(doing)?;
    let mut written = Ok(());
    for (at, secret) in work.secrets.iter().enumerate() {
        let mut event = event(Kind::OperatorOutcome, secret);
        let outcome = match &answer {
            Ok(answer) => {
                complete(answer, at, &mut event);
                work.done
            }
            // Of a batch that stopped half-way, each says what became of it.
            Err(VaultError::Partial { written, .. }) if secret.as_ref().is_some_and(|name| written.contains(name)) => {
                work.done
            }
            Err(error) => error.kind(),
        };
        event.outcome = Some(outcome.into());
        written = written.and(opened.audit.append_blocking(event).map(drop));
    }
    let answer = answer?;
    match written {
        Ok(()) => Ok(answer),
        Err(error) if work.changes => {
            Err(Failure::host(format!("the vault was changed, but the audit does not say so: {error}")))
        }
        Err(error) => Err(error.into()),
    }
}
