//! Rekeys a vault.
//!
//! The wrapping key and any copy of the database reveal the data key. So after a leak a new
//! wrapping key alone does not help: the transaction that replaces the header also re-encrypts
//! every value under a new data key. The module `keys` describes how the database and the key file
//! become consistent again after a crash at any point.

use std::path::PathBuf;

use super::bulk::Contents;
use super::header::{Header, Wrapping};
use super::open::{lock_dir, sync_dir};
use super::seal::Key;
use super::{Inner, LocalVault, Protection, keyfile, keys};
use crate::VaultError;

/// Result of a rekey.
#[derive(Clone, Debug)]
pub struct Rekeyed {
    /// What was re-encrypted.
    pub contents: Contents,
    /// Path of the former key file. It opens only copies of the database from before the rekey.
    pub former_key: Option<PathBuf>,
    /// Whether the vault's files no longer contain anything encrypted under the former key. If not,
    /// another process was reading, and the rest disappears when the last process closes the vault.
    pub old_ciphertext_erased: bool,
}

/// How far a rekey has progressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The next key file is on disk under its temporary name.
    KeyWritten,
    /// Everything is re-encrypted in a transaction that is not committed.
    Sealed,
    /// The transaction is committed.
    Committed,
    /// The write-ahead log is truncated.
    Truncated,
    /// The key file has its final name.
    Finished,
}

impl LocalVault {
    /// Replaces the wrapping key and the data key, and re-encrypts every version. This is atomic
    /// even if the process is killed: either the former key or the new key opens the vault.
    /// Afterwards every open handle, including this one, returns [`VaultError::Refused`] and must
    /// be reopened.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] if a version cannot be decrypted; [`VaultError::Invalid`] if the
    /// passphrase is empty or the current one; [`VaultError::Unavailable`] if another process is
    /// writing or the files cannot be written. The former key then stays valid.
    pub async fn rekey(&self, protection: Protection) -> Result<Rekeyed, VaultError> {
        self.blocking(move |inner| inner.rekey(&protection, &mut |_| {})).await
    }
}

impl Inner {
    /// Implements [`LocalVault::rekey`]. Tests observe the files at each stage.
    pub(super) fn rekey(&self, protection: &Protection, reached: &mut dyn FnMut(Stage)) -> Result<Rekeyed, VaultError> {
        let files = &self.context.files;
        // Before taking the lock, because Argon2id is slow.
        self.refuse_current_passphrase(protection)?;
        let (wrapping, wrapping_key) = keys::make(protection)?;
        let data_key = Key::generate()?;
        let header = Header::wrap(self.context.vault, wrapping, &wrapping_key, &data_key)?;

        let _lock = lock_dir(files)?;
        // Settle an interrupted rekey first: the name of the next key file must be free.
        let current = self.read(|_, connection| Header::load(connection, files))?;
        keys::finish(files, &current)?;
        if header.wrapping == Wrapping::KeyFile {
            // If `finish` could not identify the next key file, that file still exists and this
            // fails: it may be the only key that opens the vault.
            keyfile::write(files, &files.next_key, &header.vault, &wrapping_key)?;
            sync_dir(files, &files.dir)?;
        }
        reached(Stage::KeyWritten);
        // If this fails, the next key file stays until the vault is opened again: only the database
        // shows what was committed.
        let contents = self.write(|context, transaction| {
            let contents = context.reencrypt(transaction, &data_key)?;
            header.replace(transaction).map_err(|error| files.sql("written", error))?;
            reached(Stage::Sealed);
            Ok(contents)
        })?;
        reached(Stage::Committed);
        let old_ciphertext_erased = self.truncate_wal();
        reached(Stage::Truncated);
        let former_key = keys::finish(files, &header)?;
        reached(Stage::Finished);
        Ok(Rekeyed { contents, former_key, old_ciphertext_erased })
    }

    /// Rejects the current passphrase: everyone who knows it could open the vault after the rekey.
    fn refuse_current_passphrase(&self, protection: &Protection) -> Result<(), VaultError> {
        let Protection::Passphrase(passphrase) = protection else { return Ok(()) };
        let header = self.read(|context, connection| Header::load(connection, &context.files))?;
        match &header.wrapping {
            Wrapping::Passphrase(kdf) if header.is_wrapped_by(&kdf.derive(passphrase)?) => {
                Err(VaultError::Invalid("the new passphrase is the current one: choose another".into()))
            }
            _ => Ok(()),
        }
    }
}
