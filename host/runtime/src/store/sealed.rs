//! Sealed memory files, which no process can change, this one included: their contents can be
//! checked once and mapped many times.
//!
//! A file is hashed as it is written and sealed afterwards; reading it again for the hash would
//! take a quarter longer. Until it is sealed, only the function that creates it knows its
//! descriptor. Another process of the same user can reach this one's descriptors and memory if the
//! system permits it. That is outside the guarantee: such a process can also read the store's key.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// The size of one copied chunk, in bytes: it stays in the processor's cache between the read and
/// the write.
const PIECE: usize = 128 * 1024;

/// Where the system lists a process's open files.
const DESCRIPTORS: &str = "/proc/self/fd";

/// Creates the file that is then written and sealed.
pub(super) type MakeFile = fn() -> std::io::Result<File>;

/// A sealed memory file: its bytes, its length and its seals cannot be changed.
pub(super) struct Sealed {
    file: File,
    length: usize,
}

/// Creates an empty memory file that can be sealed and cannot be executed as a program.
pub(super) fn memory_file() -> std::io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let made = match rustix::fs::memfd_create(c"strongroom-code", flags | MemfdFlags::NOEXEC_SEAL) {
        // The kernel is older than Linux 6.3.
        Err(Errno::INVAL) => rustix::fs::memfd_create(c"strongroom-code", flags),
        made => made,
    };
    Ok(made.map(File::from)?)
}

impl Sealed {
    /// Copies `length` bytes of a file from an offset and seals the copy. `each` is called with all
    /// bytes that are written, in order.
    ///
    /// # Errors
    /// An error if the file cannot be read or is shorter, or if the system has no such memory
    /// files.
    pub(super) fn copy(
        from: &File,
        offset: u64,
        length: usize,
        make: MakeFile,
        mut each: impl FnMut(&[u8]),
    ) -> std::io::Result<Self> {
        // The limit on file size applies to memory files too, and exceeding it would kill the
        // process.
        if getrlimit(Resource::Fsize).current.is_some_and(|most| most < length as u64) {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let mut file = make()?;
        let mut buffer = vec![0; PIECE.min(length)];
        let mut at = 0;
        while at < length {
            let (piece, _) = buffer.split_at_mut(PIECE.min(length - at));
            from.read_exact_at(piece, offset.saturating_add(at as u64))?;
            each(piece);
            file.write_all(piece)?;
            at += piece.len();
        }
        rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        if file.metadata()?.len() != length as u64 {
            return Err(ErrorKind::InvalidData.into());
        }
        Ok(Self { file, length })
    }

    /// Returns the number of bytes.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Returns the bytes.
    pub(super) fn bytes(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.length];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Returns a path by which this process can open the file while this value lives; `None` if the
    /// system lists no descriptors, or lists another file under this one.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.path_in(Path::new(DESCRIPTORS))
    }

    fn path_in(&self, descriptors: &Path) -> Option<PathBuf> {
        let path = descriptors.join(self.file.as_raw_fd().to_string());
        let (found, own) = (std::fs::metadata(&path).ok()?, self.file.metadata().ok()?);
        ((found.dev(), found.ino()) == (own.dev(), own.ino())).then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::*;

    /// Returns a file with a header of four bytes and `length` bytes after it.
    fn source(length: usize) -> (File, Vec<u8>) {
        let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"head").unwrap();
        file.write_all(&bytes).unwrap();
        (file, bytes)
    }

    fn sealed(length: usize) -> (Sealed, Vec<u8>) {
        let (file, bytes) = source(length);
        let mut seen = Vec::new();
        let sealed = Sealed::copy(&file, 4, length, memory_file, |piece| seen.extend_from_slice(piece)).unwrap();
        assert_eq!(seen, bytes, "what is shown is what is copied");
        (sealed, bytes)
    }

    // promise: Cached code is mapped from a sealed copy of which every byte was hashed.
    #[test]
    fn sealed_copy_equals_its_source() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 17] {
            let (sealed, bytes) = sealed(length);
            assert_eq!((sealed.len(), sealed.bytes().unwrap()), (length, bytes));
        }
        let (file, _) = source(10);
        let short = Sealed::copy(&file, 4, 11, memory_file, |_| ()).map(|_| ()).unwrap_err();
        assert_eq!(short.kind(), ErrorKind::UnexpectedEof);
    }

    // promise: Cached code is mapped from a sealed copy of which every byte was hashed.
    #[test]
    fn sealed_file_cannot_be_changed() {
        let (sealed, bytes) = sealed(10_000);
        let opened = |write: bool| File::options().read(true).write(write).open(sealed.path().unwrap()).unwrap();
        let again = opened(true);
        for mut file in [sealed.file.try_clone().unwrap(), again] {
            file.rewind().unwrap();
            assert!(file.write(b"other").is_err(), "written over");
            assert!(file.write_all_at(b"other", 20_000).is_err(), "written behind");
            assert!(file.set_len(9_999).is_err() && file.set_len(10_001).is_err(), "cut or lengthened");
            assert!(rustix::fs::fcntl_add_seals(&file, SealFlags::FUTURE_WRITE).is_err(), "the seals are sealed");
            let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
            assert!(rustix::fs::fcntl_get_seals(&file).unwrap().contains(seals));
        }
        let mut read = Vec::new();
        opened(false).read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        assert_eq!(sealed.bytes().unwrap(), bytes);
    }

    #[test]
    fn file_that_cannot_be_sealed_is_an_error() {
        let (file, _) = source(10);
        let copy = |make: MakeFile| Sealed::copy(&file, 4, 10, make, |_| ()).is_ok();
        assert!(copy(memory_file));
        assert!(!copy(|| Err(ErrorKind::Unsupported.into())));
        assert!(!copy(tempfile::tempfile), "a file on a disk has no seals");
        let without = || Ok(File::from(rustix::fs::memfd_create(c"plain", MemfdFlags::CLOEXEC)?));
        assert!(!copy(without), "nor has one that was not made for it");
        let longer = || {
            let mut file = memory_file()?;
            file.write_all(b"more than was asked for")?;
            file.rewind()?;
            Ok(file)
        };
        assert!(!copy(longer), "bytes behind those that were shown");
    }

    #[test]
    fn sealed_path_leads_to_the_same_file() {
        let (sealed, _) = sealed(10);
        assert!(sealed.path().unwrap().starts_with(DESCRIPTORS));
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(sealed.path_in(folder.path()), None, "no descriptors are shown");
        let other = folder.path().join(sealed.file.as_raw_fd().to_string());
        std::fs::write(other, "something else").unwrap();
        assert_eq!(sealed.path_in(folder.path()), None);
    }
}
