//! What the fuzzers share: a scratch folder, and edits of a file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use arbitrary::{Arbitrary, Unstructured};
use tempfile::TempDir;

/// A folder for its owner alone. Where temporary folders are, `scripts/fuzz.sh` says: in memory, and gone afterwards.
pub fn scratch() -> TempDir {
    let folder = tempfile::Builder::new().prefix("strongroom-fuzz-").tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("a mode");
    folder
}

/// The regular files of a folder with their content.
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

/// One edit of a file, as somebody with an editor makes it.
#[derive(Debug)]
pub enum Edit {
    /// One byte becomes another.
    Byte(u16, u8),
    /// Bytes are put in.
    Insert(u16, Vec<u8>),
    /// Bytes are taken out.
    Remove(u16, u16),
    /// The end is cut off.
    Cut(u16),
    /// A line goes.
    RemoveLine(u8),
    /// A line stands twice.
    RepeatLine(u8),
    /// Two lines change places.
    SwapLines(u8, u8),
}

// By hand, because the engine uses the crate too: with its macros switched on, the host's own build would not be that of its tests.
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
    /// Makes the edit. Positions are taken modulo what there is.
    pub fn make(&self, content: &mut Vec<u8>) {
        let at = |place: u16, content: &[u8]| usize::from(place) % (content.len() + 1);
        let lines =
            |content: &[u8]| content.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
        match self {
            Self::Byte(place, byte) => {
                let at = at(*place, content);
                if let Some(found) = content.get_mut(at) {
                    *found = *byte;
                }
            }
            Self::Insert(place, bytes) => {
                let at = at(*place, content);
                content.splice(at..at, bytes.iter().copied());
            }
            Self::Remove(place, count) => {
                let at = at(*place, content);
                let end = (at + usize::from(*count)).min(content.len());
                content.drain(at..end);
            }
            Self::Cut(place) => content.truncate(at(*place, content)),
            Self::RemoveLine(_) | Self::RepeatLine(_) | Self::SwapLines(..) => {
                let mut all = lines(content);
                let index = |line: u8, all: &[Vec<u8>]| usize::from(line) % all.len();
                if all.is_empty() {
                    return;
                }
                match self {
                    Self::RemoveLine(line) => drop(all.remove(index(*line, &all))),
                    Self::RepeatLine(line) => {
                        let again = index(*line, &all);
                        all.insert(again, all[again].clone());
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

/// The edits that an input stands for, each with the number of a file. At most eight: an edit more only hides what the ones before do.
pub fn edits(data: &[u8]) -> Vec<(u8, Edit)> {
    let mut input = Unstructured::new(data);
    let mut edits = Vec::new();
    while edits.len() < 8 && !input.is_empty() {
        let Ok(edit) = <(u8, Edit)>::arbitrary(&mut input) else { break };
        edits.push(edit);
    }
    edits
}
