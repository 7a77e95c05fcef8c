//! The note beside the record of a run in progress.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The first line of a note of this format.
const MARK: &[u8] = b"strongroom run 1";

/// The information needed to clean up after a process that has ended: three lines, of which the
/// last, a path, may be empty or contain any bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// The audit segment of the process.
    pub(super) segment: String,
    /// The absolute path of the run's staging directory.
    pub(super) staging: Option<PathBuf>,
}

impl Note {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let staging = self.staging.as_deref().map(|path| path.as_os_str().as_bytes()).unwrap_or_default();
        [MARK, self.segment.as_bytes(), staging].join(&b'\n')
    }

    /// Parses a note; `None` if the bytes are not one.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Note> {
        let mut lines = bytes.splitn(3, |&byte| byte == b'\n');
        if lines.next()? != MARK {
            return None;
        }
        let segment = std::str::from_utf8(lines.next()?).ok()?.to_owned();
        let staging = lines.next()?;
        let staging = (!staging.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(staging)));
        Some(Note { segment, staging })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_path_round_trips(path in proptest::collection::vec(1u8.., 1..60)) {
            let path = PathBuf::from(OsStr::from_bytes(&path));
            let note = Note { segment: "01J".into(), staging: Some(path) };
            prop_assert_eq!(Note::from_bytes(&note.to_bytes()), Some(note));
        }

        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Note::from_bytes(&bytes);
        }
    }

    #[test]
    fn no_folder_round_trips() {
        let note = Note { segment: "01J".into(), staging: None };
        assert_eq!(Note::from_bytes(&note.to_bytes()), Some(note));
    }
}
