//! A view over `wasi:filesystem` that delegates to the engine and enforces the run's quotas.
//!
//! It adds three things: growth in `/output` is charged before the call; links are rejected; and
//! only regular files and directories are opened, so that a FIFO or device in `/input` cannot block
//! a thread. Every method is written out, so that a method which a later engine adds fails to
//! compile instead of bypassing the quota.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::FsPerms;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{self, ErrorCode, HostDescriptor, HostDirectoryEntryStream};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::file_streams::{GuardedRead, GuardedWrite, Position};
use super::preopens::Preopens;
use super::quota::{OpenFile, Quota};

/// A file's identity, from the engine's metadata hash.
type Identity = (u64, u64);

/// The maximum of open directory listings per run. The engine reads a whole directory when its
/// listing is opened, and keeps the names outside the component's memory.
const LISTINGS_MAX: usize = 32;

/// The open files of one run in `/output`, for its quota.
pub(super) struct OpenFiles {
    quota: Quota,
    /// Number of open listings.
    listings: usize,
    by_handle: HashMap<u32, Arc<OpenFile>>,
    by_identity: HashMap<Identity, Weak<OpenFile>>,
}

impl OpenFiles {
    pub(super) fn new(quota: Quota) -> Self {
        Self { quota, listings: 0, by_handle: HashMap::new(), by_identity: HashMap::new() }
    }

    fn opened(&mut self, handle: u32, identity: Identity) {
        if self.by_identity.len() > 2 * super::limits::RESOURCES_MAX {
            self.by_identity.retain(|_, file| file.strong_count() > 0);
        }
        let file = match self.by_identity.get(&identity).and_then(Weak::upgrade) {
            Some(file) => file,
            None => {
                let file = Arc::new(OpenFile::new(self.quota.clone()));
                self.by_identity.insert(identity, Arc::downgrade(&file));
                file
            }
        };
        self.by_handle.insert(handle, file);
    }

    /// Records that a file was unlinked.
    fn removed(&mut self, identity: Identity, size: u64) {
        self.quota.give_back_file();
        // A new file may get the same identity after this one is gone.
        match self.by_identity.remove(&identity).and_then(|file| file.upgrade()) {
            Some(file) => file.removed(size),
            None => self.quota.give_back_bytes(size),
        }
    }
}

/// The view over the engine's filesystem.
pub(super) struct Files<'a> {
    pub(super) inner: WasiFilesystemCtxView<'a>,
    pub(super) preopens: &'a mut Preopens,
    pub(super) open: &'a mut OpenFiles,
}

/// The type that selects this view in the linker.
pub(super) struct GuardedFilesystem;

impl HasData for GuardedFilesystem {
    type Data<'a> = Files<'a>;
}

/// The file or directory at a path.
struct ResolvedPath {
    identity: Identity,
    size: u64,
    regular: bool,
    folder: bool,
}

fn borrow<T: 'static>(resource: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(resource.rep())
}

impl Files<'_> {
    /// Returns whether a handle belongs to the only writable directory.
    fn writable(&self, fd: &Resource<Descriptor>) -> FsResult<bool> {
        let perms = match self.inner.table.get(fd)? {
            Descriptor::File(file) => file.perms,
            Descriptor::Dir(folder) => folder.perms,
        };
        Ok(matches!(perms, FsPerms::ReadWrite))
    }

    /// Returns the size of an open file, or `None` for a directory.
    fn size(&self, fd: &Resource<Descriptor>) -> FsResult<Option<u64>> {
        match self.inner.table.get(fd)? {
            Descriptor::File(file) => Ok(Some(file.file.metadata().map_err(|error| ErrorCode::from(&error))?.len())),
            Descriptor::Dir(_) => Ok(None),
        }
    }

    async fn find(
        &mut self,
        fd: &Resource<Descriptor>,
        flags: types::PathFlags,
        path: &str,
    ) -> FsResult<Option<ResolvedPath>> {
        let stat = match self.inner.stat_at(borrow(fd), flags, path.to_owned()).await {
            Ok(stat) => stat,
            Err(error) if error.downcast_ref().is_some_and(|code| matches!(code, ErrorCode::NoEntry)) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let identity = self.inner.metadata_hash_at(borrow(fd), flags, path.to_owned()).await?;
        Ok(Some(ResolvedPath {
            identity: (identity.lower, identity.upper),
            size: stat.size,
            regular: matches!(stat.type_, types::DescriptorType::RegularFile),
            folder: matches!(stat.type_, types::DescriptorType::Directory),
        }))
    }

    fn forget(&mut self, found: &ResolvedPath) {
        if found.regular {
            self.open.removed(found.identity, found.size);
        } else {
            self.open.quota.give_back_file();
        }
    }

    fn tracked(&self, fd: &Resource<Descriptor>) -> Option<Arc<OpenFile>> {
        self.open.by_handle.get(&fd.rep()).cloned()
    }

    /// Charges the growth that writing up to `end` would cause. Every handle of `/output` is
    /// tracked; a write to one that is not is rejected.
    fn charge_to(&self, fd: &Resource<Descriptor>, end: u64) -> FsResult<()> {
        if !self.writable(fd)? {
            return Ok(());
        }
        let Some(size) = self.size(fd)? else { return Ok(()) };
        let file = self.tracked(fd).ok_or(ErrorCode::NotPermitted)?;
        file.charge(end.saturating_sub(size)).map_err(FsError::trap)
    }

    fn guarded_stream(
        &mut self,
        fd: Resource<Descriptor>,
        position: Position,
        stream: Resource<DynOutputStream>,
    ) -> FsResult<Resource<DynOutputStream>> {
        if !self.writable(&fd)? {
            return Ok(stream);
        }
        let tracked = self.tracked(&fd).ok_or(ErrorCode::NotPermitted)?;
        let file = match self.inner.table.get(&fd)? {
            Descriptor::File(file) => Arc::clone(&file.file),
            Descriptor::Dir(_) => return Err(ErrorCode::IsDirectory.into()),
        };
        let inner = self.inner.table.delete(stream)?;
        let guarded: DynOutputStream = Box::new(GuardedWrite::new(inner, file, tracked, position));
        Ok(self.inner.table.push(guarded)?)
    }
}

impl types::Host for Files<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.inner.convert_error_code(error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.inner.filesystem_error_code(error)
    }
}

impl HostDescriptor for Files<'_> {
    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
        open_flags: types::OpenFlags,
        flags: types::DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let writable = self.writable(&fd)?;
        let _settled = match writable && open_flags.contains(types::OpenFlags::TRUNCATE) {
            true => Some(self.open.quota.settled().await),
            false => None,
        };
        let found = self.find(&fd, path_flags, &path).await?;
        if found.as_ref().is_some_and(|found| !found.regular && !found.folder) {
            return Err(ErrorCode::NotPermitted.into());
        }
        let creates = writable && found.is_none() && open_flags.contains(types::OpenFlags::CREATE);
        if creates {
            self.open.quota.charge_file().map_err(FsError::trap)?;
        }
        let opened = match self.inner.open_at(fd, path_flags, path, open_flags, flags).await {
            Ok(opened) => opened,
            Err(error) => {
                if creates {
                    self.open.quota.give_back_file();
                }
                return Err(error);
            }
        };
        if writable && self.size(&opened)?.is_some() {
            let identity = self.inner.metadata_hash(borrow(&opened)).await?;
            self.open.opened(opened.rep(), (identity.lower, identity.upper));
            if let Some(found) = found.filter(|_| open_flags.contains(types::OpenFlags::TRUNCATE))
                && let Some(file) = self.tracked(&opened)
            {
                file.shrunk(found.size);
            }
        }
        Ok(opened)
    }

    async fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let writable = self.writable(&fd)?;
        if writable {
            self.open.quota.charge_file().map_err(FsError::trap)?;
        }
        let made = self.inner.create_directory_at(fd, path).await;
        if writable && made.is_err() {
            self.open.quota.give_back_file();
        }
        made
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: types::Filesize) -> FsResult<()> {
        let _settled = self.open.quota.settled().await;
        self.charge_to(&fd, size)?;
        let before = self.size(&fd)?.unwrap_or(0);
        let tracked = self.tracked(&fd);
        self.inner.set_size(fd, size).await?;
        if let Some(file) = tracked {
            file.shrunk(before.saturating_sub(size));
        }
        Ok(())
    }

    async fn write(
        &mut self,
        fd: Resource<Descriptor>,
        buffer: Vec<u8>,
        offset: types::Filesize,
    ) -> FsResult<types::Filesize> {
        self.charge_to(&fd, offset.saturating_add(buffer.len() as u64))?;
        self.inner.write(fd, buffer, offset).await
    }

    fn write_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: types::Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.inner.write_via_stream(borrow(&fd), offset)?;
        self.guarded_stream(fd, Position::At(offset), stream)
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.inner.append_via_stream(borrow(&fd))?;
        self.guarded_stream(fd, Position::End, stream)
    }

    fn read_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: types::Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let tracked = self.tracked(&fd);
        let stream = self.inner.read_via_stream(fd, offset)?;
        let Some(tracked) = tracked else { return Ok(stream) };
        let inner = self.inner.table.delete(stream)?;
        let guarded: DynInputStream = Box::new(GuardedRead::new(inner, tracked));
        Ok(self.inner.table.push(guarded)?)
    }

    async fn link_at(
        &mut self,
        _fd: Resource<Descriptor>,
        _old_path_flags: types::PathFlags,
        _old_path: String,
        _new_descriptor: Resource<Descriptor>,
        _new_path: String,
    ) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn symlink_at(&mut self, _fd: Resource<Descriptor>, _target: String, _path: String) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        if !self.writable(&fd)? {
            return self.inner.unlink_file_at(fd, path).await;
        }
        let _settled = self.open.quota.settled().await;
        let found = self.find(&fd, types::PathFlags::empty(), &path).await?;
        self.inner.unlink_file_at(fd, path).await?;
        if let Some(found) = found {
            self.forget(&found);
        }
        Ok(())
    }

    async fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let writable = self.writable(&fd)?;
        self.inner.remove_directory_at(fd, path).await?;
        if writable {
            self.open.quota.give_back_file();
        }
        Ok(())
    }

    async fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        old_path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        if !self.writable(&fd)? || !self.writable(&new_fd)? {
            return Err(ErrorCode::NotPermitted.into());
        }
        let _settled = self.open.quota.settled().await;
        let old = self.find(&fd, types::PathFlags::empty(), &old_path).await?;
        let replaced = self.find(&new_fd, types::PathFlags::empty(), &new_path).await?;
        self.inner.rename_at(fd, old_path, new_fd, new_path).await?;
        // Renaming a file to its own name does nothing, so it must not refund anything.
        if let (Some(old), Some(replaced)) = (old, replaced)
            && old.identity != replaced.identity
        {
            self.forget(&replaced);
        }
        Ok(())
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.open.by_handle.remove(&fd.rep());
        HostDescriptor::drop(&mut self.inner, fd)
    }

    async fn advise(
        &mut self,
        fd: Resource<Descriptor>,
        offset: types::Filesize,
        length: types::Filesize,
        advice: types::Advice,
    ) -> FsResult<()> {
        self.inner.advise(fd, offset, length, advice).await
    }

    async fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.inner.sync_data(fd).await
    }

    async fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<types::DescriptorFlags> {
        self.inner.get_flags(fd).await
    }

    async fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<types::DescriptorType> {
        self.inner.get_type(fd).await
    }

    async fn set_times(
        &mut self,
        fd: Resource<Descriptor>,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        self.inner.set_times(fd, accessed, modified).await
    }

    async fn read(
        &mut self,
        fd: Resource<Descriptor>,
        length: types::Filesize,
        offset: types::Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        self.inner.read(fd, length, offset).await
    }

    async fn read_directory(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<types::DirectoryEntryStream>> {
        if self.open.listings >= LISTINGS_MAX {
            return Err(ErrorCode::InsufficientMemory.into());
        }
        let listing = self.inner.read_directory(fd).await?;
        self.open.listings = self.open.listings.saturating_add(1);
        Ok(listing)
    }

    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.inner.sync(fd).await
    }

    async fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<types::DescriptorStat> {
        self.inner.stat(fd).await
    }

    async fn stat_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        self.inner.stat_at(fd, path_flags, path).await
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        self.inner.set_times_at(fd, path_flags, path, accessed, modified).await
    }

    async fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        self.inner.readlink_at(fd, path).await
    }

    async fn is_same_object(&mut self, a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool> {
        self.inner.is_same_object(a, b).await
    }

    async fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<types::MetadataHashValue> {
        self.inner.metadata_hash(fd).await
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        self.inner.metadata_hash_at(fd, path_flags, path).await
    }
}

impl HostDirectoryEntryStream for Files<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<types::DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        self.inner.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<types::DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.open.listings = self.open.listings.saturating_sub(1);
        HostDirectoryEntryStream::drop(&mut self.inner, stream)
    }
}
