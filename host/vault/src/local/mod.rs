//! The local vault: an encrypted SQLite database in a folder of its own. `docs/vault.md` describes the format and what it promises.
//!
//! ```text
//! DIR/vault.sqlite3   one row a version of a secret; the value is sealed, everything else can be read
//! DIR/vault.key       the key, unless a passphrase protects the vault
//! DIR/vault.key.next  the key to come, while the vault is given a new one (`rekey`)
//! ```
//!
//! Database work is done on the runtime's blocking threads and in transactions. A future that is dropped while it waits leaves the
//! work to finish, or to be rolled back, by itself.

mod backup;
mod header;
mod keyfile;
mod keys;
mod open;
mod place;
mod rekey;
mod seal;
mod status;
mod store;
mod upgrade;
mod whole;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use zeroize::Zeroizing;

use super::{Abilities, Attributes, Description, Missing, NewSecret, Operator, Stored, Vault, VaultError};
use place::Place;
use store::Context;
use strongroom_core::ids::{SecretName, SecretVersion};
use strongroom_core::secret::Secret;
use strongroom_policy::{Grant, ListGrant};

pub use backup::Backup;
pub use rekey::Rekeyed;
pub use status::{KeySource, Status};
pub use whole::{BrokenVersion, Contents, Verification};

/// How a new vault is protected.
pub enum Protection {
    /// By a key file beside the database. It protects a copy of the database alone.
    KeyFile,
    /// By a passphrase, which has to be given whenever the vault is opened.
    Passphrase(Zeroizing<String>),
}

/// What opens a vault.
pub enum Unlock {
    /// The key file beside the database.
    KeyFile,
    /// The passphrase.
    Passphrase(Zeroizing<String>),
}

impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyFile => "KeyFile",
            Self::Passphrase(_) => "Passphrase(..)",
        })
    }
}

impl fmt::Debug for Unlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyFile => "KeyFile",
            Self::Passphrase(_) => "Passphrase(..)",
        })
    }
}

/// An open local vault. Clones share it.
#[derive(Clone)]
pub struct LocalVault(Arc<Inner>);

/// A local vault that was looked at just now, and is not open yet.
pub struct Closed {
    place: Place,
    looked: open::Looked,
}

impl Closed {
    /// Whether it is opened by a passphrase; else its key file opens it.
    pub fn needs_passphrase(&self) -> bool {
        open::needs_passphrase(&self.looked)
    }

    /// Opens it. Blocks.
    ///
    /// # Errors
    /// As [`LocalVault::open`].
    pub fn open(self, unlock: Unlock) -> Result<LocalVault, VaultError> {
        LocalVault::open_looked(self.place, self.looked, &unlock, upgrade::STEPS)
    }
}

impl fmt::Debug for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed").field("dir", &self.place.dir).finish_non_exhaustive()
    }
}

struct Inner {
    context: Context,
    // Two, so that reads do not wait while a write is synced or waits for another process.
    reader: Mutex<Connection>,
    writer: Mutex<Connection>,
}

impl LocalVault {
    /// Makes a vault in a folder and opens it. The folder is made (0700) where it is missing. Blocks.
    ///
    /// # Errors
    /// [`VaultError::Invalid`] where there is a vault already, the folder can be written by others, or the passphrase is empty;
    /// [`VaultError::Unavailable`] where the files cannot be made. An attempt that failed does not stand in the way of another.
    pub fn create(dir: &Path, protection: Protection) -> Result<Self, VaultError> {
        let place = Place::of(dir)?;
        open::create(&place, &protection)?;
        let unlock = match protection {
            Protection::KeyFile => Unlock::KeyFile,
            Protection::Passphrase(passphrase) => Unlock::Passphrase(passphrase),
        };
        Self::open_with(place, &unlock, upgrade::STEPS)
    }

    /// Looks at the vault in a folder, to open it at once. Blocks, and changes nothing. While the answer is held the database is open: who has to wait
    /// for a passphrase drops it and uses [`LocalVault::open`], since meanwhile the vault may be given another key or be replaced.
    ///
    /// # Errors
    /// As [`LocalVault::open`], except those about the key file or the passphrase.
    pub fn look(dir: &Path) -> Result<Closed, VaultError> {
        let place = Place::of(dir)?;
        Ok(Closed { looked: open::look(&place)?, place })
    }

    /// Opens the vault in a folder. Blocks, for a good part of a second with a passphrase.
    ///
    /// # Errors
    /// [`VaultError::Absent`] where there is none; [`VaultError::Refused`] where the key file or the passphrase is missing, wrong or
    /// open to others, or the format is newer than this program's; [`VaultError::Damaged`] where the database is not as this
    /// program wrote it; [`VaultError::Unavailable`] where the files cannot be read. None of them changes anything.
    pub fn open(dir: &Path, unlock: Unlock) -> Result<Self, VaultError> {
        Self::open_with(Place::of(dir)?, &unlock, upgrade::STEPS)
    }

    /// Whether the vault in a folder is opened by a passphrase; else its key file opens it. Blocks, and changes nothing.
    ///
    /// # Errors
    /// As [`LocalVault::open`], except those about the key file or the passphrase.
    pub fn needs_passphrase(dir: &Path) -> Result<bool, VaultError> {
        Ok(Self::look(dir)?.needs_passphrase())
    }

    fn open_with(place: Place, unlock: &Unlock, steps: &[upgrade::Step]) -> Result<Self, VaultError> {
        let looked = open::look(&place)?;
        Self::open_looked(place, looked, unlock, steps)
    }

    fn open_looked(
        place: Place,
        looked: open::Looked,
        unlock: &Unlock,
        steps: &[upgrade::Step],
    ) -> Result<Self, VaultError> {
        let opened = open::open(&place, looked, unlock, steps)?;
        let reader = place.connect()?;
        reader.pragma_update(None, "query_only", true).map_err(|error| place.sql("opened", error))?;
        let context =
            Context { place, vault: opened.vault, data_key: Arc::new(opened.data_key), header: opened.header };
        Ok(Self(Arc::new(Inner { context, reader: Mutex::new(reader), writer: Mutex::new(opened.writer) })))
    }

    /// Runs database work where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, VaultError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let inner = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(VaultError::Unavailable("the vault's work was cut off: the host is ending or has a fault".into()))
            }
        }
    }

    async fn find(&self, name: SecretName, version: Option<SecretVersion>) -> Result<Stored, VaultError> {
        self.blocking(move |inner| {
            inner.read(|context, connection| {
                context.find(connection, &name, version.as_ref())?.ok_or_else(|| VaultError::NotFound(name.clone()))
            })
        })
        .await
    }

    async fn insert(
        &self,
        secrets: Vec<(SecretName, Arc<Secret>, Attributes)>,
    ) -> Result<Vec<Description>, VaultError> {
        for (name, _, attributes) in &secrets {
            super::check_attributes(name, attributes)?;
        }
        self.blocking(move |inner| {
            inner.write(|context, transaction| {
                secrets
                    .iter()
                    .map(|(name, value, attributes)| context.insert(transaction, name, value, attributes))
                    .collect()
            })
        })
        .await
    }

    async fn remove(&self, names: Vec<SecretName>) -> Result<(), VaultError> {
        self.blocking(move |inner| {
            inner.write(|context, transaction| {
                // All before any, so that two names for one stored secret are no error.
                for name in &names {
                    if !context.exists(transaction, name)? {
                        return Err(VaultError::NotFound(name.clone()));
                    }
                }
                names.iter().try_for_each(|name| context.delete(transaction, name))
            })?;
            inner.truncate_log();
            Ok(())
        })
        .await
    }
}

impl fmt::Debug for LocalVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalVault").field("dir", &self.0.context.place.dir).finish_non_exhaustive()
    }
}

impl Inner {
    /// Reads in one transaction: one state of the vault, whatever others write meanwhile.
    fn read<T>(&self, work: impl FnOnce(&Context, &Connection) -> Result<T, VaultError>) -> Result<T, VaultError> {
        let mut connection = lock(&self.reader);
        let transaction = connection.transaction().map_err(|error| self.context.place.sql("read", error))?;
        self.context.check_key(&transaction)?;
        work(&self.context, &transaction)
    }

    /// Writes in one transaction, which is on the disk when this returns, or has changed nothing.
    fn write<T>(
        &self,
        work: impl FnOnce(&Context, &Transaction<'_>) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let failed = |error| self.context.place.sql("written", error);
        let mut connection = lock(&self.writer);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        // A newer program may have upgraded the vault since it was opened.
        let format = store::format(&transaction).map_err(failed)?;
        if format != store::FORMAT {
            return Err(upgrade::newer(&self.context.place, format));
        }
        self.context.check_key(&transaction)?;
        let answer = work(&self.context, &transaction)?;
        transaction.commit().map_err(failed)?;
        Ok(answer)
    }

    /// Takes what was deleted or replaced out of the write-ahead log too; whether that was done. Another process that is reading can
    /// prevent it; then the sealed rest goes with the next deletion, or when the last process closes the vault.
    fn truncate_log(&self) -> bool {
        let done = lock(&self.writer).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        let truncated = matches!(done, Ok(0));
        if !truncated {
            tracing::debug!("the vault's log was not truncated: another process reads it");
        }
        truncated
    }
}

/// A panic elsewhere leaves no half-done work behind: a transaction is rolled back when it unwinds.
fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Vault for LocalVault {
    fn abilities(&self) -> Abilities {
        Abilities { transactions: true, versions: true, soft_delete: false }
    }

    fn place(&self) -> Option<String> {
        let dir = &self.0.context.place.dir;
        Some(strongroom_core::escape::escape_controls(&format!("local:{}", dir.display())))
    }

    async fn get(&self, grant: &Grant) -> Result<Stored, VaultError> {
        self.find(grant.stored().clone(), grant.version().cloned()).await
    }

    async fn get_many(&self, grants: &[Grant]) -> Result<Vec<Result<Stored, Missing>>, VaultError> {
        let grants = grants.to_vec();
        self.blocking(move |inner| {
            inner.read(|context, connection| {
                let find = |grant: &Grant| context.find(connection, grant.stored(), grant.version());
                grants.iter().map(|grant| Ok(find(grant)?.ok_or(Missing::NotFound))).collect()
            })
        })
        .await
    }

    async fn describe(&self, grant: &Grant) -> Result<Description, VaultError> {
        // The seal vouches for the attributes, so it is opened here too.
        Ok(self.find(grant.stored().clone(), grant.version().cloned()).await?.description)
    }

    async fn set_many(&self, secrets: &[(Grant, Arc<Secret>)]) -> Result<Vec<Description>, VaultError> {
        let plain = |(grant, value): &(Grant, _)| (grant.stored().clone(), Arc::clone(value), Attributes::default());
        self.insert(secrets.iter().map(plain).collect()).await
    }

    async fn delete_many(&self, grants: &[Grant]) -> Result<(), VaultError> {
        self.remove(grants.iter().map(|grant| grant.stored().clone()).collect()).await
    }

    async fn list(&self, grant: &ListGrant) -> Result<Vec<SecretName>, VaultError> {
        let grant = grant.clone();
        self.blocking(move |inner| {
            inner.read(|context, connection| {
                let mut names = BTreeSet::new();
                for (stored, asked) in grant.exact() {
                    if context.exists(connection, stored)? {
                        names.insert(asked.clone());
                    }
                }
                if grant.needs_paging() {
                    names.extend(context.names(connection)?.into_iter().filter(|name| grant.admits(name)));
                }
                Ok(names.into_iter().collect())
            })
        })
        .await
    }
}

#[async_trait]
impl Operator for LocalVault {
    async fn get(&self, name: &SecretName, version: Option<&SecretVersion>) -> Result<Stored, VaultError> {
        self.find(name.clone(), version.cloned()).await
    }

    async fn set_many(&self, secrets: Vec<NewSecret>) -> Result<Vec<Description>, VaultError> {
        self.insert(secrets.into_iter().map(|secret| (secret.name, secret.value, secret.attributes)).collect()).await
    }

    async fn list(&self) -> Result<Vec<Description>, VaultError> {
        self.blocking(|inner| inner.read(|context, connection| context.newest(connection))).await
    }

    async fn versions(&self, name: &SecretName) -> Result<Vec<Description>, VaultError> {
        let name = name.clone();
        self.blocking(move |inner| {
            inner.read(|context, connection| {
                let versions = context.versions(connection, &name)?;
                if versions.is_empty() { Err(VaultError::NotFound(name.clone())) } else { Ok(versions) }
            })
        })
        .await
    }

    async fn delete(&self, name: &SecretName) -> Result<(), VaultError> {
        self.remove(vec![name.clone()]).await
    }
}
