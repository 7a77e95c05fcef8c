//! The vault's files: edited, or any bytes at all. Nothing panics, and a value that comes out is one that was put in under that name.

use arbitrary::{Arbitrary as _, Unstructured};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use super::shared::{edits, files, scratch};
use strongroom::ids::SecretName;
use strongroom::secret::Secret;
use strongroom::vault::local::{LocalVault, Protection, Unlock};
use strongroom::vault::{NewSecret, Operator};
use tokio::runtime::Runtime;

struct Made {
    folder: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
    runtime: Runtime,
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
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
    let files = files(&folder).into_iter().filter(|(path, _)| is_ours(path)).collect();
    Made { folder, files, runtime }
});

fn is_ours(path: &Path) -> bool {
    path.ends_with("vault.sqlite3") || path.ends_with("vault.key")
}

/// Checks one input.
pub(crate) fn check(data: &[u8]) {
    let Ok(data) = <(bool, &[u8])>::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let (any_bytes, data) = data;
    let made = &*MADE;
    let mut now: Vec<Vec<u8>> = made.files.iter().map(|(_, content)| content.clone()).collect();
    if any_bytes {
        // The first byte says which file they become.
        if let Some((which, bytes)) = data.split_first() {
            let file = usize::from(*which) % now.len();
            now[file] = bytes.to_vec();
        }
    } else {
        for (file, edit) in edits(data) {
            let file = usize::from(file) % now.len();
            edit.make(&mut now[file]);
        }
    }
    for (path, _) in files(&made.folder) {
        fs::remove_file(path).expect("removed");
    }
    for ((path, _), content) in made.files.iter().zip(&now) {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).expect("a file");
        file.write_all(content).expect("written");
    }
    let _ = LocalVault::needs_passphrase(&made.folder);
    let Ok(vault) = LocalVault::open(&made.folder, Unlock::KeyFile) else { return };
    made.runtime.block_on(async {
        let _ = Operator::list(&vault).await;
        for name in ["one", "two", "three", "four"] {
            let of = SecretName::parse(name).expect("a name");
            if let Ok(stored) = Operator::get(&vault, &of, None).await {
                let value = stored.value.expose();
                assert!(value == format!("{name} 0") || value == format!("{name} 1"), "{name} holds what nobody wrote");
            }
            let _ = Operator::versions(&vault, &of).await;
        }
    });
}
