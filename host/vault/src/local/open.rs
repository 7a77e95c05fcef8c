//! Creates and opens vaults.
//!
//! `create` builds all files under temporary names and renames them at the end, under a lock on the
//! directory, so that a crash leaves either a complete vault or none. `open` writes nothing before
//! the key has been verified.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::files::{self, VaultFiles};
use super::header::{self, Header, Wrapping};
use super::seal::{self, Key};
use super::{Protection, keyfile, keys, store};
use crate::VaultError;

/// SQLite application ID of a vault: `strg`.
pub(super) const APPLICATION_ID: i64 = 0x7374_7267;

/// An open vault whose key has been verified.
pub(super) struct Opened {
    pub(super) writer: Connection,
    pub(super) vault: [u8; 16],
    pub(super) data_key: Key,
    /// Checksum of the header.
    pub(super) header: [u8; 32],
}

/// Creates a vault.
pub(super) fn create(files: &VaultFiles, protection: &Protection) -> Result<(), VaultError> {
    let mut vault = [0; 16];
    seal::fill(&mut vault)?;
    refuse_existing_vault(files)?;
    // Before taking the lock, because Argon2id is slow.
    let (wrapping, wrapping_key) = keys::make(protection)?;
    let header = Header::wrap(vault, wrapping, &wrapping_key, &Key::generate()?)?;

    let _lock = create_dir(files)?;
    refuse_existing_vault(files)?;
    let new_database = files.with_suffix(".new");
    let new_key = files.dir.join("vault.key.new");
    for leftover in [
        &new_database,
        &new_key,
        &files.with_suffix(".new-journal"),
        &files.with_suffix(".new-wal"),
        &files.with_suffix(".new-shm"),
    ] {
        remove(files, leftover)?;
    }

    build_database(&new_database, &header, files)?;
    if header.wrapping == Wrapping::KeyFile {
        keyfile::write(files, &new_key, &vault, &wrapping_key)?;
        keys::set_aside(files)?;
        // Rename the key first: there must never be a database without its key.
        rename(files, &new_key, &files.key)?;
    }
    rename(files, &new_database, &files.database)?;
    sync_dir(files, &files.dir)?;
    if let Some(parent) = files.dir.parent() {
        sync_dir(files, parent)?;
    }
    Ok(())
}

/// Connection and header of a vault.
pub(super) type Inspected = (Connection, Header);

/// Returns whether a passphrase opens the vault.
pub(super) fn needs_passphrase((_, header): &Inspected) -> bool {
    matches!(header.wrapping, Wrapping::Passphrase(_))
}

/// Opens a vault that was inspected just before.
pub(super) fn open(files: &VaultFiles, (writer, header): Inspected, unlock: &Protection) -> Result<Opened, VaultError> {
    let (header, wrapping_key) = keys::find_current(files, &writer, header, unlock)?;
    let data_key = header.unwrap(files, &wrapping_key)?;

    // The key is verified: from here on, writing is allowed.
    let failed = |error| files.sql("opened", error);
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(failed)?;
    let mode: String = writer.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(VaultError::Unavailable(format!(
            "the vault `{}` cannot use a write-ahead log here: put it on a local disk",
            files.database.display()
        )));
    }
    keys::settle(files, &writer)?;
    Ok(Opened { writer, vault: header.vault, data_key, header: header.checksum() })
}

/// Checks a vault's format version and reads its header. Changes nothing.
pub(super) fn inspect(files: &VaultFiles) -> Result<Inspected, VaultError> {
    if !files.database_exists()? {
        return Err(VaultError::Absent(format!("there is no vault in `{}`", files.dir.display())));
    }
    let connection = files.connect()?;
    let failed = |error| files.sql("opened", error);
    // A log that a crash left behind is merged when the last connection closes. Prevent that until
    // the key has been verified.
    let has_wal = fs::symlink_metadata(files.with_suffix("-wal")).is_ok_and(|data| data.len() > 0);
    if has_wal {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    }
    let application_id: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(failed)?;
    if application_id != APPLICATION_ID {
        return Err(VaultError::Damaged(format!(
            "`{}` is not a strongroom vault: nothing was changed; put the vault's own file there",
            files.database.display()
        )));
    }
    store::check_format(&connection, files)?;
    // SQLite detects missing pages, but accepts a truncated page.
    let page: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(failed)?;
    let length =
        fs::symlink_metadata(&files.database).map_err(|error| files.io("read", &files.database, &error))?.len();
    if !has_wal && !length.is_multiple_of(page.into()) {
        return Err(files.damaged("it ends inside a page"));
    }
    let header = Header::load(&connection, files)?;
    Ok((connection, header))
}

fn refuse_existing_vault(files: &VaultFiles) -> Result<(), VaultError> {
    if files.database_exists()? {
        return Err(VaultError::Invalid(format!(
            "there is already a vault in `{}`: nothing was changed; use it, or name another place",
            files.dir.display()
        )));
    }
    // SQLite would replay a stray log into the new database.
    for suffix in ["-wal", "-shm", "-journal"] {
        let path = files.with_suffix(suffix);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(VaultError::Invalid(format!(
                "`{}` is left over from a vault whose database is gone: restore the database, or move the file away",
                path.display()
            )));
        }
    }
    Ok(())
}

/// Creates the directory if missing and locks it against another process that creates a vault in
/// it.
fn create_dir(files: &VaultFiles) -> Result<File, VaultError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&files.dir)
        .map_err(|error| files.io("made", &files.dir, &error))?;
    let lock = lock_dir(files)?;
    let data = lock.metadata().map_err(|error| files.io("read", &files.dir, &error))?;
    if data.mode() & 0o022 != 0 {
        return Err(VaultError::Invalid(format!(
            "the folder `{}` can be written by others (mode {:04o}): run `chmod 700` on it, or name another place",
            files.dir.display(),
            data.mode() & 0o7777
        )));
    }
    Ok(lock)
}

/// Locks the directory until the returned file is dropped.
pub(super) fn lock_dir(files: &VaultFiles) -> Result<File, VaultError> {
    let folder = File::open(&files.dir).map_err(|error| files.io("opened", &files.dir, &error))?;
    folder.lock().map_err(|error| files.io("locked", &files.dir, &error))?;
    Ok(folder)
}

fn build_database(path: &Path, header: &Header, files: &VaultFiles) -> Result<(), VaultError> {
    let io = |error| files.io("written", path, &error);
    // Created here to set its mode, which SQLite copies to the log files.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    let build = || -> rusqlite::Result<()> {
        let mut connection = files::connect(path)?;
        let transaction = connection.transaction()?;
        transaction.execute_batch(header::TABLE)?;
        transaction.execute_batch(store::TABLES)?;
        header.store(&transaction)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", store::FORMAT)?;
        transaction.commit()?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.close().map_err(|(_, error)| error)
    };
    build().map_err(|error| files.sql("made", error))?;
    File::open(path).and_then(|file| file.sync_all()).map_err(io)
}

pub(super) fn rename(files: &VaultFiles, from: &Path, to: &Path) -> Result<(), VaultError> {
    fs::rename(from, to).map_err(|error| files.io("renamed", from, &error))
}

/// Removes a file that an interrupted attempt left behind, if there is one.
pub(super) fn remove(files: &VaultFiles, path: &Path) -> Result<(), VaultError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(files.io("removed", path, &error)),
    }
}

/// Makes renames in a directory durable.
pub(super) fn sync_dir(files: &VaultFiles, path: &Path) -> Result<(), VaultError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| files.io("synced", path, &error))
}
