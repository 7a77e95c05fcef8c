//! Rows of the database: one per version of a secret.
//!
//! A row's serial number grows with every version written, independent of the clock; the newest
//! version of a secret has the greatest one. The serial number is authenticated with the value, so
//! that an edit cannot make an old version the newest.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::files::VaultFiles;
use super::header;
use super::seal::{self, Binding, Key, NONCE_LEN};
use crate::{Attributes, Description, Stored, VaultError};
use strongroom_core::ids::{SecretName, SecretVersion};
use strongroom_core::secret::Secret;

/// The format version that this program supports: the database's `user_version`.
pub(super) const FORMAT: i64 = 1;

/// SQL that creates the tables. Times are integers: microseconds since 1970.
pub(super) const TABLES: &str = "CREATE TABLE versions (
    serial INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    content_type TEXT,
    not_before INTEGER,
    expires INTEGER,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    nonce BLOB NOT NULL,
    sealed BLOB NOT NULL,
    UNIQUE (name, version)
) STRICT;
CREATE INDEX versions_by_name ON versions (name, serial);";

pub(super) const COLUMNS: &str =
    "serial, name, version, content_type, not_before, expires, created, updated, nonce, sealed";

/// What is needed to read and write rows.
pub(super) struct Context {
    pub(super) files: VaultFiles,
    pub(super) vault: [u8; 16],
    pub(super) data_key: Arc<Key>,
    /// Checksum of the header from which the data key was unwrapped.
    pub(super) header: [u8; 32],
}

/// Checks that a database has the format version that this program supports.
pub(super) fn check_format(connection: &Connection, files: &VaultFiles) -> Result<(), VaultError> {
    let format = connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    match format.map_err(|error| files.sql("read", error))? {
        FORMAT => Ok(()),
        newer if newer > FORMAT => Err(VaultError::Refused(format!(
            "the vault `{}` has format {newer}, but this program supports only format {FORMAT}: nothing was changed; use a newer strongroom",
            files.database.display()
        ))),
        _ => Err(files.damaged("its format version is invalid")),
    }
}

/// A row before decryption.
pub(super) struct Raw {
    serial: i64,
    pub(super) name: String,
    pub(super) version: String,
    content_type: Option<String>,
    not_before: Option<i64>,
    expires: Option<i64>,
    created: i64,
    updated: i64,
    nonce: [u8; NONCE_LEN],
    sealed: Vec<u8>,
}

impl Raw {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            serial: row.get(0)?,
            name: row.get(1)?,
            version: row.get(2)?,
            content_type: row.get(3)?,
            not_before: row.get(4)?,
            expires: row.get(5)?,
            created: row.get(6)?,
            updated: row.get(7)?,
            nonce: row.get(8)?,
            sealed: row.get(9)?,
        })
    }
}

impl Context {
    fn sql(&self, error: rusqlite::Error) -> VaultError {
        self.files.sql("read", error)
    }

    /// Fails if the vault was rekeyed since this handle was opened, because the data key is then
    /// out of date. Called in every transaction, so that no row is ever encrypted under a replaced
    /// key.
    pub(super) fn check_key(&self, connection: &Connection) -> Result<(), VaultError> {
        match header::stored_checksum(connection).map_err(|error| self.sql(error))? {
            Some(header) if header == self.header => Ok(()),
            Some(_) => Err(VaultError::Refused(format!(
                "the vault `{}` was rekeyed after this program opened it: nothing was changed; restart the program",
                self.files.database.display()
            ))),
            None => Err(self.files.damaged("it has no header")),
        }
    }

    /// Returns a version of a secret, or the newest; `None` if it does not exist.
    pub(super) fn find(
        &self,
        connection: &Connection,
        name: &SecretName,
        version: Option<&SecretVersion>,
    ) -> Result<Option<Stored>, VaultError> {
        let raw = match version {
            Some(version) => connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM versions WHERE name = ?1 AND version = ?2"))
                .and_then(|mut statement| statement.query_row([name.as_str(), version.as_str()], Raw::read).optional()),
            None => connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM versions WHERE name = ?1 ORDER BY serial DESC LIMIT 1"))
                .and_then(|mut statement| statement.query_row([name.as_str()], Raw::read).optional()),
        };
        raw.map_err(|error| self.sql(error))?.map(|raw| self.unseal(raw)).transpose()
    }

    /// Returns whether a secret has any version. Decrypts nothing: names are not secret.
    pub(super) fn exists(&self, connection: &Connection, name: &SecretName) -> Result<bool, VaultError> {
        connection
            .prepare_cached("SELECT 1 FROM versions WHERE name = ?1 LIMIT 1")
            .and_then(|mut statement| statement.exists([name.as_str()]))
            .map_err(|error| self.sql(error))
    }

    /// Returns all names, sorted.
    pub(super) fn names(&self, connection: &Connection) -> Result<Vec<SecretName>, VaultError> {
        let texts: Vec<String> = connection
            .prepare_cached("SELECT DISTINCT name FROM versions ORDER BY name")
            .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
            .map_err(|error| self.sql(error))?;
        texts.iter().map(|text| self.name(text)).collect()
    }

    /// Returns the newest version of every secret, sorted by name. Decrypts every value, because
    /// only its authentication tag protects the attributes.
    pub(super) fn newest(&self, connection: &Connection) -> Result<Vec<Description>, VaultError> {
        self.describe_all(
            connection,
            &format!(
                "SELECT {COLUMNS} FROM versions AS row
                 WHERE serial = (SELECT max(serial) FROM versions WHERE name = row.name) ORDER BY name"
            ),
            [],
        )
    }

    /// Returns all versions of a secret, newest first.
    pub(super) fn versions(&self, connection: &Connection, name: &SecretName) -> Result<Vec<Description>, VaultError> {
        self.describe_all(
            connection,
            &format!("SELECT {COLUMNS} FROM versions WHERE name = ?1 ORDER BY serial DESC"),
            [name.as_str()],
        )
    }

    fn describe_all(
        &self,
        connection: &Connection,
        sql: &str,
        values: impl rusqlite::Params,
    ) -> Result<Vec<Description>, VaultError> {
        let mut statement = connection.prepare_cached(sql).map_err(|error| self.sql(error))?;
        let rows = statement.query_map(values, Raw::read).map_err(|error| self.sql(error))?;
        // One at a time, so that at most one decrypted value is in memory.
        rows.map(|raw| Ok(self.unseal(raw.map_err(|error| self.sql(error))?)?.description)).collect()
    }

    /// Adds a version. The caller has checked the attributes.
    pub(super) fn insert(
        &self,
        transaction: &Transaction<'_>,
        name: &SecretName,
        value: &Secret,
        attributes: &Attributes,
    ) -> Result<Description, VaultError> {
        let failed = |error| self.files.sql("written", error);
        let mut id = [0; 16];
        seal::fill(&mut id)?;
        let version = SecretVersion::parse(&format!("{:032x}", u128::from_be_bytes(id)))
            .map_err(|error| VaultError::Invalid(error.to_string()))?;
        // Use the greater of both, because an edit could reset either, and the new version must
        // come after all existing ones.
        let last_serial: i64 = transaction
            .query_row(
                "SELECT max(coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = 'versions'), 0),
                            coalesce((SELECT max(serial) FROM versions), 0))",
                [],
                |row| row.get(0),
            )
            .map_err(failed)?;
        let serial =
            last_serial.checked_add(1).ok_or_else(|| self.files.damaged("its serial numbers are exhausted"))?;
        let now = now();
        let description = Description {
            name: name.clone(),
            version,
            attributes: Attributes {
                content_type: attributes.content_type.clone(),
                not_before: attributes.not_before.map(to_micros),
                expires: attributes.expires.map(to_micros),
            },
            created: now,
            updated: now,
            enabled: true,
        };
        let sealed = seal::seal_value(&self.data_key, &self.binding(serial, &description), value)?;
        transaction
            .prepare_cached(&format!(
                "INSERT INTO versions ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
            ))
            .and_then(|mut statement| {
                statement.execute(params![
                    serial,
                    name.as_str(),
                    description.version.as_str(),
                    description.attributes.content_type,
                    description.attributes.not_before.map(Timestamp::as_microsecond),
                    description.attributes.expires.map(Timestamp::as_microsecond),
                    description.created.as_microsecond(),
                    description.updated.as_microsecond(),
                    sealed.nonce,
                    sealed.bytes,
                ])
            })
            .map_err(failed)?;
        Ok(description)
    }

    /// Deletes a secret with all its versions.
    pub(super) fn delete(&self, transaction: &Transaction<'_>, name: &SecretName) -> Result<(), VaultError> {
        transaction
            .prepare_cached("DELETE FROM versions WHERE name = ?1")
            .and_then(|mut statement| statement.execute([name.as_str()]))
            .map_err(|error| self.files.sql("written", error))?;
        Ok(())
    }

    /// Decrypts a row.
    pub(super) fn unseal(&self, raw: Raw) -> Result<Stored, VaultError> {
        let name = self.name(&raw.name)?;
        let broken = || {
            VaultError::Damaged(format!(
                "the secret `{name}` in the vault `{}` is damaged or was tampered with: restore a backup, or set it again",
                self.files.database.display()
            ))
        };
        let time = |micros| Timestamp::from_microsecond(micros).map_err(|_| broken());
        let description = Description {
            name: name.clone(),
            version: SecretVersion::parse(&raw.version).map_err(|_| broken())?,
            attributes: Attributes {
                content_type: raw.content_type,
                not_before: raw.not_before.map(time).transpose()?,
                expires: raw.expires.map(time).transpose()?,
            },
            created: time(raw.created)?,
            updated: time(raw.updated)?,
            enabled: true,
        };
        let binding = self.binding(raw.serial, &description);
        let value: Arc<Secret> =
            seal::open_value(&self.data_key, &binding, &raw.nonce, raw.sealed).map_err(|_| broken())?;
        Ok(Stored { value, description, stale: false })
    }

    /// Returns the associated data that authenticates a row's value.
    pub(super) fn binding(&self, serial: i64, description: &Description) -> Binding {
        Binding::new("strongroom vault value 1")
            .bytes(&self.vault)
            .number(serial)
            .bytes(description.name.as_str().as_bytes())
            .bytes(description.version.as_str().as_bytes())
            .optional_text(description.attributes.content_type.as_deref())
            .optional_number(description.attributes.not_before.map(Timestamp::as_microsecond))
            .optional_number(description.attributes.expires.map(Timestamp::as_microsecond))
            .number(description.created.as_microsecond())
            .number(description.updated.as_microsecond())
    }

    fn name(&self, text: &str) -> Result<SecretName, VaultError> {
        // Only the folded form is ever written; another spelling would be a second secret of the
        // same name.
        SecretName::parse(text)
            .ok()
            .filter(|name| name.as_str() == text)
            .ok_or_else(|| self.files.damaged("it contains an invalid secret name"))
    }
}

fn now() -> Timestamp {
    to_micros(Timestamp::now())
}

/// Truncates a time to the precision of the table, so that a write returns what a read will.
fn to_micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}
