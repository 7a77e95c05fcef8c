//! Opening what a command works on: the vault, the audit, the run records.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::Failure;
use super::{Global, out, passphrase};
use crate::audit::{self, Audit};
use crate::config::{Config, Home, Setting, VaultPlace};
use crate::runs::{RunStore, RunStoreError};
use crate::vault::VaultError;
use crate::vault::local::{LocalVault, Unlock};

/// What a command was told about where things are. Nothing is opened yet, and nothing made.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) config: Config,
    vault_option: Option<String>,
    passphrase_option: Option<PathBuf>,
}

/// An open home.
pub(super) struct Opened {
    pub(super) home: Home,
    pub(super) vault: LocalVault,
    pub(super) audit: Audit,
    pub(super) runs: Arc<RunStore>,
}

/// A vault that is there and not open yet.
pub(super) struct Found {
    dir: PathBuf,
    needs_passphrase: bool,
}

impl Found {
    /// Whether a passphrase opens it; else its key file does.
    pub(super) fn needs_passphrase(&self) -> bool {
        self.needs_passphrase
    }
}

impl Surroundings {
    /// Reads the configuration.
    pub(super) fn read(global: &Global) -> Result<Self, Failure> {
        Ok(Self {
            config: Config::load()?,
            vault_option: global.vault.clone(),
            passphrase_option: global.passphrase_file.clone(),
        })
    }

    /// The folder of the vault.
    pub(super) fn vault_dir(&self) -> Result<PathBuf, Failure> {
        let VaultPlace::Local(dir) = self.config.vault(self.vault_option.as_deref())?;
        Ok(dir)
    }

    /// The file with the passphrase: the option, else the variable.
    pub(super) fn passphrase_file(&self) -> Option<&Path> {
        self.passphrase_option.as_deref().or(self.config.passphrase_file.as_deref())
    }

    /// Every setting, with where it comes from.
    pub(super) fn settings(&self) -> Result<Vec<Setting>, Failure> {
        Ok(self.config.settings(self.vault_option.as_deref(), self.passphrase_option.as_deref())?)
    }

    /// Whether the passphrase file was named on the command line.
    pub(super) fn has_passphrase_option(&self) -> bool {
        self.passphrase_option.is_some()
    }

    /// The home, which has to be there; for commands that need no vault.
    pub(super) fn existing_home(&self) -> Result<Home, Failure> {
        let home = self.config.home()?;
        if home.path().is_dir() {
            return Ok(home);
        }
        Err(Failure::host(format!("there is no home of strongroom at `{}`", home.path().display()))
            .help("run `strongroom init`, or set `STRONGROOM_HOME` to where it is"))
    }

    /// Looks for the vault. Makes nothing.
    pub(super) fn find(&self) -> Result<Found, Failure> {
        let dir = self.vault_dir()?;
        match LocalVault::needs_passphrase(&dir) {
            Ok(needs_passphrase) => Ok(Found { dir, needs_passphrase }),
            Err(VaultError::Absent(_)) => Err(Failure::host(format!("there is no vault at `{}`", dir.display()))
                .help("run `strongroom init`, or name another with `--vault local:DIR`")),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the vault, then the audit and the run records, which are made where they are not there.
    pub(super) fn open(&self, found: Found) -> Result<Opened, Failure> {
        let unlock = if found.needs_passphrase {
            Unlock::Passphrase(passphrase::existing(self.passphrase_file())?)
        } else {
            Unlock::KeyFile
        };
        let vault = LocalVault::open(&found.dir, unlock)?;
        let home = self.config.home()?;
        make_folder(home.path())?;
        let audit = Audit::open(&home.audit(), self.config.audit_sync)?;
        let runs = Arc::new(RunStore::open(&home.runs())?.keeping(self.config.run_log));
        let opened = Opened { home, vault, audit, runs };
        mark_lost(&opened.home, &opened.runs)?;
        Ok(opened)
    }
}

impl Opened {
    /// Ends the audit in good order.
    pub(super) fn close(self) -> Result<(), Failure> {
        Ok(self.audit.close()?)
    }
}

/// The run records of a home, for whoever only reads them; none where there are none yet. Gives lost runs their outcome, where the disk lets it.
pub(super) fn existing_runs(home: &Home) -> Result<Option<RunStore>, Failure> {
    let dir = home.runs();
    if !dir.is_dir() {
        return Ok(None);
    }
    let runs = RunStore::open(&dir)?;
    // On a disk that is full or read-only, what is there can be read all the same.
    if let Err(error) = mark_lost(home, &runs) {
        out::note(format!("note: a run that was cut off may still be shown as running: {error}"));
    }
    Ok(Some(runs))
}

fn mark_lost(home: &Home, runs: &RunStore) -> Result<(), RunStoreError> {
    let dir = home.audit();
    for id in runs.mark_lost(|segment| audit::is_live(&dir, segment))? {
        out::note(format!("note: run {id} was cut off when its process ended; its record now says `lost`"));
    }
    Ok(())
}

/// Makes a folder for its owner alone, with what is above it, where it is not there.
pub(super) fn make_folder(path: &Path) -> Result<(), Failure> {
    let failed = |cause: io::Error| Failure::host(format!("cannot make the folder `{}`: {cause}", path.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)
}
