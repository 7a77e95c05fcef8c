//! Policy texts, stored by digest, so that a reviewer can read the policy of a run.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::SyncMode;
use super::error::AuditError;
use super::folder::Folder;
use strongroom_core::ids::Digest;

const FOLDER: &str = "policies";

/// Maximum length of a policy that is read back, in bytes.
const TEXT_MAX: u64 = 16 * 1024 * 1024;

fn name_of(digest: &Digest) -> String {
    format!("{}.toml", digest.to_hex())
}

/// Maximum number of remembered policies.
const STAMPS_MAX: usize = 16_384;

/// Policies that this process has stored, with the file metadata of each. While the metadata is
/// unchanged, the file is not read again for the next run with the same policy.
#[derive(Debug, Default)]
pub(super) struct PolicyStore(Mutex<HashMap<Digest, Stamp>>);

/// Device, inode and length of a file, and its modification and status change times.
type Stamp = ([u64; 3], [i64; 4]);

impl PolicyStore {
    /// Stores a text unless it is already stored intact.
    pub(super) fn keep(&self, folder: &Folder, mode: SyncMode, digest: &Digest, text: &str) -> Result<(), AuditError> {
        let expected = self.lock().get(digest).copied();
        if expected.is_some() && expected == stamp(folder, digest) {
            return Ok(());
        }
        keep(folder, mode, digest, text)?;
        if let Some(stamp) = stamp(folder, digest) {
            let mut kept = self.lock();
            if kept.len() >= STAMPS_MAX {
                kept.clear();
            }
            kept.insert(*digest, stamp);
        }
        Ok(())
    }

    // A poisoned lock is safe to use: no change is left incomplete.
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Stamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(folder: &Folder, digest: &Digest) -> Option<Stamp> {
    let stat = folder.stat_below(FOLDER, &name_of(digest))?;
    let length = u64::try_from(stat.st_size).ok()?;
    let nanos = |nanos: u64| i64::try_from(nanos).unwrap_or(i64::MAX);
    let times = [stat.st_mtime, nanos(stat.st_mtime_nsec), stat.st_ctime, nanos(stat.st_ctime_nsec)];
    Some(([stat.st_dev, stat.st_ino, length], times))
}

fn keep(folder: &Folder, mode: SyncMode, digest: &Digest, text: &str) -> Result<(), AuditError> {
    if Digest::of(text.as_bytes()) != *digest {
        return Err(AuditError::PolicyDigest(*digest));
    }
    let policies = folder.inner(FOLDER)?;
    let name = name_of(digest);
    if get(&policies, digest)?.is_some() {
        return Ok(());
    }
    // A unique name, so that two processes that store the same policy do not collide before the
    // rename.
    let scratch = format!(".{}", ulid::Ulid::generate());
    let path = policies.path_of(&name);
    let written = policies.create(&scratch).and_then(|mut file| {
        let durable = |file: &std::fs::File| if mode == SyncMode::Always { file.sync_all() } else { Ok(()) };
        file.write_all(text.as_bytes())
            .and_then(|()| durable(&file))
            .map_err(|error| AuditError::io("keep the policy as", &path, error))
    });
    if let Err(error) = written.and_then(|()| policies.replace(&scratch, &name)) {
        policies.discard(&scratch);
        return Err(error);
    }
    if mode == SyncMode::Always {
        policies.sync()?;
        folder.sync()?;
    }
    Ok(())
}

/// Returns a stored policy; `None` if it is missing or does not match the digest.
///
/// # Errors
/// [`AuditError::Absent`] if there is no audit log, [`AuditError::Io`] if the file cannot be read.
pub fn kept_policy(dir: &Path, digest: &Digest) -> Result<Option<String>, AuditError> {
    match Folder::open(&dir.join(FOLDER)) {
        Ok(policies) => get(&policies, digest),
        Err(AuditError::Absent(_)) => Folder::open(dir).map(|_| None),
        Err(error) => Err(error),
    }
}

fn get(policies: &Folder, digest: &Digest) -> Result<Option<String>, AuditError> {
    let name = name_of(digest);
    let Some(file) = policies.read(&name)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(TEXT_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| AuditError::io("read the policy", &policies.path_of(&name), error))?;
    if Digest::of(&bytes) != *digest {
        return Ok(None);
    }
    Ok(String::from_utf8(bytes).ok())
}
