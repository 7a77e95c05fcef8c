//! Test fixtures: guests, a host with a temporary home, a PostgreSQL server and a Key Vault test
//! server.

pub(crate) mod azure;
pub(crate) mod guests;
pub(crate) mod host;
pub(crate) mod in_process;
pub(crate) mod isolated;
pub(crate) mod keyvault;
pub(crate) mod patch;
pub(crate) mod postgres;
pub(crate) mod random;
pub(crate) mod trial;

pub(crate) use guests::guest;
pub(crate) use host::{EndedRun, Host};
pub(crate) use keyvault::KeyVault;
pub(crate) use postgres::Postgres;

use std::path::{Path, PathBuf};

/// Returns the project's root folder.
pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate is two folders below it").to_owned()
}

/// Returns all files below a folder. Links are not followed.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let entry = entry.expect("an entry can be read");
            let kind = entry.file_type().expect("an entry has a type");
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files
}

/// Returns temporary files and folders that runs left behind: staging folders next to the outputs
/// in `output_parent`, and private folders, notes and partly written files in the home.
pub(crate) fn leftovers(output_parent: &Path, home: &Path) -> Vec<PathBuf> {
    let named = |folder: PathBuf, is_temporary: fn(&str) -> bool| {
        let listed = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path());
        listed.filter(move |path| is_temporary(&path.file_name().expect("a name").to_string_lossy()))
    };
    let all = named(output_parent.to_owned(), |name| name.starts_with(".strongroom-"))
        .chain(named(home.join("tmp"), |_| true))
        .chain(named(home.join("runs/active"), |_| true))
        .chain(named(home.join("code"), |name| name.starts_with(".partial-")));
    all.collect()
}
