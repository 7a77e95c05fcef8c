//! The compiled-code cache on disk, so that a component is compiled once and not once per process.
//!
//! Compiled code is loaded as machine code of this process. An entry is therefore trusted only if a
//! keyed hash over component, engine and bytes verifies, computed over the very bytes that are then
//! loaded: a copy of the entry in a sealed memory file or, if the system has no such files, in this
//! process's memory. The key is stored beside the entries, readable only by this user. Another
//! process of the same user can read it and is outside the guarantee. An entry that does not verify
//! is treated as absent: the component is compiled again and the entry replaced.

mod entry;
mod folder;
mod sealed;
mod trusted;

#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Timespec, Timestamps, UTIME_NOW};

use self::entry::{HEADER_LEN, Key};
use self::folder::{Folder, Unusable};
use self::sealed::{MakeFile, memory_file};
pub(super) use self::trusted::AuthenticatedCode;
use super::compile::CODE_MAX;
use super::engine::EngineHash;
use strongroom_core::ids::Digest;

/// The default maximum size of the store, in bytes: about 30 packed Python interpreters.
pub const STORE_MAX: u64 = 1024 * 1024 * 1024;

const SUFFIX: &str = ".code";

/// A directory of compiled code. Several processes may use it at once.
pub struct CodeStore {
    path: PathBuf,
    max_bytes: u64,
    open: OnceLock<(Folder, Key)>,
}

/// Why the store cannot be used. A run can continue without it and compiles the component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory or file does not belong to this user alone.
    #[error("`{}` cannot hold compiled code: {why}; remove it, and it is made anew", path.display())]
    NotOurs {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system returned an error.
    #[error("the store of compiled code at `{}` cannot be used: {cause}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// The system returned no random numbers for a key.
    #[error("the system has no random numbers for the key of the store of compiled code: {0}")]
    Random(String),
}

impl StoreError {
    fn io(path: &Path, error: rustix::io::Errno) -> Self {
        Self::Io { path: path.to_owned(), cause: error.into() }
    }
}

/// The result of a store look-up.
pub(super) enum StoredCode {
    /// Code whose keyed hash verifies.
    Code(AuthenticatedCode),
    /// There is no entry.
    Absent,
    /// There is an entry that must not be loaded, and why.
    Unusable(String),
}

impl CodeStore {
    /// Opens a directory as a store. If it is missing, it is created when the first entry is
    /// written.
    ///
    /// # Errors
    /// [`StoreError`] if the directory exists but is a link, is accessible to other users, or is
    /// not readable.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Self { path: path.to_owned(), max_bytes: STORE_MAX, open: OnceLock::new() };
        if let Some(folder) = Folder::open(path)? {
            // Leftover files occupy space but do no harm, so a failure to list the directory is
            // ignored here.
            let _ = folder.clear();
            if let Some(key) = folder.key()? {
                let _ = store.open.set((folder, key));
            }
        }
        Ok(store)
    }

    /// Sets the maximum size of the store, in bytes. The least recently used entries are removed
    /// first.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Looks up the code of a component. It reads a whole file: do not call it on an executor's
    /// thread.
    pub(super) fn get(&self, component: &Digest, engine: &EngineHash) -> StoredCode {
        self.get_into(component, engine, memory_file)
    }

    /// Does the same with another function that makes the file to seal.
    fn get_into(&self, component: &Digest, engine: &EngineHash, make: MakeFile) -> StoredCode {
        let Some((folder, key)) = self.open.get() else { return StoredCode::Absent };
        let unusable = |why: &str| {
            StoredCode::Unusable(format!(
                "the stored code of this component was not used: {why}; it was compiled again"
            ))
        };
        let (mut file, stat) = match folder.file(&name(component, engine)) {
            Ok(Some(found)) => found,
            Ok(None) => return StoredCode::Absent,
            Err(Unusable::NotOurs(why)) => return unusable(why),
            Err(Unusable::Io(error)) => return unusable(&error.to_string()),
        };
        let length = usize::try_from(stat.st_size).ok().and_then(|size| size.checked_sub(HEADER_LEN));
        let Some(length) = length.filter(|length| *length <= CODE_MAX) else {
            return unusable("it has the wrong length");
        };
        let mut header = [0; HEADER_LEN];
        if let Err(error) = file.read_exact(&mut header) {
            return unusable(&error.to_string());
        }
        let Some(expected) = entry::parse(&header) else { return unusable("it is in another format") };
        match AuthenticatedCode::check(key, component, engine, &expected, (&file, length), make) {
            Ok(Some(code)) => {
                // Marks the entry as used. On a file system that cannot, the entry written first is
                // removed first.
                let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
                let _ = rustix::fs::futimens(&file, &Timestamps { last_access: now, last_modification: now });
                StoredCode::Code(code)
            }
            Ok(None) => unusable("it is not what this store wrote"),
            Err(error) => unusable(&error.to_string()),
        }
    }

    /// Stores the code of a component, replacing an existing entry, and removes the least recently
    /// used entries beyond the maximum. Code that alone exceeds the maximum is not stored, and
    /// neither is code that came from the store.
    ///
    /// # Errors
    /// [`StoreError`]; the code in hand remains usable.
    pub(super) fn put(
        &self,
        component: &Digest,
        engine: &EngineHash,
        code: &AuthenticatedCode,
    ) -> Result<(), StoreError> {
        let Some(fresh) = code.fresh() else { return Ok(()) };
        let (folder, key) = self.make()?;
        let bytes = (fresh.len() as u64).saturating_add(HEADER_LEN as u64);
        if bytes > self.max_bytes {
            return Ok(());
        }
        let header = entry::header(&entry::mac(key, component, engine, fresh));
        let name = name(component, engine);
        let io = |cause| StoreError::Io { path: self.path.clone(), cause };
        folder.replace(&name, &[&header, fresh]).map_err(io)?;
        self.evict(folder, &name).map_err(io)
    }

    fn make(&self) -> Result<&(Folder, Key), StoreError> {
        if let Some(open) = self.open.get() {
            return Ok(open);
        }
        let folder = Folder::create(&self.path)?;
        let key = folder.make_key()?;
        Ok(self.open.get_or_init(|| (folder, key)))
    }

    fn evict(&self, folder: &Folder, keep: &str) -> std::io::Result<()> {
        folder.clear()?;
        let mut listed = folder.list(SUFFIX)?;
        let mut total = listed.iter().fold(0u64, |sum, file| sum.saturating_add(file.bytes));
        listed.sort_by_key(|file| file.used);
        for file in listed {
            if total <= self.max_bytes {
                break;
            }
            if file.name.as_bytes() != keep.as_bytes() {
                folder.remove(&file.name);
                total = total.saturating_sub(file.bytes);
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for CodeStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeStore")
            .field("path", &self.path)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

/// Returns the file name for a component and engine. Each pair has its own file, so that two
/// versions of this program do not interfere.
fn name(component: &Digest, engine: &EngineHash) -> String {
    format!("{}-{engine:?}{SUFFIX}", component.to_hex())
}
