//! Opening and reading a vault whose files were edited or replaced does not panic. A value that is
//! returned was stored under that name.

use arbitrary::{Arbitrary as _, Unstructured};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use tokio::runtime::Runtime;

use super::edits::{edits, files, scratch};
use super::host::ids::SecretName;
use super::host::secret::Secret;
use super::host::vault::local::{LocalVault, Protection};
use super::host::vault::{NewSecret, Operator};

struct OriginalVault {
    folder: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
    runtime: Runtime,
}

static ORIGINAL: LazyLock<OriginalVault> = LazyLock::new(|| {
    let folder = scratch().keep().join("vault");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let vault = LocalVault::create(&folder, Protection::KeyFile).expect("a vault");
    for round in 0..2 {
        let secret = |name: &str| {
            let value = Arc::new(Secret::new(format!("{name} {round}")).expect("short"));
            let mut secret = NewSecret::new(SecretName::parse(name).expect("a name"), value);
            secret.attributes.content_type = Some("text/plain".to_owned());
            secret
        };
        let secrets = ["one", "two", "three"].map(secret).into();
        runtime.block_on(Operator::set_many(&vault, secrets)).expect("written");
    }
    drop(vault);
    let files = files(&folder).into_iter().filter(|(path, _)| is_fuzzed(path)).collect();
    OriginalVault { folder, files, runtime }
});

fn is_fuzzed(path: &Path) -> bool {
    path.ends_with("vault.sqlite3") || path.ends_with("vault.key")
}

/// Checks one input.
pub(crate) fn check(data: &[u8]) {
    let Ok(data) = <(bool, &[u8])>::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let (replace, data) = data;
    let original = &*ORIGINAL;
    let mut contents: Vec<Vec<u8>> = original.files.iter().map(|(_, content)| content.clone()).collect();
    if replace {
        // The first byte selects the file that the others replace.
        if let Some((which, bytes)) = data.split_first() {
            let file = usize::from(*which) % contents.len();
            contents[file] = bytes.to_vec();
        }
    } else {
        for (file, edit) in edits(data) {
            let file = usize::from(file) % contents.len();
            edit.apply(&mut contents[file]);
        }
    }
    for (path, _) in files(&original.folder) {
        fs::remove_file(path).expect("removed");
    }
    for ((path, _), content) in original.files.iter().zip(&contents) {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).expect("a file");
        file.write_all(content).expect("written");
    }
    let _ = LocalVault::needs_passphrase(&original.folder);
    let Ok(vault) = LocalVault::open(&original.folder, Protection::KeyFile) else { return };
    original.runtime.block_on(async {
        let _ = Operator::list(&vault).await;
        for name in ["one", "two", "three", "four"] {
            let name_in_vault = SecretName::parse(name).expect("a name");
            if let Ok(stored) = Operator::get(&vault, &name_in_vault, None).await {
                let value = stored.value.expose();
                assert!(
                    value == format!("{name} 0") || value == format!("{name} 1"),
                    "{name} has a value that was not stored under it"
                );
            }
            let _ = Operator::versions(&vault, &name_in_vault).await;
        }
    });
}
