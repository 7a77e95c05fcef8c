//! Opening what a command works on: the vault, the audit, the run records.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::Failure;
use super::{Global, out, passphrase};
use crate::config::{Config, Home, Setting, VaultPlace};
use strongroom::audit::{self, Audit};
use strongroom::runs::{RunStore, RunStoreError};
use strongroom::vault::local::{LocalVault, Unlock};
use strongroom::vault::{Operator, Vault, VaultError};
use strongroom_vault_azure::AzureVault;

/// What a command was told about where things are. Nothing is opened yet, and nothing made.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) config: Config,
    vault_option: Option<String>,
    passphrase_option: Option<PathBuf>,
    credential_option: Option<String>,
}

/// An open home.
pub(super) struct Opened {
    pub(super) home: Home,
    /// The vault as runs use it.
    pub(super) vault: Arc<dyn Vault>,
    /// The same as an operator uses it.
    pub(super) operator: Arc<dyn Operator>,
    /// The same where it is the local one.
    pub(super) local: Option<LocalVault>,
    pub(super) audit: Audit,
    pub(super) runs: Arc<RunStore>,
}

/// An open vault: as runs use it, as an operator uses it, and where it is the local one.
type Vaults = (Arc<dyn Vault>, Arc<dyn Operator>, Option<LocalVault>);

fn vault_of(local: LocalVault) -> Vaults {
    (Arc::new(local.clone()), Arc::new(local.clone()), Some(local))
}

/// Why a local vault was not opened.
fn not_opened(dir: &Path, error: VaultError) -> Failure {
    match error {
        VaultError::Absent(_) => Failure::host(format!("there is no vault at `{}`", dir.display()))
            .help("run `strongroom init`, or say where it is: `--vault local:DIR`, `STRONGROOM_HOME`"),
        error => error.into(),
    }
}

/// A vault that is there and not open yet.
pub(super) enum Found {
    /// A local one.
    Local {
        /// Its folder.
        dir: PathBuf,
        /// Whether a passphrase opens it; else its key file does.
        needs_passphrase: bool,
    },
    /// A Key Vault. Whether it is there shows when it is asked.
    Azure(AzureVault),
}

impl Found {
    /// Whether a passphrase opens it.
    pub(super) fn needs_passphrase(&self) -> bool {
        matches!(self, Self::Local { needs_passphrase: true, .. })
    }
}

impl Surroundings {
    /// Reads the configuration.
    pub(super) fn read(global: &Global) -> Result<Self, Failure> {
        Ok(Self {
            config: Config::load()?,
            vault_option: global.vault.clone(),
            passphrase_option: global.passphrase_file.clone(),
            credential_option: global.credential.clone(),
        })
    }

    /// Where the vault is.
    pub(super) fn place(&self) -> Result<VaultPlace, Failure> {
        Ok(self.config.vault(self.vault_option.as_deref())?)
    }

    /// The folder of the local vault, for what is done to that one alone; `instead` is what to do with a Key Vault.
    pub(super) fn vault_dir(&self, instead: &str) -> Result<PathBuf, Failure> {
        match self.place()? {
            VaultPlace::Local(dir) => Ok(dir),
            VaultPlace::Azure(place) => {
                Err(Failure::invalid(format!("this is for the local vault, and `{place}` is a Key Vault"))
                    .help(instead))
            }
        }
    }

    /// What no component may see or change: the home, the vault, and whatever opens it or signs in to it.
    pub(super) fn private(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut private = vec![self.config.home()?.path().to_owned()];
        private.extend(self.passphrase_file().map(Path::to_owned));
        match self.place()? {
            VaultPlace::Local(dir) => private.push(dir),
            VaultPlace::Azure(_) => {
                let credential = self.config.credential(self.credential_option.as_deref())?;
                private.extend(credential.files().cloned());
                private.extend_from_slice(self.config.sign_in_folders(credential.kind));
            }
        }
        Ok(private)
    }

    /// The file with the passphrase: the option, else the variable.
    pub(super) fn passphrase_file(&self) -> Option<&Path> {
        self.passphrase_option.as_deref().or(self.config.passphrase_file.as_deref())
    }

    /// Every setting, with where it comes from.
    pub(super) fn settings(&self) -> Result<Vec<Setting>, Failure> {
        Ok(self.config.settings(
            self.vault_option.as_deref(),
            self.passphrase_option.as_deref(),
            self.credential_option.as_deref(),
        )?)
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
        let dir = match self.place()? {
            VaultPlace::Local(dir) => dir,
            VaultPlace::Azure(place) => {
                let credential = self.config.credential(self.credential_option.as_deref())?;
                return Ok(Found::Azure(AzureVault::open(*place, &credential)?));
            }
        };
        match LocalVault::needs_passphrase(&dir) {
            Ok(needs_passphrase) => Ok(Found::Local { dir, needs_passphrase }),
            Err(error) => Err(not_opened(&dir, error)),
        }
    }

    /// Looks for the vault and opens everything at once: as [`Surroundings::find`] and then [`Surroundings::open`].
    pub(super) fn find_and_open(&self) -> Result<Opened, Failure> {
        let VaultPlace::Local(dir) = self.place()? else { return self.open(self.find()?) };
        let closed = LocalVault::inspect(&dir).map_err(|error| not_opened(&dir, error))?;
        if closed.needs_passphrase() {
            drop(closed);
            return self.open(Found::Local { dir, needs_passphrase: true });
        }
        self.open_around(vault_of(closed.open(Unlock::KeyFile)?))
    }

    /// Opens the vault, then the audit and the run records, which are made where they are not there.
    pub(super) fn open(&self, found: Found) -> Result<Opened, Failure> {
        self.open_around(match found {
            Found::Azure(vault) => (Arc::new(vault.clone()), Arc::new(vault), None),
            Found::Local { dir, needs_passphrase } => {
                let unlock = if needs_passphrase {
                    Unlock::Passphrase(passphrase::existing(self.passphrase_file())?)
                } else {
                    Unlock::KeyFile
                };
                vault_of(LocalVault::open(&dir, unlock)?)
            }
        })
    }

    fn open_around(&self, (vault, operator, local): Vaults) -> Result<Opened, Failure> {
        let home = self.config.home()?;
        make_folder(home.path())?;
        refuse_shared(home.path())?;
        let audit = Audit::open(&home.audit(), self.config.audit_sync)?;
        let runs = Arc::new(RunStore::open(&home.runs())?.keeping(self.config.run_log));
        let opened = Opened { home, vault, operator, local, audit, runs };
        mark_lost(&opened.home, &opened.runs)?;
        Ok(opened)
    }
}

impl Opened {
    /// The local vault, for a command that has looked for one.
    pub(super) fn local(&self) -> Result<&LocalVault, Failure> {
        self.local.as_ref().ok_or_else(|| Failure::invalid("this is for the local vault"))
    }

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

/// Refuses a home that others may change: they could put another folder in the place of the audit.
fn refuse_shared(home: &Path) -> Result<(), Failure> {
    let failed = |cause: io::Error| Failure::host(format!("cannot look at the home `{}`: {cause}", home.display()));
    let meta = fs::metadata(home).map_err(failed)?;
    if meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(Failure::host(format!("others may change the home `{}`", home.display()))
        .help("make it yours alone (`chown`, `chmod go-w`), after a look at what is in it"))
}

/// Makes a folder for its owner alone, with what is above it, where it is not there.
pub(super) fn make_folder(path: &Path) -> Result<(), Failure> {
    let failed = |cause: io::Error| Failure::host(format!("cannot make the folder `{}`: {cause}", path.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)
}
