//! Operations on all versions of a vault: counting, verifying and re-encrypting them.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::LocalVault;
use super::seal::{self, Key};
use super::store::{COLUMNS, Context, Raw};
use crate::VaultError;

/// Number of secrets and versions in a vault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Number of secrets.
    pub secrets: u64,
    /// Number of versions of all secrets.
    pub versions: u64,
}

/// Result of verifying a vault.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Number of secrets and versions.
    pub contents: Contents,
    /// Versions that cannot be decrypted.
    pub broken: Vec<BrokenVersion>,
    /// The first problem of the database's own structure, if there is one.
    pub structure: Option<String>,
}

/// A version that cannot be decrypted because it differs from what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenVersion {
    /// The name in the database.
    pub name: String,
    /// The version in the database.
    pub version: String,
}

impl Verification {
    /// Returns whether no problem was found.
    pub fn is_whole(&self) -> bool {
        self.broken.is_empty() && self.structure.is_none()
    }
}

impl LocalVault {
    /// Decrypts every version in one state of the vault, and checks the database's structure.
    /// Returns no values and changes nothing.
    ///
    /// # Errors
    /// The database cannot be read, or was rekeyed since it was opened.
    pub async fn verify(&self) -> Result<Verification, VaultError> {
        self.blocking(|inner| inner.read(|context, connection| context.verify(connection))).await
    }
}

/// Counts secrets and versions. Needs no key.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<Contents> {
    connection.query_row("SELECT count(DISTINCT name), count(*) FROM versions", [], |row| {
        let number = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
        Ok(Contents { secrets: number(0)?, versions: number(1)? })
    })
}

impl Context {
    /// Decrypts every version and checks the structure.
    pub(super) fn verify(&self, connection: &Connection) -> Result<Verification, VaultError> {
        let failed = |error| self.files.sql("read", error);
        // The first problem suffices to show that a backup is needed.
        let structure: String =
            connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(failed)?;
        let mut verification = Verification {
            contents: count(connection).map_err(failed)?,
            broken: Vec::new(),
            structure: (structure != "ok").then_some(structure),
        };
        for serial in serials(connection).map_err(failed)? {
            match self.raw(connection, serial) {
                Ok(raw) => {
                    let broken = BrokenVersion { name: raw.name.clone(), version: raw.version.clone() };
                    if self.unseal(raw).is_err() {
                        verification.broken.push(broken);
                    }
                }
                // A field has a length or type that this program never writes.
                Err(VaultError::Damaged(_)) => verification.broken.push(self.broken_version(connection, serial)?),
                Err(error) => return Err(error),
            }
        }
        Ok(verification)
    }

    /// Re-encrypts every version under another data key. Fails if a version cannot be decrypted.
    pub(super) fn reencrypt(&self, transaction: &Transaction<'_>, key: &Key) -> Result<Contents, VaultError> {
        let failed = |error| self.files.sql("written", error);
        for serial in serials(transaction).map_err(failed)? {
            let stored =
                self.raw(transaction, serial).and_then(|raw| self.unseal(raw)).map_err(|error| match error {
                    VaultError::Damaged(_) => VaultError::Damaged(format!(
                        "{error}; the vault keeps its key until every version can be decrypted or is deleted"
                    )),
                    error => error,
                })?;
            let sealed = seal::seal_value(key, &self.binding(serial, &stored.description), &stored.value)?;
            transaction
                .prepare_cached("UPDATE versions SET nonce = ?2, sealed = ?3 WHERE serial = ?1")
                .and_then(|mut statement| statement.execute(params![serial, sealed.nonce, sealed.bytes]))
                .map_err(failed)?;
        }
        count(transaction).map_err(failed)
    }

    fn raw(&self, connection: &Connection, serial: i64) -> Result<Raw, VaultError> {
        connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM versions WHERE serial = ?1"))
            .and_then(|mut statement| statement.query_row([serial], Raw::read))
            .map_err(|error| self.files.sql("read", error))
    }

    fn broken_version(&self, connection: &Connection, serial: i64) -> Result<BrokenVersion, VaultError> {
        let found = connection
            .query_row("SELECT name, version FROM versions WHERE serial = ?1", [serial], |row| {
                Ok(BrokenVersion { name: row.get(0)?, version: row.get(1)? })
            })
            .optional()
            .map_err(|error| self.files.sql("read", error))?;
        found.ok_or_else(|| self.files.damaged("its index refers to a missing row"))
    }
}

/// Returns the serial numbers of all rows, so that rows can be read one at a time.
fn serials(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    connection.prepare_cached("SELECT serial FROM versions ORDER BY serial")?.query_map([], |row| row.get(0))?.collect()
}
