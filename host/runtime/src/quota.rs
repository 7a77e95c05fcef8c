//! The quota of `/output`: bytes and files, charged before they exist.
//!
//! Bytes are the apparent sizes of all regular files, so that a sparse file is charged for its full
//! length. Removing or shortening a file refunds its bytes. A file that is removed while it is open
//! is refunded when its last handle closes, as in the file system.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::stop::{Stop, StopCell};
use strongroom_core::record::Limit;

/// The quota of a run. Clones share it.
#[derive(Clone)]
pub(super) struct Quota(Arc<Inner>);

struct Inner {
    bytes_max: u64,
    files_max: u64,
    used: Mutex<Used>,
    stop: StopCell,
    /// Locked for reading by each background write, and for writing by each operation that shortens
    /// or removes a file.
    under_way: Arc<RwLock<()>>,
}

/// A background write in progress. It ends when this is dropped.
pub(super) struct UnderWay(#[expect(dead_code, reason = "held, and never looked at")] OwnedRwLockReadGuard<()>);

/// While this is held, no background write is in progress.
pub(super) struct Settled(#[expect(dead_code, reason = "held, and never looked at")] OwnedRwLockWriteGuard<()>);

#[derive(Clone, Copy, Default)]
struct Used {
    bytes: u64,
    files: u64,
}

impl Quota {
    pub(super) fn new(bytes_max: u64, files_max: u64, stop: StopCell) -> Self {
        Self(Arc::new(Inner {
            bytes_max,
            files_max,
            used: Mutex::new(Used::default()),
            stop,
            under_way: Arc::default(),
        }))
    }

    /// Waits for the streams' writes in progress. A refund is the difference of a file's old and
    /// new size; a write that was charged before and completes after it would make the file longer
    /// again at no charge.
    pub(super) async fn settled(&self) -> Settled {
        Settled(Arc::clone(&self.0.under_way).write_owned().await)
    }

    /// Records that a write begins. `None` while a file is being shortened, which cannot happen: a
    /// component makes one call at a time.
    fn begin_write(&self) -> Option<UnderWay> {
        Arc::clone(&self.0.under_way).try_read_owned().ok().map(UnderWay)
    }

    /// Charges the growth of a file, or stops the run.
    pub(super) fn charge_bytes(&self, growth: u64) -> Result<(), Stop> {
        self.change(|used| {
            let bytes = used.bytes.saturating_add(growth);
            if bytes > self.0.bytes_max {
                return Err(self.0.stop.stop(Limit::OutputBytes));
            }
            used.bytes = bytes;
            Ok(())
        })
    }

    /// Charges a file or directory, or stops the run.
    pub(super) fn charge_file(&self) -> Result<(), Stop> {
        self.change(|used| {
            let files = used.files.saturating_add(1);
            if files > self.0.files_max {
                return Err(self.0.stop.stop(Limit::OutputFiles));
            }
            used.files = files;
            Ok(())
        })
    }

    pub(super) fn give_back_bytes(&self, bytes: u64) {
        self.change(|used| used.bytes = used.bytes.saturating_sub(bytes));
    }

    pub(super) fn give_back_file(&self) {
        self.change(|used| used.files = used.files.saturating_sub(1));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Used) -> T) -> T {
        change(&mut self.0.used.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An open file of `/output`. All its handles and streams share one; when the last is dropped, a
/// removed file's bytes are refunded.
pub(super) struct OpenFile {
    quota: Quota,
    removed: AtomicBool,
    /// The bytes that a removed file still occupies.
    orphaned: AtomicU64,
}

impl OpenFile {
    pub(super) fn new(quota: Quota) -> Self {
        Self { quota, removed: AtomicBool::new(false), orphaned: AtomicU64::new(0) }
    }

    /// Records that a write of this file begins; see [`Quota::settled`].
    pub(super) fn begin_write(&self) -> Option<UnderWay> {
        self.quota.begin_write()
    }

    /// Charges the growth of this file.
    pub(super) fn charge(&self, growth: u64) -> Result<(), Stop> {
        if growth == 0 {
            return Ok(());
        }
        self.quota.charge_bytes(growth)?;
        if self.removed.load(Ordering::Relaxed) {
            self.orphaned.fetch_add(growth, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Refunds the bytes that a shortened file no longer occupies. For a removed file, refunds no
    /// more than its remaining charge.
    pub(super) fn shrunk(&self, by: u64) {
        let back = if self.removed.load(Ordering::Relaxed) {
            let before = self.orphaned.load(Ordering::Relaxed);
            let back = by.min(before);
            self.orphaned.fetch_sub(back, Ordering::Relaxed);
            back
        } else {
            by
        };
        self.quota.give_back_bytes(back);
    }

    /// Records that the file was unlinked while it is open.
    pub(super) fn removed(&self, size: u64) {
        if !self.removed.swap(true, Ordering::Relaxed) {
            self.orphaned.fetch_add(size, Ordering::Relaxed);
        }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.quota.give_back_bytes(self.orphaned.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_files_are_bounded() {
        let stop = StopCell::default();
        let quota = Quota::new(10, 1, stop.clone());
        quota.charge_bytes(10).unwrap();
        assert!(quota.charge_bytes(1).is_err());
        assert_eq!(stop.limit(), Some(Limit::OutputBytes));
        quota.give_back_bytes(1);
        quota.charge_bytes(1).unwrap();
        quota.charge_file().unwrap();
        assert!(quota.charge_file().is_err());
        assert!(quota.charge_bytes(u64::MAX).is_err());
    }

    #[tokio::test]
    async fn truncation_waits_for_pending_writes() {
        let quota = Quota::new(10, 1, StopCell::default());
        let file = OpenFile::new(quota.clone());
        let write = file.begin_write().unwrap();
        let mut settled = Box::pin(quota.settled());
        assert!(futures_util::poll!(&mut settled).is_pending());
        drop(write);
        let settled = settled.await;
        assert!(file.begin_write().is_none());
        drop(settled);
        assert!(file.begin_write().is_some());
    }

    #[test]
    fn removed_file_is_charged_until_its_last_handle_closes() {
        let quota = Quota::new(10, 1, StopCell::default());
        let file = OpenFile::new(quota.clone());
        file.charge(6).unwrap();
        file.removed(6);
        file.charge(2).unwrap();
        assert!(quota.charge_bytes(3).is_err());
        file.shrunk(5);
        assert!(quota.charge_bytes(8).is_err());
        drop(file);
        quota.charge_bytes(10).unwrap();
        assert!(quota.charge_bytes(1).is_err());
    }
}
