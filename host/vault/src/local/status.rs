//! What can be told of a vault without its passphrase, and without changing anything.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::header::Wrapping;
use super::place::Place;
use super::whole::{self, Contents};
use super::{LocalVault, keys, open, store};
use crate::VaultError;

/// A vault, seen from outside.
#[derive(Clone, Debug)]
pub struct Status {
    /// The folder, absolute.
    pub dir: PathBuf,
    /// The version of its format.
    pub format: i64,
    /// What opens it.
    pub key: KeySource,
    /// What it holds; none where the format is an older one.
    pub contents: Option<Contents>,
    /// Bytes of the database and its log.
    pub size: u64,
    /// Whether a change of key was cut off. The next command that opens the vault finishes it.
    pub rekey_cut_off: bool,
    /// Keys that were the vault's before. They open older copies.
    pub former_keys: Vec<PathBuf>,
    /// What is wrong, and what to do about each.
    pub problems: Vec<String>,
}

/// What opens a vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A key file.
    KeyFile {
        /// Where it is.
        path: PathBuf,
        /// Whether it is there, private, and the key of this vault.
        fits: bool,
    },
    /// A passphrase, from which Argon2id makes the key.
    Passphrase {
        /// KiB of memory.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
}

impl LocalVault {
    /// Looks at the vault in a folder. Needs no passphrase, changes nothing, and opens no value. Blocks.
    ///
    /// # Errors
    /// As [`LocalVault::open`], except those about the key file or the passphrase: what is wrong with those is among the problems.
    pub fn status(dir: &Path) -> Result<Status, VaultError> {
        let place = Place::of(dir)?;
        let (connection, header, format) = open::look(&place)?;
        let mut problems = Vec::new();
        let key = match &header.wrapping {
            Wrapping::KeyFile => {
                let found = keys::prove(&place, &connection, header.clone(), &super::Unlock::KeyFile);
                let fits = found.is_ok();
                problems.extend(found.err().map(|error| error.to_string()));
                KeySource::KeyFile { path: place.key.clone(), fits }
            }
            Wrapping::Passphrase(kdf) => {
                KeySource::Passphrase { memory_kib: kdf.memory_kib, passes: kdf.passes, lanes: kdf.lanes }
            }
        };
        let contents = if format == store::FORMAT {
            Some(whole::count(&connection).map_err(|error| place.sql("read", error))?)
        } else {
            None
        };
        problems.extend(open_to_others(&place));
        let length = |path: &Path| fs::symlink_metadata(path).map_or(0, |data| data.len());
        Ok(Status {
            format,
            key,
            contents,
            size: length(&place.database).saturating_add(length(&place.beside("-wal"))),
            rekey_cut_off: !keys::is_settled(&place, &header),
            former_keys: former_keys(&place)?,
            problems,
            dir: place.dir,
        })
    }
}

/// Files that others may read or write and should not. Of the key file the key's own check speaks.
fn open_to_others(place: &Place) -> Vec<String> {
    let checked = [(&place.dir, 0o022, "chmod 700"), (&place.database, 0o077, "chmod 600")];
    let told = checked.into_iter().filter_map(|(path, mask, advice)| {
        let mode = fs::symlink_metadata(path).ok()?.mode() & 0o7777;
        let shown = path.display();
        (mode & mask != 0).then(|| format!("`{shown}` is open to others (mode {mode:04o}): run `{advice}` on it"))
    });
    told.collect()
}

fn former_keys(place: &Place) -> Result<Vec<PathBuf>, VaultError> {
    let failed = |error| place.io("read", &place.dir, &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(&place.dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with("vault.key.old-") {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
