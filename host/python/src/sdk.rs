//! The Python package `strongroom`, which this program contains.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// The files of the package with their paths below `strongroom/`.
const FILES: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/sdk_files.rs"));

/// Returns the list of the tools that a build needs, with their hashes.
pub(crate) fn toolchain() -> &'static [u8] {
    FILES.iter().find(|(name, _)| *name == "build/toolchain.txt").map_or(b"", |(_, data)| data)
}

/// Returns the SHA-256 of the package in hexadecimal.
pub(crate) fn digest() -> String {
    let mut digest = Sha256::new();
    for (name, data) in FILES {
        digest.update(Sha256::digest(name));
        digest.update(Sha256::digest(data));
    }
    hex(&digest.finalize())
}

/// Returns bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

/// Writes the package below `dir`, unless it is there. Returns the folder for `PYTHONPATH`.
///
/// # Errors
/// A file could not be written.
pub(crate) fn unpack(dir: &Path) -> io::Result<PathBuf> {
    let digest = digest();
    let target = dir.join(format!("sdk-{}", digest.get(..16).unwrap_or(&digest)));
    if target.is_dir() {
        return Ok(target);
    }
    let new = dir.join(format!("sdk-new-{}", std::process::id()));
    for (name, data) in FILES {
        let file = new.join("strongroom").join(name);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(file, data)?;
    }
    match fs::rename(&new, &target) {
        // Another process was faster.
        Err(_) if target.is_dir() => fs::remove_dir_all(&new)?,
        renamed => renamed?,
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_is_unpacked_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = unpack(dir.path()).unwrap();
        for file in
            ["__init__.py", "build/toolchain.txt", "build/wit/deps/training/training.wit", "_shims/mlflow/__init__.py"]
        {
            assert!(path.join("strongroom").join(file).is_file(), "{file}");
        }
        fs::write(path.join("mark"), "").unwrap();
        assert_eq!(unpack(dir.path()).unwrap(), path);
        assert!(path.join("mark").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(toolchain().starts_with(b"#"));
    }
}
