//! The key file: one line of text that opens one vault.
//!
//! The line contains the vault's ID, to distinguish another vault's key file from a damaged one. A
//! key file is rejected if other users could have read or written it.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use base16ct::HexDisplay;
use zeroize::Zeroizing;

use super::files::VaultFiles;
use super::seal::{KEY_LEN, Key};
use crate::VaultError;

const PREFIX: &str = "strongroom-key-1";
/// `PREFIX`, a space, 32 digits of the vault ID, a space, 64 digits of the key, a line feed.
const LINE_LEN: usize = PREFIX.len() + 1 + 32 + 1 + 2 * KEY_LEN + 1;

/// Writes and syncs a key file with mode 0600. The caller renames it afterwards, so that a partial
/// file never has the final name.
pub(super) fn write(files: &VaultFiles, path: &Path, vault: &[u8; 16], key: &Key) -> Result<(), VaultError> {
    let mut line = Zeroizing::new(String::with_capacity(LINE_LEN));
    // Writing to a string cannot fail.
    let _ = writeln!(line, "{PREFIX} {:x} {:x}", HexDisplay(vault), HexDisplay(key.bytes()));
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| files.io("written", path, &error))
}

/// Reads a vault's key from one of its key files.
pub(super) fn read(files: &VaultFiles, path: &Path, vault: &[u8; 16]) -> Result<Key, VaultError> {
    let shown = path.display();
    let not_a_key = || {
        VaultError::Refused(format!("`{shown}` is not a strongroom key file: restore the vault's own from a backup"))
    };

    // Check the type before opening: opening a pipe or a device may block or have side effects.
    let metadata = match fs::symlink_metadata(path) {
        Ok(data) => data,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(VaultError::Refused(format!(
                "the key file `{shown}` is missing: put it back, because the vault does not open without it"
            )));
        }
        Err(error) => return Err(files.io("read", path, &error)),
    };
    if !metadata.is_file() {
        return Err(VaultError::Refused(format!(
            "`{shown}` is not a regular file: put the vault's own key file there"
        )));
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed())
        .open(path)
        .map_err(|error| files.io("read", path, &error))?;
    check_access(&file, path)?;

    let mut text = Zeroizing::new(Vec::with_capacity(LINE_LEN + 1));
    let limit = u64::try_from(LINE_LEN + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut text).map_err(|error| files.io("read", path, &error))?;
    // An editor may have added or removed the line feed.
    let line = text.strip_suffix(b"\n").unwrap_or(&text);
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(prefix), Some(owner), Some(key), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(not_a_key());
    };
    if prefix != PREFIX.as_bytes() {
        return Err(not_a_key());
    }
    let vault_id = unhex(owner).ok_or_else(not_a_key)?;
    let key = unhex(key).and_then(Key::from_bytes).ok_or_else(not_a_key)?;
    if vault_id.as_slice() != vault {
        return Err(VaultError::Refused(format!(
            "the key file `{shown}` belongs to another vault: put this vault's own there"
        )));
    }
    Ok(key)
}

/// Rejects a key file that other users could have read or written.
fn check_access(file: &File, path: &Path) -> Result<(), VaultError> {
    let shown = path.display();
    let data =
        file.metadata().map_err(|error| VaultError::Unavailable(format!("`{shown}` could not be read: {error}")))?;
    if data.mode() & 0o077 != 0 {
        return Err(VaultError::Refused(format!(
            "the key file `{shown}` is open to others (mode {:04o}): run `chmod 600` on it, and rekey the vault if it was read",
            data.mode() & 0o7777
        )));
    }
    if data.uid() != rustix::process::geteuid().as_raw() {
        return Err(VaultError::Refused(format!("the key file `{shown}` belongs to another user: run `chown` on it")));
    }
    Ok(())
}

/// Decodes hexadecimal digits into a buffer that never grows: growing would leave part of the key
/// in freed memory.
fn unhex(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    base16ct::mixed::decode_vec(text).ok().map(Zeroizing::new)
}
