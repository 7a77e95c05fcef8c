//! Which key opens a vault, and the files that keys stand in.
//!
//! A vault's key is changed in a database and in a file, and no step changes both at once. So the new key file is written first, under a
//! name of its own (`vault.key.next`); then the database is changed in one transaction; then the file gets its name. The header in the
//! database says at every moment which key is the vault's: whoever opens the vault tries both files, and finishes or clears away what
//! was cut off. A key that was ever in use is not removed but set aside, because a backup may need it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::header::{Header, Kdf, Wrapping};
use super::open::{remove, rename, sync_folder};
use super::place::Place;
use super::seal::{self, Key};
use super::{Protection, Unlock, keyfile};
use crate::VaultError;

/// How often a key is looked for again where the vault was given another one meanwhile.
const ATTEMPTS: u32 = 5;

/// A new wrapping key, and how it is had again.
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

/// Finds the key that opens a vault, with the header that it fits. Changes nothing.
pub(super) fn prove(
    place: &Place,
    connection: &Connection,
    mut header: Header,
    unlock: &Unlock,
) -> Result<(Header, Key), VaultError> {
    for _ in 0..ATTEMPTS {
        let found = find(place, &header, unlock);
        if let Ok(key) = found {
            return Ok((header, key));
        }
        // It may have been given another key between the two looks, at the database and at the key.
        let now = Header::load(connection, place)?;
        if now.checksum() == header.checksum() {
            return found.map(|key| (header, key));
        }
        header = now;
    }
    Err(VaultError::Unavailable(format!(
        "the vault `{}` is given one new key after another: try again",
        place.database.display()
    )))
}

fn find(place: &Place, header: &Header, unlock: &Unlock) -> Result<Key, VaultError> {
    match (&header.wrapping, unlock) {
        (Wrapping::KeyFile, Unlock::KeyFile) => from_files(place, header),
        (Wrapping::Passphrase(kdf), Unlock::Passphrase(passphrase)) => {
            let key = kdf.derive(passphrase)?;
            if header.is_wrapped_by(&key) {
                return Ok(key);
            }
            Err(VaultError::Refused(format!(
                "the passphrase does not open the vault `{}`: try again",
                place.database.display()
            )))
        }
        (Wrapping::KeyFile, Unlock::Passphrase(_)) => Err(VaultError::Refused(format!(
            "the vault `{}` is opened by its key file: give no passphrase",
            place.database.display()
        ))),
        (Wrapping::Passphrase(_), Unlock::KeyFile) => Err(VaultError::Refused(format!(
            "the vault `{}` is opened by a passphrase: give it",
            place.database.display()
        ))),
    }
}

/// The key in the key file, or the one of a change that is being finished or was cut off.
pub(super) fn from_files(place: &Place, header: &Header) -> Result<Key, VaultError> {
    let fitting = |path: &Path| {
        let key = keyfile::read(place, path, &header.vault)?;
        Ok::<_, VaultError>(header.is_wrapped_by(&key).then_some(key))
    };
    if let Ok(Some(key)) = fitting(&place.key) {
        return Ok(key);
    }
    if let Ok(Some(key)) = fitting(&place.next_key) {
        return Ok(key);
    }
    // Once more, because the other may have been given its name just now. What is wrong with the vault's own is what is said.
    fitting(&place.key)?.ok_or_else(|| {
        VaultError::Refused(format!(
            "the key file `{}` names this vault and does not open it, so its key was changed: restore it from a backup",
            place.key.display()
        ))
    })
}

/// Finishes or clears away a change of key that was cut off. The caller has proved the vault's key.
pub(super) fn settle(place: &Place, connection: &Connection) -> Result<(), VaultError> {
    let header = Header::load(connection, place)?;
    if is_settled(place, &header) {
        return Ok(());
    }
    let folder = File::open(&place.dir).map_err(|error| place.io("opened", &place.dir, &error))?;
    match folder.try_lock() {
        Ok(()) => {
            // What stands in the database now: it may have changed before the lock was had.
            let header = Header::load(connection, place)?;
            finish(place, &header).map(drop)
        }
        // Who has the lock is changing the key, and finishes it.
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(place.io("locked", &place.dir, &error)),
    }
}

/// Whether the key files are those that the header asks for.
pub(super) fn is_settled(place: &Place, header: &Header) -> bool {
    !is_there(&place.next_key) && (header.wrapping == Wrapping::KeyFile || !is_there(&place.key))
}

/// Gives the key files the names that the header in the database asks for; where the former key is now, if there was one. May be cut
/// off anywhere and begun again. The caller holds the folder's lock, and the header is the one in the database.
pub(super) fn finish(place: &Place, header: &Header) -> Result<Option<PathBuf>, VaultError> {
    let fits = |path: &Path| keyfile::read(place, path, &header.vault).is_ok_and(|key| header.is_wrapped_by(&key));
    let mut former = None;
    if header.wrapping == Wrapping::KeyFile && !fits(&place.key) {
        if !fits(&place.next_key) {
            // Neither is the vault's key: nothing here is known well enough to be moved or removed.
            return Ok(None);
        }
        former = set_aside(place)?;
        rename(place, &place.next_key, &place.key)?;
    } else {
        // The database was never changed to the key to come, so nothing was ever sealed with it.
        remove(place, &place.next_key)?;
        if header.wrapping != Wrapping::KeyFile {
            former = set_aside(place)?;
        }
    }
    sync_folder(place, &place.dir)?;
    Ok(former)
}

/// Keeps a key file that is no longer the vault's under another name: it may be the only key to a backup.
pub(super) fn set_aside(place: &Place) -> Result<Option<PathBuf>, VaultError> {
    if !is_there(&place.key) {
        return Ok(None);
    }
    let mut tail = [0; 8];
    seal::fill(&mut tail)?;
    let aside = place.dir.join(format!("vault.key.old-{:016x}", u64::from_le_bytes(tail)));
    rename(place, &place.key, &aside)?;
    Ok(Some(aside))
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
