//! Retention: how many versions of a secret the vault keeps.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, Transaction};

use super::store::Context;
use super::{Inner, LocalVault, lock};
use crate::VaultError;
use strongroom_core::ids::SecretName;

/// How many versions of a secret a vault keeps by default.
pub const KEEP_VERSIONS: u32 = 100;

/// What was deleted, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Number of secrets with old versions.
    pub secrets: u64,
    /// Number of old versions.
    pub versions: u64,
}

/// The versions beyond the newest `?1` of each secret.
const OLD: &str = "(SELECT serial, name FROM
    (SELECT serial, name, row_number() OVER (PARTITION BY name ORDER BY serial DESC) AS place FROM versions)
    WHERE place > ?1)";

impl LocalVault {
    /// Sets how many versions of a secret this handle and its clones keep: each write deletes the
    /// oldest ones beyond that number. Zero keeps all. The default is [`KEEP_VERSIONS`].
    #[must_use]
    pub fn keeping(self, versions: u32) -> Self {
        self.0.keep_versions.store(versions, Ordering::Relaxed);
        self
    }

    /// Deletes the versions of every secret beyond the newest `keep`, and returns the disk space to
    /// the system. Only counts them if `dry_run` is set.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] if another process is writing, or the files cannot be written.
    /// Nothing was deleted then.
    pub async fn prune(&self, keep: NonZeroU32, dry_run: bool) -> Result<Pruned, VaultError> {
        self.blocking(move |inner| {
            if dry_run {
                return inner.read(|context, connection| context.count_old(connection, keep));
            }
            let pruned = inner.write(|context, transaction| {
                let pruned = context.count_old(transaction, keep)?;
                transaction
                    .execute(&format!("DELETE FROM versions WHERE serial IN (SELECT serial FROM {OLD})"), [keep.get()])
                    .map_err(|error| context.files.sql("written", error))?;
                Ok(pruned)
            })?;
            inner.compact();
            inner.truncate_wal();
            Ok(pruned)
        })
        .await
    }
}

impl Inner {
    /// Returns the space of deleted rows to the system. The vault reuses the space if this fails.
    fn compact(&self) {
        if let Err(error) = lock(&self.writer).execute_batch("VACUUM") {
            tracing::debug!(%error, "could not compact the vault");
        }
    }
}

impl Context {
    fn count_old(&self, connection: &Connection, keep: NonZeroU32) -> Result<Pruned, VaultError> {
        let number = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(i64::unsigned_abs);
        connection
            .query_row(&format!("SELECT count(DISTINCT name), count(*) FROM {OLD}"), [keep.get()], |row| {
                Ok(Pruned { secrets: number(row, 0)?, versions: number(row, 1)? })
            })
            .map_err(|error| self.files.sql("read", error))
    }

    /// Deletes the versions of a secret beyond the newest `keep`. Returns whether there were any.
    pub(super) fn delete_old(
        &self,
        transaction: &Transaction<'_>,
        name: &SecretName,
        keep: u32,
    ) -> Result<bool, VaultError> {
        transaction
            .prepare_cached(
                "DELETE FROM versions WHERE name = ?1 AND serial <=
                 (SELECT serial FROM versions WHERE name = ?1 ORDER BY serial DESC LIMIT 1 OFFSET ?2)",
            )
            .and_then(|mut statement| statement.execute(rusqlite::params![name.as_str(), keep]))
            .map(|deleted| deleted > 0)
            .map_err(|error| self.files.sql("written", error))
    }
}
