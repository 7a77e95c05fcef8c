//! A copy of a vault, made while others may write.
//!
//! A backup is a folder laid out as a vault is, so that it opens as one and is restored by being put in the vault's place: a single
//! file that is copied over a database would meet the log of the one that was there. The key file is not in it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::place::{self, Place};
use super::store::Context;
use super::whole::Contents;
use super::{Inner, LocalVault};
use crate::VaultError;

/// A backup that was made.
#[derive(Clone, Debug)]
pub struct Backup {
    /// The folder, absolute.
    pub dir: PathBuf,
    /// What it holds.
    pub contents: Contents,
    /// Bytes of its database.
    pub size: u64,
}

impl LocalVault {
    /// Copies the vault into a new folder (0700), without its key file, in one state whatever others write meanwhile. Every version of
    /// the copy is opened before the folder gets its name, and nothing that is there is replaced.
    ///
    /// # Errors
    /// [`VaultError::Invalid`] where the folder cannot be one; [`VaultError::Damaged`] where a version does not open;
    /// [`VaultError::Unavailable`] where it cannot be written. Then there is no folder of that name.
    pub async fn backup(&self, to: &Path) -> Result<Backup, VaultError> {
        let to = to.to_owned();
        self.blocking(move |inner| inner.backup(&to)).await
    }
}

impl Inner {
    fn backup(&self, to: &Path) -> Result<Backup, VaultError> {
        let place = &self.context.place;
        let invalid = |what: String| VaultError::Invalid(format!("the backup `{}` {what}", to.display()));
        let to = std::path::absolute(to).map_err(|error| invalid(format!("cannot be named: {error}")))?;
        let (Some(parent), Some(_)) = (to.parent(), to.file_name()) else {
            return Err(invalid("is no new folder: name one".to_owned()));
        };
        if fs::symlink_metadata(&to).is_ok() {
            return Err(invalid("is there already: nothing was changed; name a folder that is not there".to_owned()));
        }
        if !parent.is_dir() {
            return Err(invalid(format!("would be in `{}`, which is no folder: make that first", parent.display())));
        }
        if to.to_str().is_none() {
            return Err(invalid("has a name that is not UTF-8: name another".to_owned()));
        }
        // Removed where something fails.
        let unfinished = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o700))
            .prefix(".strongroom-backup-")
            .tempdir_in(parent)
            .map_err(|error| place.io("written", parent, &error))?;
        let copy = Place::of(unfinished.path())?;
        let contents = self.copy_database(&copy)?;
        let size =
            fs::symlink_metadata(&copy.database).map_err(|error| place.io("read", &copy.database, &error))?.len();
        File::open(&copy.database)
            .and_then(|file| file.sync_all())
            .and_then(|()| File::open(&copy.dir)?.sync_all())
            .map_err(|error| place.io("synced", &copy.dir, &error))?;
        // Of a folder this replaces an empty folder at most.
        fs::rename(unfinished.path(), &to).map_err(|error| place.io("made", &to, &error))?;
        // It has another name now, and is not to be removed.
        let _ = unfinished.keep();
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(|error| place.io("synced", parent, &error))?;
        Ok(Backup { dir: to, contents, size })
    }

    /// Copies the database as it is at one moment, and opens everything in the copy.
    fn copy_database(&self, copy: &Place) -> Result<Contents, VaultError> {
        let place = &self.context.place;
        // SQLite fills an empty file that is there; made here for the mode.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&copy.database)
            .map_err(|error| place.io("written", &copy.database, &error))?;
        let target = copy.database.to_str().unwrap_or_default();
        // A connection of its own, so that neither readers nor writers of this handle wait.
        place.connect()?.execute("VACUUM INTO ?1", [target]).map_err(|error| place.sql("backed up", error))?;

        let context = Context {
            place: copy.clone(),
            vault: self.context.vault,
            data_key: Arc::clone(&self.context.data_key),
            header: self.context.header,
        };
        let mut connection = place::connect(&copy.database).map_err(|error| copy.sql("read", error))?;
        let transaction = connection.transaction().map_err(|error| copy.sql("read", error))?;
        context.check_key(&transaction)?;
        let found = context.verify(&transaction)?;
        drop(transaction);
        connection.close().map_err(|(_, error)| copy.sql("closed", error))?;
        if let Some(structure) = found.structure {
            return Err(place.damaged(&structure));
        }
        match found.broken.first() {
            None => Ok(found.contents),
            Some(broken) => Err(VaultError::Damaged(format!(
                "the secret `{}` does not open in its version {}, so no backup was made: delete it, or restore an earlier backup",
                broken.name, broken.version
            ))),
        }
    }
}
