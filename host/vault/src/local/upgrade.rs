//! Upgrades vaults of an older format version.
//!
//! The header table has the same layout in all versions, so that any vault can be opened before it
//! is upgraded.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::files::VaultFiles;
use super::open::{remove, sync_dir};
use super::store;
use crate::VaultError;

/// An upgrade from one format version to the next.
pub(super) struct Step {
    /// The version before the step; the version after it is one higher.
    pub(super) from: i64,
    /// The change, which runs in the transaction of the complete upgrade.
    pub(super) run: fn(&Transaction<'_>) -> rusqlite::Result<()>,
}

/// All upgrade steps. There are none, because version 1 is the first.
pub(super) const STEPS: &[Step] = &[];

/// Checks that a version can be upgraded to the current one.
pub(super) fn check(files: &VaultFiles, format: i64, steps: &[Step]) -> Result<(), VaultError> {
    if format > store::FORMAT {
        return Err(newer_format(files, format));
    }
    if (format..store::FORMAT).all(|from| steps.iter().any(|step| step.from == from)) {
        return Ok(());
    }
    Err(VaultError::Refused(format!(
        "the vault `{}` has format {format}, which this program cannot upgrade: nothing was changed; use an older strongroom first",
        files.database.display()
    )))
}

/// Returns the error for a vault with a newer format.
pub(super) fn newer_format(files: &VaultFiles, format: i64) -> VaultError {
    VaultError::Refused(format!(
        "the vault `{}` has format {format}, but this program supports only formats up to {}: nothing was changed; use a newer strongroom",
        files.database.display(),
        store::FORMAT
    ))
}

/// Backs up and upgrades a vault to the current version. The caller holds the directory lock.
pub(super) fn run(files: &VaultFiles, writer: &mut Connection, steps: &[Step]) -> Result<(), VaultError> {
    let failed = |error| files.sql("upgraded", error);
    // Another process may have upgraded it already.
    let format = store::format(writer).map_err(failed)?;
    check(files, format, steps)?;
    if format == store::FORMAT {
        return Ok(());
    }
    backup(files, writer, format)?;
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    for from in format..store::FORMAT {
        for step in steps.iter().filter(|step| step.from == from) {
            (step.run)(&transaction).map_err(failed)?;
        }
    }
    transaction.pragma_update(None, "user_version", store::FORMAT).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// Copies the database to `vault.sqlite3.vN-backup`, where N is its format version. A partial copy
/// never has this name.
fn backup(files: &VaultFiles, writer: &Connection, format: i64) -> Result<(), VaultError> {
    let unfinished = files.with_suffix(".backup-new");
    let backup = files.with_suffix(&format!(".v{format}-backup"));
    let io = |error| files.io("written", &unfinished, &error);
    remove(files, &unfinished)?;
    // SQLite accepts an existing empty file. Create it here to set its mode.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(io)?;
    let Some(target) = unfinished.to_str() else {
        return Err(VaultError::Invalid(format!(
            "the path of the vault's directory `{}` is not UTF-8, so the vault cannot be backed up: move it",
            files.dir.display()
        )));
    };
    writer.execute("VACUUM INTO ?1", [target]).map_err(|error| files.sql("backed up", error))?;
    File::open(&unfinished).and_then(|file| file.sync_all()).map_err(io)?;
    fs::rename(&unfinished, &backup).map_err(|error| files.io("renamed", &unfinished, &error))?;
    sync_dir(files, &files.dir)
}
