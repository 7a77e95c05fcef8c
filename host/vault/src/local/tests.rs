//! Tests of the local vault.

use super::*;
use crate::cases;

mod backup;
mod damage;
mod files;
mod rekey;
mod retention;
mod sharing;

const PASSPHRASE: &str = "correct horse battery staple";

fn passphrase(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

/// A directory with a vault that has a key file.
fn new_vault() -> (tempfile::TempDir, std::path::PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    drop(LocalVault::create(&dir, Protection::KeyFile).unwrap());
    (temp, dir)
}

fn open_vault(dir: &Path) -> LocalVault {
    LocalVault::open(dir, Protection::KeyFile).unwrap()
}

fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

async fn set(vault: &LocalVault, text: &str, value: &str) -> Description {
    let value = Arc::new(Secret::new(value.to_owned()).unwrap());
    vault.insert(vec![(name(text), value, Attributes::default())]).await.unwrap().pop().unwrap()
}

async fn value(vault: &LocalVault, text: &str) -> Result<String, VaultError> {
    Ok(vault.read_version(name(text), None).await?.value.expose().to_owned())
}

/// Returns every file in a directory with its content.
fn file_contents(dir: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Asserts that opening fails with an error of this kind and text, and that no file changes.
#[track_caller]
fn assert_open_fails(dir: &Path, unlock: Protection, kind: fn(&VaultError) -> bool, part: &str) {
    let before = file_contents(dir);
    let error = LocalVault::open(dir, unlock).unwrap_err();
    assert!(kind(&error), "{error:?}");
    assert!(error.to_string().contains(part), "{error}");
    assert!(before == file_contents(dir), "a file changed");
}

fn is_refused(error: &VaultError) -> bool {
    matches!(error, VaultError::Refused(_))
}

fn is_damaged(error: &VaultError) -> bool {
    matches!(error, VaultError::Damaged(_))
}

fn is_absent(error: &VaultError) -> bool {
    matches!(error, VaultError::Absent(_))
}

// promise: All vault backends pass the same cases.
#[tokio::test]
async fn local_vault_passes_all_cases() {
    let temp = tempfile::tempdir().unwrap();
    let vault = Arc::new(LocalVault::create(&temp.path().join("vault"), Protection::KeyFile).unwrap());
    let ran = cases::run_all(Arc::clone(&vault) as _, vault, "local").await;
    assert_eq!(ran.len(), cases::count());
}

#[tokio::test]
async fn passphrase_opens_the_vault() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let vault = LocalVault::create(&dir, Protection::Passphrase(passphrase(PASSPHRASE))).unwrap();
    set(&vault, "a", "hunter2").await;
    drop(vault);
    assert!(!dir.join("vault.key").exists());
    assert!(LocalVault::needs_passphrase(&dir).unwrap());
    assert_open_fails(
        &dir,
        Protection::Passphrase(passphrase("wrong")),
        is_refused,
        "the passphrase does not open the vault",
    );
    assert_open_fails(
        &dir,
        Protection::Passphrase(passphrase("")),
        is_refused,
        "the passphrase does not open the vault",
    );
    assert_open_fails(&dir, Protection::KeyFile, is_refused, "is opened by a passphrase");
    let look = || LocalVault::inspect(&dir).unwrap();
    assert!(look().needs_passphrase());
    assert!(is_refused(&look().open(Protection::Passphrase(passphrase("wrong"))).unwrap_err()));
    assert!(look().open(Protection::Passphrase(passphrase(PASSPHRASE))).is_ok());
    let vault = LocalVault::open(&dir, Protection::Passphrase(passphrase(PASSPHRASE))).unwrap();
    assert_eq!(value(&vault, "a").await.unwrap(), "hunter2");
    let shown = format!("{vault:?}");
    assert!(shown.contains("vault") && !shown.contains("hunter2") && !shown.contains("horse"), "{shown}");
}

#[tokio::test]
async fn empty_value_is_stored() {
    let (_temp, dir) = new_vault();
    let vault = open_vault(&dir);
    set(&vault, "a", "").await;
    assert_eq!(value(&vault, "a").await.unwrap(), "");
}

#[tokio::test]
async fn repeated_name_in_batch_is_deleted_once() {
    let (_temp, dir) = new_vault();
    let vault = open_vault(&dir);
    set(&vault, "a", "x").await;
    vault.remove(vec![name("a"), name("a")]).await.unwrap();
    assert!(matches!(value(&vault, "a").await, Err(VaultError::NotFound(_))));
}
