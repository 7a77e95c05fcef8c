//! A vault's status, which needs no passphrase and changes nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::bulk::{self, Contents};
use super::files::VaultFiles;
use super::header::Wrapping;
use super::{LocalVault, keys, open, store};
use crate::VaultError;

/// Status of a vault.
#[derive(Clone, Debug)]
pub struct Status {
    /// The directory, absolute.
    pub dir: PathBuf,
    /// Format version.
    pub format: i64,
    /// What opens the vault.
    pub key: KeySource,
    /// Number of secrets and versions.
    pub contents: Contents,
    /// Size of the database and its log in bytes.
    pub size: u64,
    /// Whether a rekey was interrupted. The next time the vault is opened completes it.
    pub rekey_cut_off: bool,
    /// Former key files, which open older copies.
    pub former_keys: Vec<PathBuf>,
    /// Problems, each with what to do about it.
    pub problems: Vec<String>,
}

/// What opens a vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A key file.
    KeyFile {
        /// Path of the key file.
        path: PathBuf,
        /// Whether the file exists, has private permissions and matches this vault.
        fits: bool,
    },
    /// A passphrase, from which Argon2id derives the key.
    Passphrase {
        /// Memory in KiB.
        memory_kib: u32,
        /// Number of passes over the memory.
        passes: u32,
        /// Number of lanes.
        lanes: u32,
    },
}

impl LocalVault {
    /// Returns the status of the vault in a directory. Needs no passphrase, decrypts nothing and
    /// changes nothing. Blocks.
    ///
    /// # Errors
    /// Those of [`LocalVault::open`], except errors about the key file or the passphrase, which are
    /// reported in [`Status::problems`].
    pub fn status(dir: &Path) -> Result<Status, VaultError> {
        let files = VaultFiles::in_dir(dir)?;
        let (connection, header) = open::inspect(&files)?;
        let mut problems = Vec::new();
        let key = match &header.wrapping {
            Wrapping::KeyFile => {
                let found = keys::find_current(&files, &connection, header.clone(), &super::Protection::KeyFile);
                let fits = found.is_ok();
                problems.extend(found.err().map(|error| error.to_string()));
                KeySource::KeyFile { path: files.key.clone(), fits }
            }
            Wrapping::Passphrase(kdf) => {
                KeySource::Passphrase { memory_kib: kdf.memory_kib, passes: kdf.passes, lanes: kdf.lanes }
            }
        };
        let contents = bulk::count(&connection).map_err(|error| files.sql("read", error))?;
        problems.extend(permission_problems(&files));
        let length = |path: &Path| fs::symlink_metadata(path).map_or(0, |data| data.len());
        Ok(Status {
            format: store::FORMAT,
            key,
            contents,
            size: length(&files.database).saturating_add(length(&files.with_suffix("-wal"))),
            rekey_cut_off: !keys::is_settled(&files, &header),
            former_keys: former_keys(&files)?,
            problems,
            dir: files.dir,
        })
    }
}

/// Returns a problem for each file that other users can access. The key file is checked when it is
/// read.
fn permission_problems(files: &VaultFiles) -> Vec<String> {
    let checked = [(&files.dir, 0o022, "chmod 700"), (&files.database, 0o077, "chmod 600")];
    let problems = checked.into_iter().filter_map(|(path, mask, advice)| {
        let mode = fs::symlink_metadata(path).ok()?.mode() & 0o7777;
        let shown = path.display();
        (mode & mask != 0).then(|| format!("`{shown}` is open to others (mode {mode:04o}): run `{advice}` on it"))
    });
    problems.collect()
}

fn former_keys(files: &VaultFiles) -> Result<Vec<PathBuf>, VaultError> {
    let failed = |error| files.io("read", &files.dir, &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(&files.dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with("vault.key.old-") {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
