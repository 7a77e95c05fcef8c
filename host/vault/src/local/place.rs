//! Where a vault's files lie, the connections to its database, and what a failure of the database means to an operator.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::io::Errno;

use crate::VaultError;

/// How long a call waits for another process that is writing.
const BUSY: Duration = Duration::from_secs(5);

/// The files of one vault.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The folder, absolute.
    pub(super) dir: PathBuf,
    /// The database.
    pub(super) database: PathBuf,
    /// The key file, which is there unless a passphrase protects the vault.
    pub(super) key: PathBuf,
    /// The key file of a change of key that is not finished.
    pub(super) next_key: PathBuf,
}

impl Place {
    /// The files of the vault in a folder, which need not exist.
    pub(super) fn of(dir: &Path) -> Result<Self, VaultError> {
        // Absolute, because SQLite reads a path that begins with `file:` as a URI.
        let dir = std::path::absolute(dir).map_err(|error| {
            VaultError::Unavailable(format!("the folder `{}` cannot be named: {error}", dir.display()))
        })?;
        Ok(Self {
            database: dir.join("vault.sqlite3"),
            key: dir.join("vault.key"),
            next_key: dir.join("vault.key.next"),
            dir,
        })
    }

    /// The name of a file that stands beside the database.
    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("vault.sqlite3{suffix}"))
    }

    /// Whether the database is there.
    ///
    /// The file is looked at, never opened: SQLite's locks are POSIX locks, which the kernel gives up for the whole process as
    /// soon as any descriptor of the file is closed.
    pub(super) fn database_exists(&self) -> Result<bool, VaultError> {
        match std::fs::symlink_metadata(&self.database) {
            Ok(data) if data.is_file() => Ok(true),
            Ok(_) => Err(VaultError::Damaged(format!(
                "`{}` is no regular file: put the vault's own file there",
                self.database.display()
            ))),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                Ok(false)
            }
            Err(error) => Err(self.io("looked at", &self.database, &error)),
        }
    }

    /// Opens a connection to the database, which has to exist.
    pub(super) fn connect(&self) -> Result<Connection, VaultError> {
        connect(&self.database).map_err(|error| self.sql("opened", error))
    }

    /// What a failure of the database means. `done` is what could not be done to the vault, as a participle.
    pub(super) fn sql(&self, done: &str, error: rusqlite::Error) -> VaultError {
        use rusqlite::Error as Sql;
        let path = self.database.display();
        match &error {
            Sql::SqliteFailure(cause, _) => match cause.code {
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => VaultError::Unavailable(format!(
                    "the vault `{path}` could not be {done}: another process keeps it busy; try again"
                )),
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation => {
                    self.damaged(&error.to_string())
                }
                _ => VaultError::Unavailable(format!(
                    "the vault `{path}` could not be {done} ({error}): {}",
                    self.advice(*cause)
                )),
            },
            // The rows or the schema are not those that this program writes.
            Sql::FromSqlConversionFailure(..)
            | Sql::IntegralValueOutOfRange(..)
            | Sql::Utf8Error(..)
            | Sql::InvalidColumnType(..)
            | Sql::QueryReturnedNoRows
            | Sql::QueryReturnedMoreThanOneRow
            | Sql::SqlInputError { .. } => self.damaged(&error.to_string()),
            _ => VaultError::Unavailable(format!("the vault `{path}` could not be {done} ({error})")),
        }
    }

    /// What an operator can do about a file system that refuses. SQLite says little about why, so the folder is asked too.
    fn advice(&self, cause: rusqlite::ffi::Error) -> &'static str {
        use rusqlite::ffi;
        let no_room = [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_TRUNCATE];
        match rustix::fs::access(&self.dir, rustix::fs::Access::WRITE_OK) {
            Err(Errno::ROFS) => "its disk is read-only: put the vault on one that can be written",
            Err(Errno::ACCESS) => "its folder has to belong to the user who runs this",
            _ if cause.code == ErrorCode::DiskFull || no_room.contains(&cause.extended_code) => {
                "make room on its disk, or raise the limit on the size of files (`ulimit -f`), and try again"
            }
            _ => "check the disk and the file's permissions",
        }
    }

    /// The database is not as this program wrote it.
    pub(super) fn damaged(&self, what: &str) -> VaultError {
        VaultError::Damaged(format!(
            "the vault `{}` is damaged ({what}): nothing was changed; restore it from a backup",
            self.database.display()
        ))
    }

    /// A file could not be read or written.
    pub(super) fn io(&self, done: &str, path: &Path, error: &std::io::Error) -> VaultError {
        VaultError::Unavailable(format!("`{}` could not be {done}: {error}", path.display()))
    }
}

/// Opens a connection with the settings that every use of a vault needs.
pub(super) fn connect(database: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(BUSY)?;
    // What stands in the file is input: its schema must not make the database do anything else.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.execute_batch(
        "PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;
         PRAGMA secure_delete = ON; PRAGMA synchronous = FULL;",
    )?;
    Ok(connection)
}
