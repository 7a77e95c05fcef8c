//! The directories that a run sees, opened when its component first asks for them.
//!
//! The engine opens each directory when the run is set up. Many components read no file, and
//! opening a directory by its path takes a fifth of a short run's time outside the engine.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use rustix::fs::OFlags;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::FsPerms;
use wasmtime_wasi::filesystem::{Descriptor, Dir, OpenMode};
use wasmtime_wasi::p2::bindings::filesystem::preopens;

use super::files::Files;

/// The directories of one run.
#[derive(Default)]
pub(super) struct Preopens(Vec<Preopen>);

struct Preopen {
    path: PathBuf,
    /// The name under which the component sees the directory.
    name: &'static str,
    perms: FsPerms,
    open: Option<Dir>,
}

/// The error for a directory that the host holds open but could not open for the component.
#[derive(Debug, thiserror::Error)]
#[error("the folder `{name}` of the run cannot be opened: {cause}")]
pub(super) struct Unopened {
    name: &'static str,
    #[source]
    cause: io::Error,
}

impl Preopens {
    /// Adds a directory. The path must lead to it until the run has ended.
    pub(super) fn add(&mut self, path: PathBuf, name: &'static str, perms: FsPerms) {
        self.0.push(Preopen { path, name, perms, open: None });
    }

    fn give(&mut self, table: &mut ResourceTable) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.0
            .iter_mut()
            .map(|preopen| {
                let folder = preopen.folder().map_err(|cause| Unopened { name: preopen.name, cause })?;
                Ok((table.push(Descriptor::Dir(folder))?, preopen.name.to_owned()))
            })
            .collect()
    }
}

impl Preopen {
    fn folder(&mut self) -> io::Result<Dir> {
        if let Some(folder) = &self.open {
            return Ok(folder.clone());
        }
        // The flags that the engine uses, to open the directory as a base for paths.
        let flags = OFlags::DIRECTORY | OFlags::PATH;
        let folder = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(&self.path)?;
        let mode = match self.perms {
            FsPerms::ReadOnly => OpenMode::READ,
            FsPerms::ReadWrite => OpenMode::READ | OpenMode::WRITE,
        };
        Ok(self.open.insert(Dir::new(folder, self.perms, mode, false)).clone())
    }
}

impl preopens::Host for Files<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.preopens.give(self.inner.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use strongroom_broker::Ended;

    #[test]
    fn preopen_is_opened_once_at_the_first_request() {
        let folder = tempfile::tempdir().unwrap();
        let (mut preopens, mut table) = (Preopens::default(), ResourceTable::new());
        preopens.add(folder.path().to_owned(), "/output", FsPerms::ReadWrite);
        assert!(preopens.0[0].open.is_none());
        let files: Vec<_> = (0..2)
            .map(|_| {
                let (descriptor, name) = preopens.give(&mut table).unwrap().pop().unwrap();
                assert_eq!(name, "/output");
                let Descriptor::Dir(folder) = table.get(&descriptor).unwrap() else { panic!("a folder") };
                assert!(matches!(folder.perms, FsPerms::ReadWrite));
                Arc::clone(&folder.dir)
            })
            .collect();
        assert!(Arc::ptr_eq(&files[0], &files[1]));
    }

    #[test]
    fn missing_preopen_is_a_host_fault() {
        let folder = tempfile::tempdir().unwrap();
        let (mut preopens, mut table) = (Preopens::default(), ResourceTable::new());
        preopens.add(folder.path().join("gone"), "/input", FsPerms::ReadOnly);
        let error = preopens.give(&mut table).unwrap_err();
        assert!(error.downcast_ref::<Unopened>().unwrap().to_string().starts_with("the folder `/input` of the run"));
    }

    #[test]
    fn preopen_without_descriptors_reports_a_busy_host() {
        for (errno, limit) in [(rustix::io::Errno::MFILE, "ulimit -n"), (rustix::io::Errno::NFILE, "fs.file-max")] {
            let error = wasmtime::Error::from(Unopened { name: "/output", cause: errno.into() }).context("in a call");
            let busy = crate::guard::exhausted(&error);
            let told = matches!(&busy, Some(Ended::HostFault(why)) if why.contains("is busy") && why.contains(limit));
            assert!(told, "{busy:?}");
        }
    }
}
