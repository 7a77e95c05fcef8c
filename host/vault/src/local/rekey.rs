//! Giving a vault a new key.
//!
//! Whoever has the wrapping key and any copy of the database has the data key. So a new wrapping key alone would not help where the old
//! one leaked: every value is sealed anew, under a new data key, in the transaction that replaces the header. `keys` says how the
//! database and the key file come to agree after a crash at any moment.

use std::path::PathBuf;

use super::header::{Header, Wrapping};
use super::open::{lock_folder, sync_folder};
use super::seal::Key;
use super::whole::Contents;
use super::{Inner, LocalVault, Protection, keyfile, keys};
use crate::VaultError;

/// What became of a change of key.
#[derive(Clone, Debug)]
pub struct Rekeyed {
    /// What was sealed anew.
    pub contents: Contents,
    /// Where the former key file is now. It opens copies of the database from before, and nothing else.
    pub former_key: Option<PathBuf>,
    /// Whether everything that the former key sealed is gone from the vault's files. Else another process was reading, and the rest
    /// goes when the last process closes the vault.
    pub former_seals_gone: bool,
}

/// How far a change of key has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The key file to come is on the disk under its first name.
    KeyWritten,
    /// Everything is sealed anew in a transaction that is not committed.
    Sealed,
    /// The transaction is committed.
    Committed,
    /// The log is truncated.
    Truncated,
    /// The key file has its name.
    Finished,
}

impl LocalVault {
    /// Gives the vault a new wrapping key and a new data key, and seals every version anew. All of it happens or none of it, also where
    /// the process is killed: either the former key opens the vault or the new one. Afterwards every open handle, this one too,
    /// answers [`VaultError::Refused`] and has to be opened anew.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] where a version does not open; [`VaultError::Invalid`] where the passphrase is empty or the present one;
    /// [`VaultError::Unavailable`] where another process is writing or the files cannot be written. Then the former key stays.
    pub async fn rekey(&self, protection: Protection) -> Result<Rekeyed, VaultError> {
        self.blocking(move |inner| inner.rekey(&protection, &mut |_| {})).await
    }
}

impl Inner {
    /// As [`LocalVault::rekey`]; tests look at the files at each stage.
    pub(super) fn rekey(&self, protection: &Protection, reached: &mut dyn FnMut(Stage)) -> Result<Rekeyed, VaultError> {
        let place = &self.context.place;
        // Before the lock, because Argon2id takes its time.
        self.refuse_present(protection)?;
        let (wrapping, wrapping_key) = keys::make(protection)?;
        let data_key = Key::generate()?;
        let header = Header::wrap(self.context.vault, wrapping, &wrapping_key, &data_key)?;

        let _lock = lock_folder(place)?;
        // What an earlier change left is settled first: the name for the key to come must be free.
        let current = self.read(|_, connection| Header::load(connection, place))?;
        keys::finish(place, &current)?;
        if header.wrapping == Wrapping::KeyFile {
            // Where that could not tell whose key stands there, the file is still there and this fails: it may be the only one that fits.
            keyfile::write(place, &place.next_key, &header.vault, &wrapping_key)?;
            sync_folder(place, &place.dir)?;
        }
        reached(Stage::KeyWritten);
        // Where this fails the key to come stays until the next opening: only the database can say what was committed.
        let contents = self.write(|context, transaction| {
            let contents = context.reseal(transaction, &data_key)?;
            header.replace(transaction).map_err(|error| place.sql("written", error))?;
            reached(Stage::Sealed);
            Ok(contents)
        })?;
        reached(Stage::Committed);
        let former_seals_gone = self.truncate_log();
        reached(Stage::Truncated);
        let former_key = keys::finish(place, &header)?;
        reached(Stage::Finished);
        Ok(Rekeyed { contents, former_key, former_seals_gone })
    }

    /// Whoever has seen the present passphrase would open the vault under its new key too.
    fn refuse_present(&self, protection: &Protection) -> Result<(), VaultError> {
        let Protection::Passphrase(passphrase) = protection else { return Ok(()) };
        let header = self.read(|context, connection| Header::load(connection, &context.place))?;
        match &header.wrapping {
            Wrapping::Passphrase(kdf) if header.is_wrapped_by(&kdf.derive(passphrase)?) => {
                Err(VaultError::Invalid("the new passphrase is the present one: choose another".into()))
            }
            _ => Ok(()),
        }
    }
}
