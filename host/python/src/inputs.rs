//! What a component was built from. While all of it is unchanged, no interpreter has to be started
//! to find out that the component can be used again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::sdk::hex;

/// The largest record that is read, in bytes. A project has at most 2,000 files.
const RECORD_MAX: u64 = 4 * 1024 * 1024;

/// The largest file that a project may have, in bytes.
const FILE_MAX: u64 = 32 * 1024 * 1024;

/// The result of a build, and what it depended on. All paths are absolute.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The digest that names the component.
    pub(crate) digest: String,
    pub(crate) inputs: Inputs,
}

/// What a build depended on.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inputs {
    /// The SHA-256 of each file.
    files: BTreeMap<PathBuf, String>,
    /// The paths at which nothing was found.
    absent: Vec<PathBuf>,
    /// The SHA-256 of the names in each folder.
    listed: BTreeMap<PathBuf, String>,
}

impl Inputs {
    /// Returns whether nothing has changed. A file that cannot be read has changed.
    pub(crate) fn are_unchanged(&self) -> bool {
        !self.files.is_empty()
            && self.absent.iter().all(|path| fs::symlink_metadata(path).is_err())
            && self.files.iter().all(|(path, digest)| file_digest(path).is_ok_and(|found| found == *digest))
            && self.listed.iter().all(|(path, digest)| listing_digest(path).is_ok_and(|found| found == *digest))
    }
}

impl Record {
    /// Reads a record. `None` if there is none that can be used.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let mut data = Vec::new();
        File::open(path).ok()?.take(RECORD_MAX).read_to_end(&mut data).ok()?;
        let record: Self = serde_json::from_slice(&data).ok()?;
        is_digest(&record.digest).then_some(record)
    }

    /// Replaces a record as a whole.
    ///
    /// # Errors
    /// The file could not be written.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension(format!("new-{}", std::process::id()));
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(&new, path)
    }
}

/// Returns whether a text is a SHA-256 in hexadecimal, and so a name of a component.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn file_digest(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > FILE_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut data = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut data)?;
    Ok(hex(&Sha256::digest(&data)))
}

fn listing_digest(path: &Path) -> io::Result<String> {
    let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<OsString>>>()?;
    let mut lines: Vec<Vec<u8>> = names.iter().map(|name| [name.as_bytes(), b"\n"].concat()).collect();
    lines.sort();
    Ok(hex(&Sha256::digest(lines.concat())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_unchanged_until_a_file_a_name_or_an_absence_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let changes: [fn(&Path); 4] = [
            |dir| fs::write(dir.join("train.py"), "b").unwrap(),
            |dir| fs::write(dir.join("json.py"), "").unwrap(),
            |dir| fs::write(dir.join("pkg/new.py"), "").unwrap(),
            |dir| fs::remove_file(dir.join("train.py")).unwrap(),
        ];
        for change in changes {
            let _ = fs::remove_dir_all(path("pkg"));
            let _ = fs::remove_file(path("json.py"));
            fs::create_dir(path("pkg")).unwrap();
            fs::write(path("pkg/a.py"), "").unwrap();
            fs::write(path("pkg/b.py"), "").unwrap();
            fs::write(path("train.py"), "a").unwrap();
            let record = Record {
                digest: "0".repeat(64),
                inputs: Inputs {
                    files: [(path("train.py"), hex(&Sha256::digest("a")))].into(),
                    absent: vec![path("json.py")],
                    listed: [(path("pkg"), hex(&Sha256::digest("a.py\nb.py\n")))].into(),
                },
            };
            record.write(&path("record.json")).unwrap();
            let read = Record::read(&path("record.json")).unwrap();
            assert_eq!(read, record);
            assert!(read.inputs.are_unchanged());
            change(dir.path());
            assert!(!read.inputs.are_unchanged());
        }
        assert!(!Inputs::default().are_unchanged());
    }

    #[test]
    fn damaged_record_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        assert_eq!(Record::read(&path), None);
        for text in ["", "{}", r#"{"digest":"../../x","inputs":{"files":{},"absent":[],"listed":{}}}"#] {
            fs::write(&path, text).unwrap();
            assert_eq!(Record::read(&path), None, "{text}");
        }
    }
}
