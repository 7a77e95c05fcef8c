//! Consistent backups of a vault that other processes may be writing.
//!
//! A backup is a directory with the layout of a vault. It opens as one, and moving it to the
//! vault's path restores it. A single file copied over a database would be combined with the old
//! database's log. The backup does not contain the key file.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bulk::Contents;
use super::files::{self, VaultFiles};
use super::store::Context;
use super::{Inner, LocalVault};
use crate::VaultError;

/// A completed backup.
#[derive(Clone, Debug)]
pub struct Backup {
    /// The directory, absolute.
    pub dir: PathBuf,
    /// Number of secrets and versions.
    pub contents: Contents,
    /// Size of the database in bytes.
    pub size: u64,
}

impl LocalVault {
    /// Copies one consistent state of the vault into a new directory (0700), without its key file.
    /// Decrypts every version of the copy before the directory gets its name, and replaces nothing
    /// that exists.
    ///
    /// # Errors
    /// [`VaultError::Invalid`] if the target exists or its parent does not; [`VaultError::Damaged`]
    /// if a version cannot be decrypted; [`VaultError::Unavailable`] if the target cannot be
    /// written. After an error there is no directory of that name.
    pub async fn backup(&self, to: &Path) -> Result<Backup, VaultError> {
        let to = to.to_owned();
        self.blocking(move |inner| inner.backup(&to)).await
    }
}

impl Inner {
    fn backup(&self, to: &Path) -> Result<Backup, VaultError> {
        let files = &self.context.files;
        let invalid = |what: String| VaultError::Invalid(format!("the backup `{}` {what}", to.display()));
        let to = std::path::absolute(to).map_err(|error| invalid(format!("has no absolute path: {error}")))?;
        let (Some(parent), Some(_)) = (to.parent(), to.file_name()) else {
            return Err(invalid("is not a new directory: name one".to_owned()));
        };
        if fs::symlink_metadata(&to).is_ok() {
            return Err(invalid("already exists: nothing was changed; name a new directory".to_owned()));
        }
        if !parent.is_dir() {
            return Err(invalid(format!(
                "would be in `{}`, which is not a directory: create that first",
                parent.display()
            )));
        }
        if to.to_str().is_none() {
            return Err(invalid("has a name that is not UTF-8: name another".to_owned()));
        }
        // Removed on drop, unless the backup succeeds.
        let unfinished = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o700))
            .prefix(".strongroom-backup-")
            .tempdir_in(parent)
            .map_err(|error| files.io("written", parent, &error))?;
        let copy = VaultFiles::in_dir(unfinished.path())?;
        let contents = self.copy_database(&copy)?;
        let size =
            fs::symlink_metadata(&copy.database).map_err(|error| files.io("read", &copy.database, &error))?.len();
        File::open(&copy.database)
            .and_then(|file| file.sync_all())
            .and_then(|()| File::open(&copy.dir)?.sync_all())
            .map_err(|error| files.io("synced", &copy.dir, &error))?;
        // This can replace at most an empty directory.
        fs::rename(unfinished.path(), &to).map_err(|error| files.io("made", &to, &error))?;
        // It has been renamed and must not be removed.
        let _ = unfinished.keep();
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(|error| files.io("synced", parent, &error))?;
        Ok(Backup { dir: to, contents, size })
    }

    /// Copies one state of the database, and decrypts everything in the copy.
    fn copy_database(&self, copy: &VaultFiles) -> Result<Contents, VaultError> {
        let files = &self.context.files;
        // SQLite accepts an existing empty file. Create it here to set its mode.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&copy.database)
            .map_err(|error| files.io("written", &copy.database, &error))?;
        let target = copy.database.to_str().unwrap_or_default();
        // A separate connection, so that readers and writers of this handle do not wait.
        files.connect()?.execute("VACUUM INTO ?1", [target]).map_err(|error| files.sql("backed up", error))?;

        let context = Context {
            files: copy.clone(),
            vault: self.context.vault,
            data_key: Arc::clone(&self.context.data_key),
            header: self.context.header,
        };
        let mut connection = files::connect(&copy.database).map_err(|error| copy.sql("read", error))?;
        let transaction = connection.transaction().map_err(|error| copy.sql("read", error))?;
        context.check_key(&transaction)?;
        let verification = context.verify(&transaction)?;
        drop(transaction);
        connection.close().map_err(|(_, error)| copy.sql("closed", error))?;
        if let Some(structure) = verification.structure {
            return Err(files.damaged(&structure));
        }
        match verification.broken.first() {
            None => Ok(verification.contents),
            Some(broken) => Err(VaultError::Damaged(format!(
                "version {1} of the secret `{0}` cannot be decrypted, so no backup was made: delete the secret, or restore an earlier backup",
                broken.name, broken.version
            ))),
        }
    }
}
