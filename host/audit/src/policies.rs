//! The texts of policies, kept by digest, so that a reviewer can read what a run was decided by.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::SyncMode;
use super::error::AuditError;
use super::folder::Folder;
use strongroom_core::ids::Digest;

const FOLDER: &str = "policies";

/// The most bytes of a policy that are read back.
const TEXT_MAX: u64 = 16 * 1024 * 1024;

fn name_of(digest: &Digest) -> String {
    format!("{}.toml", digest.to_hex())
}

/// How many of the policies that this process kept are remembered.
const REMEMBERED: usize = 16_384;

/// The policies that this process has kept, and what the system said of each file then. While a file is as it was, it is not read again for the next
/// run under the same policy.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<HashMap<Digest, Stamp>>);

/// Device, inode, length and both times of a file.
type Stamp = ([u64; 3], [i64; 4]);

impl Kept {
    /// Writes a text unless it is there already as it should be.
    pub(super) fn keep(&self, folder: &Folder, mode: SyncMode, digest: &Digest, text: &str) -> Result<(), AuditError> {
        let known = self.lock().get(digest).copied();
        if known.is_some() && known == stamp(folder, digest) {
            return Ok(());
        }
        keep(folder, mode, digest, text)?;
        if let Some(stamp) = stamp(folder, digest) {
            let mut kept = self.lock();
            if kept.len() >= REMEMBERED {
                kept.clear();
            }
            kept.insert(*digest, stamp);
        }
        Ok(())
    }

    // No code that holds the lock leaves a change half done.
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
    // A name of its own: two processes that keep one policy do not meet before the rename.
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

/// The text of a policy that was kept; none where there is none, or where what stands there is not what the digest names.
///
/// # Errors
/// [`AuditError::Absent`] where there is no audit, [`AuditError::Io`] where it cannot be read.
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
