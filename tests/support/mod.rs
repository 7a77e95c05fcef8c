//! What the tests share: guests, a host in a temporary home, a PostgreSQL and a Key Vault.

pub(crate) mod apart;
pub(crate) mod azure;
pub(crate) mod guests;
pub(crate) mod host;
pub(crate) mod inside;
pub(crate) mod keyvault;
pub(crate) mod patch;
pub(crate) mod postgres;
pub(crate) mod random;
pub(crate) mod trial;

pub(crate) use guests::guest;
pub(crate) use host::{Ended, Host};
pub(crate) use keyvault::KeyVault;
pub(crate) use postgres::Postgres;

use std::path::{Path, PathBuf};

/// The project's folder.
pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate is two folders below it").to_owned()
}

/// All files below a folder, links not followed.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let entry = entry.expect("an entry can be read");
            let kind = entry.file_type().expect("an entry has a type");
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files
}

/// What a run makes for a time and has not removed: private folders beside its output and in the home, notes and files that were being written.
/// `beside` is where outputs go.
pub(crate) fn left_over(beside: &Path, home: &Path) -> Vec<PathBuf> {
    let named = |folder: PathBuf, temporary: fn(&str) -> bool| {
        let listed = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path());
        listed.filter(move |path| temporary(&path.file_name().expect("a name").to_string_lossy()))
    };
    let all = named(beside.to_owned(), |name| name.starts_with(".strongroom-"))
        .chain(named(home.join("tmp"), |_| true))
        .chain(named(home.join("runs"), |name| name.starts_with(".new-") || name.ends_with(".open")))
        .chain(named(home.join("code"), |name| name.starts_with(".partial-")));
    all.collect()
}
