//! The local vault: an encrypted SQLite database in its own directory. `docs/vault.md` describes
//! the format and its guarantees.
//!
//! ```text
//! DIR/vault.sqlite3   one row per version of a secret; only the value is encrypted
//! DIR/vault.key       the key, unless a passphrase protects the vault
//! DIR/vault.key.next  the next key, during a rekey
//! ```
//!
//! Database work runs in transactions on the runtime's blocking threads. If a future is dropped
//! while it waits, the work still completes or is rolled back.

mod backup;
mod bulk;
mod files;
mod header;
mod keyfile;
mod keys;
mod open;
mod rekey;
mod retention;
mod seal;
mod status;
mod store;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use zeroize::Zeroizing;

use super::{Abilities, Attributes, Description, Missing, NewSecret, Operator, Stored, Vault, VaultError};
use files::VaultFiles;
use store::Context;
use strongroom_core::ids::{SecretName, SecretVersion};
use strongroom_core::secret::Secret;
use strongroom_policy::{Grant, ListGrant};

pub use backup::Backup;
pub use bulk::{BrokenVersion, Contents, Verification};
pub use rekey::Rekeyed;
pub use retention::{KEEP_VERSIONS, Pruned};
pub use status::{KeySource, Status};

/// How a vault is protected: with what it is created, and with what it is opened.
pub enum Protection {
    /// A key file beside the database. It protects only copies of the database that do not include
    /// the key file.
    KeyFile,
    /// A passphrase, which is needed whenever the vault is opened.
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

/// An open local vault. Clones share its connections.
#[derive(Clone)]
pub struct LocalVault(Arc<Inner>);

/// A local vault whose header was read and that is not open yet.
pub struct LockedVault {
    files: VaultFiles,
    inspected: open::Inspected,
}

impl LockedVault {
    /// Returns whether a passphrase opens the vault; otherwise its key file does.
    pub fn needs_passphrase(&self) -> bool {
        open::needs_passphrase(&self.inspected)
    }

    /// Opens the vault. Blocks.
    ///
    /// # Errors
    /// Those of [`LocalVault::open`].
    pub fn open(self, unlock: Protection) -> Result<LocalVault, VaultError> {
        LocalVault::open_inspected(self.files, self.inspected, &unlock)
    }
}

impl fmt::Debug for LockedVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedVault").field("dir", &self.files.dir).finish_non_exhaustive()
    }
}

struct Inner {
    context: Context,
    // Separate connections, so that reads do not wait while a write is synced or waits for another
    // process.
    reader: Mutex<Connection>,
    writer: Mutex<Connection>,
    /// How many versions of a secret writes keep; zero keeps all.
    keep_versions: AtomicU32,
}

impl LocalVault {
    /// Creates a vault in a directory and opens it. Creates the directory (0700) if missing.
    /// Blocks.
    ///
    /// # Errors
    /// [`VaultError::Invalid`] if the directory already contains a vault or other users can write
    /// to it, or if the passphrase is empty; [`VaultError::Unavailable`] if the files cannot be
    /// created. After a failure, `create` can be called again.
    pub fn create(dir: &Path, protection: Protection) -> Result<Self, VaultError> {
        let files = VaultFiles::in_dir(dir)?;
        open::create(&files, &protection)?;
        Self::open_inspected(files.clone(), open::inspect(&files)?, &protection)
    }

    /// Reads the header of the vault in a directory. Blocks, and changes nothing. The database
    /// stays open until the result is dropped. Before waiting for a passphrase, drop the result and
    /// call [`LocalVault::open`] afterwards, because the vault may be rekeyed or replaced
    /// meanwhile.
    ///
    /// # Errors
    /// Those of [`LocalVault::open`], except errors about the key file or the passphrase.
    pub fn inspect(dir: &Path) -> Result<LockedVault, VaultError> {
        let files = VaultFiles::in_dir(dir)?;
        Ok(LockedVault { inspected: open::inspect(&files)?, files })
    }

    /// Opens the vault in a directory. Blocks, with a passphrase for a large part of a second.
    ///
    /// # Errors
    /// [`VaultError::Absent`] if there is no vault; [`VaultError::Refused`] if the key file or
    /// passphrase is missing or wrong, other users can access the key file, or the format is newer
    /// than this program supports; [`VaultError::Damaged`] if the database differs from what this
    /// program wrote; [`VaultError::Unavailable`] if the files cannot be read. An error leaves the
    /// vault unchanged.
    pub fn open(dir: &Path, unlock: Protection) -> Result<Self, VaultError> {
        Self::inspect(dir)?.open(unlock)
    }

    /// Returns whether a passphrase opens the vault in a directory; otherwise its key file does.
    /// Blocks, and changes nothing.
    ///
    /// # Errors
    /// Those of [`LocalVault::open`], except errors about the key file or the passphrase.
    pub fn needs_passphrase(dir: &Path) -> Result<bool, VaultError> {
        Ok(Self::inspect(dir)?.needs_passphrase())
    }

    fn open_inspected(files: VaultFiles, inspected: open::Inspected, unlock: &Protection) -> Result<Self, VaultError> {
        let opened = open::open(&files, inspected, unlock)?;
        let reader = files.connect()?;
        reader.pragma_update(None, "query_only", true).map_err(|error| files.sql("opened", error))?;
        let context =
            Context { files, vault: opened.vault, data_key: Arc::new(opened.data_key), header: opened.header };
        Ok(Self(Arc::new(Inner {
            context,
            reader: Mutex::new(reader),
            writer: Mutex::new(opened.writer),
            keep_versions: AtomicU32::new(KEEP_VERSIONS),
        })))
    }

    /// Runs database work on a blocking thread.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, VaultError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let inner = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(answer) => answer,
            Err(_) => Err(VaultError::Unavailable(
                "the vault operation was interrupted: the host is shutting down or has a bug".into(),
            )),
        }
    }

    async fn read_version(&self, name: SecretName, version: Option<SecretVersion>) -> Result<Stored, VaultError> {
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
            let keep = inner.keep_versions.load(Ordering::Relaxed);
            let mut deleted = false;
            let written = inner.write(|context, transaction| {
                let mut written = Vec::with_capacity(secrets.len());
                for (name, value, attributes) in &secrets {
                    written.push(context.insert(transaction, name, value, attributes)?);
                    deleted |= keep > 0 && context.delete_old(transaction, name, keep)?;
                }
                Ok(written)
            })?;
            if deleted {
                inner.truncate_wal();
            }
            Ok(written)
        })
        .await
    }

    async fn remove(&self, names: Vec<SecretName>) -> Result<(), VaultError> {
        self.blocking(move |inner| {
            inner.write(|context, transaction| {
                // Check all names first: two names of a batch may refer to one stored secret.
                for name in &names {
                    if !context.exists(transaction, name)? {
                        return Err(VaultError::NotFound(name.clone()));
                    }
                }
                names.iter().try_for_each(|name| context.delete(transaction, name))
            })?;
            inner.truncate_wal();
            Ok(())
        })
        .await
    }
}

impl fmt::Debug for LocalVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalVault").field("dir", &self.0.context.files.dir).finish_non_exhaustive()
    }
}

impl Inner {
    /// Runs a read transaction, which sees one state of the vault.
    fn read<T>(&self, work: impl FnOnce(&Context, &Connection) -> Result<T, VaultError>) -> Result<T, VaultError> {
        let mut connection = lock(&self.reader);
        let transaction = connection.transaction().map_err(|error| self.context.files.sql("read", error))?;
        self.context.check_key(&transaction)?;
        work(&self.context, &transaction)
    }

    /// Runs a write transaction. When this returns, it is durable or has changed nothing.
    fn write<T>(
        &self,
        work: impl FnOnce(&Context, &Transaction<'_>) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let failed = |error| self.context.files.sql("written", error);
        let mut connection = lock(&self.writer);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        // A newer program may have upgraded the vault since it was opened.
        store::check_format(&transaction, &self.context.files)?;
        self.context.check_key(&transaction)?;
        let answer = work(&self.context, &transaction)?;
        transaction.commit().map_err(failed)?;
        Ok(answer)
    }

    /// Truncates the write-ahead log, which may hold deleted or replaced rows. Returns whether this
    /// was done: a reader in another process can prevent it. Then the encrypted remains disappear
    /// with the next deletion, or when the last process closes the vault.
    fn truncate_wal(&self) -> bool {
        let result = lock(&self.writer).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        let truncated = matches!(result, Ok(0));
        if !truncated {
            tracing::debug!("could not truncate the vault's write-ahead log: another process reads it");
        }
        truncated
    }
}

/// A poisoned lock is safe to use: a transaction is rolled back when it unwinds.
fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Vault for LocalVault {
    fn abilities(&self) -> Abilities {
        Abilities { transactions: true, versions: true, soft_delete: false }
    }

    fn address(&self) -> Option<String> {
        let dir = &self.0.context.files.dir;
        Some(strongroom_core::escape::escape_controls(&format!("local:{}", dir.display())))
    }

    async fn get(&self, grant: &Grant) -> Result<Stored, VaultError> {
        self.read_version(grant.stored().clone(), grant.version().cloned()).await
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
        // Decrypt the value although it is not returned: only the authentication tag protects the
        // attributes.
        Ok(self.read_version(grant.stored().clone(), grant.version().cloned()).await?.description)
    }

    async fn set_many(&self, secrets: &[(Grant, Arc<Secret>)]) -> Result<Vec<Description>, VaultError> {
        let without_attributes =
            |(grant, value): &(Grant, _)| (grant.stored().clone(), Arc::clone(value), Attributes::default());
        self.insert(secrets.iter().map(without_attributes).collect()).await
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
        self.read_version(name.clone(), version.cloned()).await
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
