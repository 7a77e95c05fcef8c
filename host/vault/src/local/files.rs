//! Paths of a vault's files, connections to its database, and the translation of database errors.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::io::Errno;

use crate::VaultError;

/// How long an operation waits for a writer in another process.
const BUSY: Duration = Duration::from_secs(5);

/// Paths of the files of one vault.
#[derive(Clone, Debug)]
pub(super) struct VaultFiles {
    /// The directory, absolute.
    pub(super) dir: PathBuf,
    /// The database.
    pub(super) database: PathBuf,
    /// The key file, which exists unless a passphrase protects the vault.
    pub(super) key: PathBuf,
    /// The next key file, which exists during a rekey.
    pub(super) next_key: PathBuf,
}

impl VaultFiles {
    /// Returns the paths for a vault in a directory, which need not exist.
    pub(super) fn in_dir(dir: &Path) -> Result<Self, VaultError> {
        // Absolute, because SQLite interprets a path that begins with `file:` as a URI.
        let dir = std::path::absolute(dir).map_err(|error| {
            VaultError::Unavailable(format!(
                "could not make the path of the directory `{}` absolute: {error}",
                dir.display()
            ))
        })?;
        Ok(Self {
            database: dir.join("vault.sqlite3"),
            key: dir.join("vault.key"),
            next_key: dir.join("vault.key.next"),
            dir,
        })
    }

    /// Returns the database's path with a suffix added to the file name.
    pub(super) fn with_suffix(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("vault.sqlite3{suffix}"))
    }

    /// Returns whether the database exists.
    ///
    /// Uses `lstat` and does not open the file: SQLite's locks are POSIX locks, which the kernel
    /// releases for the whole process as soon as any descriptor of the file is closed.
    pub(super) fn database_exists(&self) -> Result<bool, VaultError> {
        match std::fs::symlink_metadata(&self.database) {
            Ok(data) if data.is_file() => Ok(true),
            Ok(_) => Err(VaultError::Damaged(format!(
                "`{}` is not a regular file: put the vault's own file there",
                self.database.display()
            ))),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                Ok(false)
            }
            Err(error) => Err(self.io("looked at", &self.database, &error)),
        }
    }

    /// Opens a connection to the database, which must exist.
    pub(super) fn connect(&self) -> Result<Connection, VaultError> {
        connect(&self.database).map_err(|error| self.sql("opened", error))
    }

    /// Converts a database error. `done` is what could not be done to the vault, as a participle.
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
            // Rows or a schema that this program does not write.
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

    /// Returns what an operator can do about a file system error. Checks the directory too, because
    /// SQLite's codes say little about the cause.
    fn advice(&self, cause: rusqlite::ffi::Error) -> &'static str {
        use rusqlite::ffi;
        let out_of_space = [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_TRUNCATE];
        match rustix::fs::access(&self.dir, rustix::fs::Access::WRITE_OK) {
            Err(Errno::ROFS) => "its disk is read-only: put the vault on a writable disk",
            Err(Errno::ACCESS) => "its directory must belong to the user who runs this",
            _ if cause.code == ErrorCode::DiskFull || out_of_space.contains(&cause.extended_code) => {
                "free space on its disk, or raise the limit on the size of files (`ulimit -f`), and try again"
            }
            _ => "check the disk and the file's permissions",
        }
    }

    /// Returns the error for a database that differs from what this program wrote.
    pub(super) fn damaged(&self, what: &str) -> VaultError {
        VaultError::Damaged(format!(
            "the vault `{}` is damaged ({what}): nothing was changed; restore it from a backup",
            self.database.display()
        ))
    }

    /// Returns the error for a file that could not be read or written.
    pub(super) fn io(&self, done: &str, path: &Path, error: &std::io::Error) -> VaultError {
        VaultError::Unavailable(format!("`{}` could not be {done}: {error}", path.display()))
    }
}

/// Opens a connection with the settings that every use of a vault needs.
pub(super) fn connect(database: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(BUSY)?;
    // The file is untrusted input: its schema must not trigger other actions.
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
