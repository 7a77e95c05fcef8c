//! The format's version, and the way from an older one to this program's.
//!
//! The header's table does not change between versions, so that any vault can be opened before it is upgraded.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::open::{remove, sync_folder};
use super::place::Place;
use super::store;
use crate::VaultError;

/// One step from a version to the next.
pub(super) struct Step {
    /// The version that the step starts from; it ends at the next.
    pub(super) from: i64,
    /// What it does, in the transaction of the whole upgrade.
    pub(super) run: fn(&Transaction<'_>) -> rusqlite::Result<()>,
}

/// The steps that this program knows. Version 1 is the first, so there are none yet.
pub(super) const STEPS: &[Step] = &[];

/// Whether there is a way from a version to this program's.
pub(super) fn check(place: &Place, format: i64, steps: &[Step]) -> Result<(), VaultError> {
    if format > store::FORMAT {
        return Err(newer(place, format));
    }
    if (format..store::FORMAT).all(|from| steps.iter().any(|step| step.from == from)) {
        return Ok(());
    }
    Err(VaultError::Refused(format!(
        "the vault `{}` has format {format}, which this program cannot upgrade: nothing was changed; use an older strongroom first",
        place.database.display()
    )))
}

/// A vault of a later program.
pub(super) fn newer(place: &Place, format: i64) -> VaultError {
    VaultError::Refused(format!(
        "the vault `{}` has format {format}, and this program knows up to {}: nothing was changed; use a newer strongroom",
        place.database.display(),
        store::FORMAT
    ))
}

/// Upgrades to this program's version after a backup. The caller holds the folder's lock.
pub(super) fn run(place: &Place, writer: &mut Connection, steps: &[Step]) -> Result<(), VaultError> {
    let failed = |error| place.sql("upgraded", error);
    // Another process may have been first.
    let format = store::format(writer).map_err(failed)?;
    check(place, format, steps)?;
    if format == store::FORMAT {
        return Ok(());
    }
    backup(place, writer, format)?;
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    for from in format..store::FORMAT {
        for step in steps.iter().filter(|step| step.from == from) {
            (step.run)(&transaction).map_err(failed)?;
        }
    }
    transaction.pragma_update(None, "user_version", store::FORMAT).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// Copies the database to `vault.sqlite3.v0-backup` (with the version it had), complete or not at all.
fn backup(place: &Place, writer: &Connection, format: i64) -> Result<(), VaultError> {
    let unfinished = place.beside(".backup-new");
    let backup = place.beside(&format!(".v{format}-backup"));
    let io = |error| place.io("written", &unfinished, &error);
    remove(place, &unfinished)?;
    // SQLite fills an empty file that is there; made here for the mode.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(io)?;
    let Some(target) = unfinished.to_str() else {
        return Err(VaultError::Invalid(format!(
            "the vault's folder `{}` is no UTF-8, so no backup can be made there: move the vault",
            place.dir.display()
        )));
    };
    writer.execute("VACUUM INTO ?1", [target]).map_err(|error| place.sql("backed up", error))?;
    File::open(&unfinished).and_then(|file| file.sync_all()).map_err(io)?;
    fs::rename(&unfinished, &backup).map_err(|error| place.io("renamed", &unfinished, &error))?;
    sync_folder(place, &place.dir)
}
