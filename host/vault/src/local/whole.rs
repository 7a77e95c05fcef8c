//! What is done with all versions of a vault at once: counting them, opening each, sealing each anew.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::LocalVault;
use super::seal::{self, Key};
use super::store::{COLUMNS, Context, Raw};
use crate::VaultError;

/// How much a vault holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Names.
    pub secrets: u64,
    /// Versions of all of them.
    pub versions: u64,
}

/// What came of opening every version.
#[derive(Clone, Debug)]
pub struct Verification {
    /// What the vault holds.
    pub contents: Contents,
    /// The versions that do not open.
    pub broken: Vec<BrokenVersion>,
    /// What the database says of its own structure, where something is wrong with it.
    pub structure: Option<String>,
}

/// A version that does not open: it is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenVersion {
    /// The name, as it stands in the database.
    pub name: String,
    /// The version, as it stands in the database.
    pub version: String,
}

impl Verification {
    /// Whether everything is as it was written.
    pub fn is_whole(&self) -> bool {
        self.broken.is_empty() && self.structure.is_none()
    }
}

impl LocalVault {
    /// Opens every version, in one state of the vault, and checks the database's structure. Hands no value out and changes nothing.
    ///
    /// # Errors
    /// The database cannot be read at all, or was given another key since it was opened.
    pub async fn verify(&self) -> Result<Verification, VaultError> {
        self.blocking(|inner| inner.read(|context, connection| context.verify(connection))).await
    }
}

/// What a database holds. Needs no key.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<Contents> {
    connection.query_row("SELECT count(DISTINCT name), count(*) FROM versions", [], |row| {
        let number = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
        Ok(Contents { secrets: number(0)?, versions: number(1)? })
    })
}

impl Context {
    /// Opens every version and checks the structure.
    pub(super) fn verify(&self, connection: &Connection) -> Result<Verification, VaultError> {
        let failed = |error| self.place.sql("read", error);
        // The first problem is enough to know that a backup is needed.
        let said: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(failed)?;
        let mut verification = Verification {
            contents: count(connection).map_err(failed)?,
            broken: Vec::new(),
            structure: (said != "ok").then_some(said),
        };
        for serial in serials(connection).map_err(failed)? {
            match self.raw(connection, serial) {
                Ok(raw) => {
                    let broken = BrokenVersion { name: raw.name.clone(), version: raw.version.clone() };
                    if self.unseal(raw).is_err() {
                        verification.broken.push(broken);
                    }
                }
                // A field of a length or type that is never written.
                Err(VaultError::Damaged(_)) => verification.broken.push(self.names_of(connection, serial)?),
                Err(error) => return Err(error),
            }
        }
        Ok(verification)
    }

    /// Seals every version anew under another data key. A version that does not open stops it.
    pub(super) fn reseal(&self, transaction: &Transaction<'_>, key: &Key) -> Result<Contents, VaultError> {
        let failed = |error| self.place.sql("written", error);
        for serial in serials(transaction).map_err(failed)? {
            let stored =
                self.raw(transaction, serial).and_then(|raw| self.unseal(raw)).map_err(|error| match error {
                    VaultError::Damaged(_) => VaultError::Damaged(format!(
                        "{error}; the vault keeps its key until every version opens, or is deleted"
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
            .map_err(|error| self.place.sql("read", error))
    }

    fn names_of(&self, connection: &Connection, serial: i64) -> Result<BrokenVersion, VaultError> {
        let found = connection
            .query_row("SELECT name, version FROM versions WHERE serial = ?1", [serial], |row| {
                Ok(BrokenVersion { name: row.get(0)?, version: row.get(1)? })
            })
            .optional()
            .map_err(|error| self.place.sql("read", error))?;
        found.ok_or_else(|| self.place.damaged("its index names a row that is not there"))
    }
}

/// The rows by number, so that no more than one is held at once.
fn serials(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    connection.prepare_cached("SELECT serial FROM versions ORDER BY serial")?.query_map([], |row| row.get(0))?.collect()
}
