//! Finds the key of a vault, and replaces key files during a rekey.
//!
//! A rekey changes the database and the key file, and no operation changes both at once. So the new
//! key file is written first, as `vault.key.next`; then one transaction changes the database; then
//! the file is renamed. The header in the database always identifies the current key: opening the
//! vault tries both files, and completes or cleans up an interrupted rekey. A key that was ever
//! current is set aside instead of removed, because a backup may need it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::files::VaultFiles;
use super::header::{Header, Kdf, Wrapping};
use super::open::{remove, rename, sync_dir};
use super::seal::{self, Key};
use super::{Protection, keyfile};
use crate::VaultError;

/// How often to look for the key again while other processes rekey the vault.
const ATTEMPTS: u32 = 5;

/// Creates a new wrapping key.
pub(super) fn make(protection: &Protection) -> Result<(Wrapping, Key), VaultError> {
    match protection {
        Protection::KeyFile => Ok((Wrapping::KeyFile, Key::generate()?)),
        Protection::Passphrase(passphrase) if passphrase.is_empty() => {
            Err(VaultError::Invalid("the passphrase is empty: choose one, or protect the vault with a key file".into()))
        }
        Protection::Passphrase(passphrase) => {
            let kdf = Kdf::generate()?;
            let key = kdf.derive(passphrase)?;
            Ok((Wrapping::Passphrase(kdf), key))
        }
    }
}

/// Finds the key that opens a vault, and returns the header that it matches. Changes nothing.
pub(super) fn find_current(
    files: &VaultFiles,
    connection: &Connection,
    mut header: Header,
    unlock: &Protection,
) -> Result<(Header, Key), VaultError> {
    for _ in 0..ATTEMPTS {
        let found = read_key(files, &header, unlock);
        if let Ok(key) = found {
            return Ok((header, key));
        }
        // The vault may have been rekeyed between reading the header and reading the key.
        let current = Header::load(connection, files)?;
        if current.checksum() == header.checksum() {
            return found.map(|key| (header, key));
        }
        header = current;
    }
    Err(VaultError::Unavailable(format!(
        "the vault `{}` is being rekeyed repeatedly: try again",
        files.database.display()
    )))
}

fn read_key(files: &VaultFiles, header: &Header, unlock: &Protection) -> Result<Key, VaultError> {
    match (&header.wrapping, unlock) {
        (Wrapping::KeyFile, Protection::KeyFile) => from_key_files(files, header),
        (Wrapping::Passphrase(kdf), Protection::Passphrase(passphrase)) => {
            let key = kdf.derive(passphrase)?;
            if header.is_wrapped_by(&key) {
                return Ok(key);
            }
            Err(VaultError::Refused(format!(
                "the passphrase does not open the vault `{}`: try again",
                files.database.display()
            )))
        }
        (Wrapping::KeyFile, Protection::Passphrase(_)) => Err(VaultError::Refused(format!(
            "the vault `{}` is opened by its key file: give no passphrase",
            files.database.display()
        ))),
        (Wrapping::Passphrase(_), Protection::KeyFile) => Err(VaultError::Refused(format!(
            "the vault `{}` is opened by a passphrase: give it",
            files.database.display()
        ))),
    }
}

/// Reads the current key from the key file, or from the next key file of a rekey that is in
/// progress or was interrupted.
pub(super) fn from_key_files(files: &VaultFiles, header: &Header) -> Result<Key, VaultError> {
    let matching_key = |path: &Path| {
        let key = keyfile::read(files, path, &header.vault)?;
        Ok::<_, VaultError>(header.is_wrapped_by(&key).then_some(key))
    };
    if let Ok(Some(key)) = matching_key(&files.key) {
        return Ok(key);
    }
    if let Ok(Some(key)) = matching_key(&files.next_key) {
        return Ok(key);
    }
    // Read `vault.key` again: the next key file may have been renamed to it meanwhile. Errors are
    // about this file.
    matching_key(&files.key)?.ok_or_else(|| {
        VaultError::Refused(format!(
            "the key file `{}` is for this vault but does not open it, so its key was changed: restore it from a backup",
            files.key.display()
        ))
    })
}

/// Completes or cleans up an interrupted rekey. The caller has verified the vault's key.
pub(super) fn settle(files: &VaultFiles, connection: &Connection) -> Result<(), VaultError> {
    let header = Header::load(connection, files)?;
    if is_settled(files, &header) {
        return Ok(());
    }
    let folder = File::open(&files.dir).map_err(|error| files.io("opened", &files.dir, &error))?;
    match folder.try_lock() {
        Ok(()) => {
            // Read the header again: it may have changed before the lock was taken.
            let header = Header::load(connection, files)?;
            finish(files, &header).map(drop)
        }
        // The process that holds the lock is rekeying and completes this itself.
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(files.io("locked", &files.dir, &error)),
    }
}

/// Returns whether the key files match the header.
pub(super) fn is_settled(files: &VaultFiles, header: &Header) -> bool {
    !exists_at(&files.next_key) && (header.wrapping == Wrapping::KeyFile || !exists_at(&files.key))
}

/// Renames the key files to match the header in the database. Returns the new path of the former
/// key, if there was one. Can be interrupted at any point and repeated. The caller holds the
/// directory lock, and has read the header from the database.
pub(super) fn finish(files: &VaultFiles, header: &Header) -> Result<Option<PathBuf>, VaultError> {
    let matches = |path: &Path| keyfile::read(files, path, &header.vault).is_ok_and(|key| header.is_wrapped_by(&key));
    let mut former = None;
    if header.wrapping == Wrapping::KeyFile && !matches(&files.key) {
        if !matches(&files.next_key) {
            // Neither file holds the vault's key, so it is unknown what they open: move and remove
            // nothing.
            return Ok(None);
        }
        former = set_aside(files)?;
        rename(files, &files.next_key, &files.key)?;
    } else {
        // The database was never changed to the next key, so nothing is encrypted with it.
        remove(files, &files.next_key)?;
        if header.wrapping != Wrapping::KeyFile {
            former = set_aside(files)?;
        }
    }
    sync_dir(files, &files.dir)?;
    Ok(former)
}

/// Renames a key file that is no longer current, because it may be the only key to a backup.
pub(super) fn set_aside(files: &VaultFiles) -> Result<Option<PathBuf>, VaultError> {
    if !exists_at(&files.key) {
        return Ok(None);
    }
    let mut suffix = [0; 8];
    seal::fill(&mut suffix)?;
    let aside = files.dir.join(format!("vault.key.old-{:016x}", u64::from_le_bytes(suffix)));
    rename(files, &files.key, &aside)?;
    Ok(Some(aside))
}

fn exists_at(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
