//! Temporary folders, and edits of files that an input describes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use arbitrary::{Arbitrary, Unstructured};
use tempfile::TempDir;

/// Creates a private folder below `TMPDIR`, which `scripts/fuzz.sh` sets and removes.
pub fn scratch() -> TempDir {
    let folder = tempfile::Builder::new().prefix("strongroom-fuzz-").tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("a mode");
    folder
}

/// Returns the regular files of a folder with their contents.
pub fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries
        .filter(|path| path.is_file())
        .map(|path| {
            let content = fs::read(&path).expect("a file");
            (path, content)
        })
        .collect();
    files.sort();
    files
}

/// One edit of a file.
#[derive(Debug)]
pub enum Edit {
    /// Replace one byte.
    Byte(u16, u8),
    /// Insert bytes.
    Insert(u16, Vec<u8>),
    /// Remove bytes.
    Remove(u16, u16),
    /// Cut off the end.
    Cut(u16),
    /// Remove a line.
    RemoveLine(u8),
    /// Repeat a line.
    RepeatLine(u8),
    /// Swap two lines.
    SwapLines(u8, u8),
}

// Not derived: the engine depends on `arbitrary` too, and with the feature `derive` it would be
// built twice.
impl<'a> Arbitrary<'a> for Edit {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match input.int_in_range(0..=6_u8)? {
            0 => Self::Byte(input.arbitrary()?, input.arbitrary()?),
            1 => Self::Insert(input.arbitrary()?, input.arbitrary()?),
            2 => Self::Remove(input.arbitrary()?, input.arbitrary()?),
            3 => Self::Cut(input.arbitrary()?),
            4 => Self::RemoveLine(input.arbitrary()?),
            5 => Self::RepeatLine(input.arbitrary()?),
            _ => Self::SwapLines(input.arbitrary()?, input.arbitrary()?),
        })
    }
}

impl Edit {
    /// Applies the edit. Positions wrap around at the end.
    pub fn apply(&self, content: &mut Vec<u8>) {
        let at = |position: u16, content: &[u8]| usize::from(position) % (content.len() + 1);
        let lines =
            |content: &[u8]| content.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
        match self {
            Self::Byte(position, byte) => {
                let at = at(*position, content);
                if let Some(target) = content.get_mut(at) {
                    *target = *byte;
                }
            }
            Self::Insert(position, bytes) => {
                let at = at(*position, content);
                content.splice(at..at, bytes.iter().copied());
            }
            Self::Remove(position, count) => {
                let at = at(*position, content);
                let end = (at + usize::from(*count)).min(content.len());
                content.drain(at..end);
            }
            Self::Cut(position) => content.truncate(at(*position, content)),
            Self::RemoveLine(_) | Self::RepeatLine(_) | Self::SwapLines(..) => {
                let mut all = lines(content);
                let index = |line: u8, all: &[Vec<u8>]| usize::from(line) % all.len();
                if all.is_empty() {
                    return;
                }
                match self {
                    Self::RemoveLine(line) => drop(all.remove(index(*line, &all))),
                    Self::RepeatLine(line) => {
                        let line = index(*line, &all);
                        all.insert(line, all[line].clone());
                    }
                    Self::SwapLines(one, other) => {
                        let (one, other) = (index(*one, &all), index(*other, &all));
                        all.swap(one, other);
                    }
                    _ => {}
                }
                *content = all.concat();
            }
        }
    }
}

/// Decodes an input into edits, each with the number of a file. There are at most eight, because
/// further edits only hide the effect of earlier ones.
pub fn edits(data: &[u8]) -> Vec<(u8, Edit)> {
    let mut input = Unstructured::new(data);
    let mut edits = Vec::new();
    while edits.len() < 8 && !input.is_empty() {
        let Ok(edit) = <(u8, Edit)>::arbitrary(&mut input) else { break };
        edits.push(edit);
    }
    edits
}
