//! Making a vault, and opening one.
//!
//! Making: everything is built under other names and renamed at the end, under a lock on the folder, so that a crash leaves either
//! a whole vault or none. Opening: nothing is written before the key has been proved right.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::header::{self, Header, Wrapping};
use super::place::{self, Place};
use super::seal::{self, Key};
use super::{Protection, Unlock, keyfile, keys, store, upgrade};
use crate::VaultError;

/// Marks the database as ours: `strg`.
pub(super) const APPLICATION_ID: i64 = 0x7374_7267;

/// A vault whose key was proved right.
pub(super) struct Opened {
    pub(super) writer: Connection,
    pub(super) vault: [u8; 16],
    pub(super) data_key: Key,
    /// The checksum of the header.
    pub(super) header: [u8; 32],
}

/// Makes a vault.
pub(super) fn create(place: &Place, protection: &Protection) -> Result<(), VaultError> {
    let mut vault = [0; 16];
    seal::fill(&mut vault)?;
    refuse_existing(place)?;
    // Before the lock, because Argon2id takes its time.
    let (wrapping, wrapping_key) = keys::make(protection)?;
    let header = Header::wrap(vault, wrapping, &wrapping_key, &Key::generate()?)?;

    let _lock = make_folder(place)?;
    refuse_existing(place)?;
    let new_database = place.beside(".new");
    let new_key = place.dir.join("vault.key.new");
    for left in
        [&new_database, &new_key, &place.beside(".new-journal"), &place.beside(".new-wal"), &place.beside(".new-shm")]
    {
        remove(place, left)?;
    }

    build_database(&new_database, &header, place)?;
    if header.wrapping == Wrapping::KeyFile {
        keyfile::write(place, &new_key, &vault, &wrapping_key)?;
        keys::set_aside(place)?;
        // The key first: a database without its key is what must not be there.
        rename(place, &new_key, &place.key)?;
    }
    rename(place, &new_database, &place.database)?;
    sync_folder(place, &place.dir)?;
    if let Some(parent) = place.dir.parent() {
        sync_folder(place, parent)?;
    }
    Ok(())
}

/// What a vault says of itself, with the connection that asked it.
pub(super) type Looked = (Connection, Header, i64);

/// Whether a vault asks for a passphrase.
pub(super) fn needs_passphrase((_, header, _): &Looked) -> bool {
    matches!(header.wrapping, Wrapping::Passphrase(_))
}

/// Opens a vault that was looked at just now.
pub(super) fn open(
    place: &Place,
    (mut writer, header, format): Looked,
    unlock: &Unlock,
    steps: &[upgrade::Step],
) -> Result<Opened, VaultError> {
    upgrade::check(place, format, steps)?;
    let (header, wrapping_key) = keys::prove(place, &writer, header, unlock)?;
    let data_key = header.unwrap(place, &wrapping_key)?;

    // From here on the vault is ours to write.
    let failed = |error| place.sql("opened", error);
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(failed)?;
    if format != store::FORMAT {
        let _lock = lock_folder(place)?;
        upgrade::run(place, &mut writer, steps)?;
    }
    let mode: String = writer.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(VaultError::Unavailable(format!(
            "the vault `{}` cannot use a write-ahead log here: put it on a local disk",
            place.database.display()
        )));
    }
    keys::settle(place, &writer)?;
    Ok(Opened { writer, vault: header.vault, data_key, header: header.checksum() })
}

/// Reads what a vault says of itself, and changes nothing.
pub(super) fn look(place: &Place) -> Result<Looked, VaultError> {
    if !place.database_exists()? {
        return Err(VaultError::Absent(format!(
            "there is no vault in `{}`: make one with `strongroom init`, or name another place",
            place.dir.display()
        )));
    }
    let connection = place.connect()?;
    let failed = |error| place.sql("opened", error);
    // A log that a crash left behind is merged when the last connection closes. Not before the key is proved right.
    let has_log = fs::symlink_metadata(place.beside("-wal")).is_ok_and(|data| data.len() > 0);
    if has_log {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    }
    let mark: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(failed)?;
    if mark != APPLICATION_ID {
        return Err(VaultError::Damaged(format!(
            "`{}` is no vault of strongroom: nothing was changed; put the vault's own file there",
            place.database.display()
        )));
    }
    let format = store::format(&connection).map_err(failed)?;
    if format > store::FORMAT {
        return Err(upgrade::newer(place, format));
    }
    // SQLite notices missing pages, and takes a part of a page for a whole one.
    let page: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(failed)?;
    let length =
        fs::symlink_metadata(&place.database).map_err(|error| place.io("read", &place.database, &error))?.len();
    if !has_log && !length.is_multiple_of(page.into()) {
        return Err(place.damaged("it is cut off inside a page"));
    }
    let header = Header::load(&connection, place)?;
    Ok((connection, header, format))
}

fn refuse_existing(place: &Place) -> Result<(), VaultError> {
    if place.database_exists()? {
        return Err(VaultError::Invalid(format!(
            "there is a vault in `{}` already: nothing was changed; use it, or name another place",
            place.dir.display()
        )));
    }
    // SQLite would play a stray log into the new database.
    for suffix in ["-wal", "-shm", "-journal"] {
        let path = place.beside(suffix);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(VaultError::Invalid(format!(
                "`{}` is left of a vault whose database is gone: restore the database, or move the file away",
                path.display()
            )));
        }
    }
    Ok(())
}

/// Makes the folder where it is missing and locks it against another process that makes a vault here.
fn make_folder(place: &Place) -> Result<File, VaultError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&place.dir)
        .map_err(|error| place.io("made", &place.dir, &error))?;
    let lock = lock_folder(place)?;
    let data = lock.metadata().map_err(|error| place.io("read", &place.dir, &error))?;
    if data.mode() & 0o022 != 0 {
        return Err(VaultError::Invalid(format!(
            "the folder `{}` can be written by others (mode {:04o}): run `chmod 700` on it, or name another place",
            place.dir.display(),
            data.mode() & 0o7777
        )));
    }
    Ok(lock)
}

/// The lock lasts until the file is dropped.
pub(super) fn lock_folder(place: &Place) -> Result<File, VaultError> {
    let folder = File::open(&place.dir).map_err(|error| place.io("opened", &place.dir, &error))?;
    folder.lock().map_err(|error| place.io("locked", &place.dir, &error))?;
    Ok(folder)
}

fn build_database(path: &Path, header: &Header, place: &Place) -> Result<(), VaultError> {
    let io = |error| place.io("written", path, &error);
    // Made here and not by SQLite, for the mode; the log beside it later takes the mode over.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    let build = || -> rusqlite::Result<()> {
        let mut connection = place::connect(path)?;
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
    build().map_err(|error| place.sql("made", error))?;
    File::open(path).and_then(|file| file.sync_all()).map_err(io)
}

pub(super) fn rename(place: &Place, from: &Path, to: &Path) -> Result<(), VaultError> {
    fs::rename(from, to).map_err(|error| place.io("renamed", from, &error))
}

/// Removes a file that an interrupted attempt left.
pub(super) fn remove(place: &Place, path: &Path) -> Result<(), VaultError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(place.io("removed", path, &error)),
    }
}

/// Makes the names in a folder last through a loss of power.
pub(super) fn sync_folder(place: &Place, path: &Path) -> Result<(), VaultError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| place.io("synced", path, &error))
}
