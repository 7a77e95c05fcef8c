//! Opens the vault, the audit log and the run records for a command.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::Failure;
use super::{Global, out, passphrase};
use crate::config::{Config, Home, Setting, VaultAddress};
use strongroom::audit::{self, Audit, AuditError, SyncMode};
use strongroom::record::RunRecord;
use strongroom::runs::{RunStore, RunStoreError};
use strongroom::vault::local::{LocalVault, Protection};
use strongroom::vault::{Operator, Vault, VaultError};
use strongroom_vault_azure::AzureVault;

/// The configuration and the global options. Nothing is opened or created yet.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) config: Config,
    vault_option: Option<String>,
    passphrase_option: Option<PathBuf>,
    credential_option: Option<String>,
}

/// An open home with its vault.
pub(super) struct Opened {
    pub(super) home: Home,
    /// The vault for runs.
    pub(super) vault: Arc<dyn Vault>,
    /// The same vault for operators.
    pub(super) operator: Arc<dyn Operator>,
    /// The same vault if it is a local one.
    pub(super) local: Option<LocalVault>,
    pub(super) audit: Audit,
    pub(super) runs: Arc<RunStore>,
}

/// Returns the failure for a local vault that could not be opened.
fn open_error(dir: &Path, error: VaultError) -> Failure {
    match error {
        VaultError::Absent(_) => Failure::host(format!("there is no vault at `{}`", dir.display())).help(
            "run `strongroom init` to create one, or select another with `--vault local:DIR` or `STRONGROOM_HOME`",
        ),
        error => error.into(),
    }
}

/// A vault that exists but is not open yet.
pub(super) enum ClosedVault {
    /// A local vault.
    Local {
        /// Its directory.
        dir: PathBuf,
        /// Whether a passphrase opens it; otherwise a key file does.
        needs_passphrase: bool,
    },
    /// An Azure Key Vault. Whether it exists is known only after the first request.
    Azure(AzureVault),
}

impl ClosedVault {
    /// Returns whether a passphrase opens the vault.
    pub(super) fn needs_passphrase(&self) -> bool {
        matches!(self, Self::Local { needs_passphrase: true, .. })
    }
}

impl Context {
    /// Reads the configuration.
    pub(super) fn read(global: &Global) -> Result<Self, Failure> {
        Ok(Self {
            config: Config::load()?,
            vault_option: global.vault.clone(),
            passphrase_option: global.passphrase_file.clone(),
            credential_option: global.credential.clone(),
        })
    }

    /// Returns the vault address.
    pub(super) fn vault_address(&self) -> Result<VaultAddress, Failure> {
        Ok(self.config.vault(self.vault_option.as_deref())?)
    }

    /// Returns the directory of the local vault, for commands that support no other. `instead` is
    /// the help text for a Key Vault.
    pub(super) fn vault_dir(&self, instead: &str) -> Result<PathBuf, Failure> {
        match self.vault_address()? {
            VaultAddress::Local(dir) => Ok(dir),
            VaultAddress::Azure(place) => {
                Err(Failure::invalid(format!("this command supports only local vaults, not the Key Vault `{place}`"))
                    .help(instead))
            }
        }
    }

    /// Returns the paths that no component may see or change: the home, the vault, and all files
    /// that open it or sign in to it.
    pub(super) fn private(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut private = vec![self.config.home()?.path().to_owned()];
        private.extend(self.passphrase_file().map(Path::to_owned));
        match self.vault_address()? {
            VaultAddress::Local(dir) => private.push(dir),
            VaultAddress::Azure(_) => {
                let credential = self.config.credential(self.credential_option.as_deref())?;
                private.extend(credential.files().cloned());
                private.extend_from_slice(self.config.sign_in_dirs(credential.kind));
            }
        }
        Ok(private)
    }

    /// Returns the passphrase file: from the option, else from the variable.
    pub(super) fn passphrase_file(&self) -> Option<&Path> {
        self.passphrase_option.as_deref().or(self.config.passphrase_file.as_deref())
    }

    /// Returns every setting with its source.
    pub(super) fn settings(&self) -> Result<Vec<Setting>, Failure> {
        Ok(self.config.settings(
            self.vault_option.as_deref(),
            self.passphrase_option.as_deref(),
            self.credential_option.as_deref(),
        )?)
    }

    /// Returns whether `--passphrase-file` was given.
    pub(super) fn has_passphrase_option(&self) -> bool {
        self.passphrase_option.is_some()
    }

    /// Returns the home if it exists, for commands that need no vault.
    pub(super) fn existing_home(&self) -> Result<Home, Failure> {
        let home = self.config.home()?;
        if home.path().is_dir() {
            return Ok(home);
        }
        Err(Failure::host(format!("there is no strongroom home at `{}`", home.path().display()))
            .help("run `strongroom init` to create one, or set `STRONGROOM_HOME` to its path"))
    }

    /// Finds the vault. Creates nothing.
    pub(super) fn find_vault(&self) -> Result<ClosedVault, Failure> {
        let dir = match self.vault_address()? {
            VaultAddress::Local(dir) => dir,
            VaultAddress::Azure(place) => {
                let credential = self.config.credential(self.credential_option.as_deref())?;
                return Ok(ClosedVault::Azure(AzureVault::open(*place, &credential)?));
            }
        };
        match LocalVault::needs_passphrase(&dir) {
            Ok(needs_passphrase) => Ok(ClosedVault::Local { dir, needs_passphrase }),
            Err(error) => Err(open_error(&dir, error)),
        }
    }

    /// Finds and opens the vault.
    pub(super) fn find_and_open(&self) -> Result<Opened, Failure> {
        self.open(self.find_vault()?)
    }

    /// Opens the home for a run, which has an audit segment of its own.
    pub(super) fn find_and_open_for_run(&self) -> Result<Opened, Failure> {
        self.open_with(self.find_vault()?, Audit::open)
    }

    /// Opens the vault, the audit log and the run records for an operator's command. Creates the
    /// last two if they are missing.
    pub(super) fn open(&self, vault: ClosedVault) -> Result<Opened, Failure> {
        self.open_with(vault, Audit::open_shared)
    }

    fn open_with(
        &self,
        vault: ClosedVault,
        open_audit: fn(&Path, SyncMode) -> Result<Audit, AuditError>,
    ) -> Result<Opened, Failure> {
        let (vault, operator, local): (Arc<dyn Vault>, Arc<dyn Operator>, _) = match vault {
            ClosedVault::Azure(vault) => (Arc::new(vault.clone()), Arc::new(vault), None),
            ClosedVault::Local { dir, needs_passphrase } => {
                let unlock = if needs_passphrase {
                    Protection::Passphrase(passphrase::existing(self.passphrase_file())?)
                } else {
                    Protection::KeyFile
                };
                let local = LocalVault::open(&dir, unlock)?.keeping(self.config.keep_versions);
                (Arc::new(local.clone()), Arc::new(local.clone()), Some(local))
            }
        };
        let home = self.config.home()?;
        create_private_dir(home.path())?;
        check_not_shared(home.path())?;
        let runs = Arc::new(RunStore::open(&home.runs())?.keeping(self.config.run_log));
        mark_lost(&home, &runs)?;
        let audit = open_audit(&home.audit(), self.config.audit_sync)?;
        Ok(Opened { home, vault, operator, local, audit, runs })
    }
}

impl Opened {
    /// Returns the local vault.
    pub(super) fn local(&self) -> Result<&LocalVault, Failure> {
        self.local.as_ref().ok_or_else(|| Failure::invalid("this command supports only local vaults"))
    }

    /// Closes the audit log. If another process does not release the ledger, this is only a
    /// warning: the events are durable, and the next command records the end of the segment.
    pub(super) fn close(&self) -> Result<(), Failure> {
        match self.audit.close() {
            Err(error @ AuditError::Busy { .. }) => {
                out::note(format!("warning: {error}; the next command completes the audit log"));
                Ok(())
            }
            closed => Ok(closed?),
        }
    }
}

/// Opens the run records for reading, or returns `None` if there are none. Marks lost runs if
/// possible.
pub(super) fn existing_runs(home: &Home) -> Result<Option<RunStore>, Failure> {
    let dir = home.runs();
    if !dir.is_dir() {
        return Ok(None);
    }
    let runs = RunStore::open(&dir)?;
    // Records on a full or read-only disk remain readable.
    if let Err(error) = mark_lost(home, &runs) {
        out::note(format!("note: an interrupted run may still be shown as running: {error}"));
    }
    Ok(Some(runs))
}

/// Opens the run records and finds a run by its ID, a unique prefix of it, or `last`.
pub(super) fn find_run(home: &Home, id: &str) -> Result<(RunStore, RunRecord), Failure> {
    let no_runs = || Failure::invalid("no runs yet").help("start one with `strongroom run COMPONENT --policy FILE`");
    let runs = existing_runs(home)?.ok_or_else(no_runs)?;
    match runs.find_by_prefix(id) {
        Err(RunStoreError::Absent(text)) if text == "last" => Err(no_runs()),
        found => Ok((runs, found?)),
    }
}

fn mark_lost(home: &Home, runs: &RunStore) -> Result<(), RunStoreError> {
    let dir = home.audit();
    let lost = match runs.mark_lost(|segment| audit::is_live(&dir, segment)) {
        // Nothing depends on the cleanup, and the holder of the lock is doing it.
        Err(error @ RunStoreError::Busy { .. }) => {
            out::note(format!("note: an interrupted run may still be shown as running: {error}"));
            return Ok(());
        }
        lost => lost?,
    };
    for id in lost {
        out::note(format!("note: run {id} was interrupted when its process ended; its record now says `lost`"));
    }
    Ok(())
}

/// Rejects a home that other users can modify, because they could replace what is in it.
pub(super) fn check_not_shared(home: &Path) -> Result<(), Failure> {
    let failed =
        |cause: io::Error| Failure::host(format!("could not inspect the home directory `{}`: {cause}", home.display()));
    let meta = fs::metadata(home).map_err(failed)?;
    if meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(Failure::host(format!("other users can modify the home directory `{}`", home.display()))
        .help("check its contents, then restrict it with `chown` and `chmod go-w`"))
}

/// Creates a directory with mode 0700, including its parents, if it is missing.
pub(super) fn create_private_dir(path: &Path) -> Result<(), Failure> {
    let failed =
        |cause: io::Error| Failure::host(format!("could not create the directory `{}`: {cause}", path.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)
}
