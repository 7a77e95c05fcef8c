//! Tests of creating vaults, and of what their files reveal.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use base64::Engine as _;
use rusqlite::Connection;

use super::*;

fn file_mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn create_makes_private_files() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("deep").join("vault");
    let vault = LocalVault::create(&dir, Protection::KeyFile).unwrap();
    assert_eq!(file_mode(&dir), 0o700);
    assert_eq!(file_mode(&temp.path().join("deep")), 0o700);
    for (path, _) in file_contents(&dir) {
        assert_eq!(file_mode(&path), 0o600, "{}", path.display());
    }
    drop(vault);
    let names: Vec<_> = file_contents(&dir).into_keys().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["vault.key", "vault.sqlite3"]);
    assert!(!LocalVault::needs_passphrase(&dir).unwrap());
    let closed = LocalVault::inspect(&dir).unwrap();
    assert!(!closed.needs_passphrase());
    assert!(closed.open(Protection::KeyFile).is_ok());
}

#[test]
fn open_of_missing_vault_creates_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    for _ in 0..2 {
        let error = LocalVault::open(&dir, Protection::KeyFile).unwrap_err();
        assert!(is_absent(&error), "{error:?}");
        assert!(is_absent(&LocalVault::needs_passphrase(&dir).unwrap_err()));
        assert!(is_absent(&LocalVault::inspect(&dir).unwrap_err()));
        assert!(!dir.exists());
    }
    fs::create_dir(&dir).unwrap();
    assert_open_fails(&dir, Protection::KeyFile, is_absent, "there is no vault in");
    // A file in place of the directory.
    fs::write(temp.path().join("file"), "x").unwrap();
    assert!(is_absent(&LocalVault::open(&temp.path().join("file"), Protection::KeyFile).unwrap_err()));
}

#[tokio::test]
async fn create_does_not_replace_existing_vault() {
    let (_temp, dir) = new_vault();
    let vault = open_vault(&dir);
    set(&vault, "a", "hunter2").await;
    drop(vault);
    let before = file_contents(&dir);
    for protection in [Protection::KeyFile, Protection::Passphrase(passphrase(PASSPHRASE))] {
        let error = LocalVault::create(&dir, protection).unwrap_err();
        assert!(matches!(&error, VaultError::Invalid(text) if text.contains("already")), "{error:?}");
        assert!(before == file_contents(&dir));
    }
}

#[test]
fn interrupted_create_does_not_block_create() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    fs::create_dir(&dir).unwrap();
    for left in
        ["vault.sqlite3.new", "vault.sqlite3.new-journal", "vault.sqlite3.new-wal", "vault.key.new", "vault.key"]
    {
        fs::write(dir.join(left), "half").unwrap();
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    drop(LocalVault::create(&dir, Protection::KeyFile).unwrap());
    drop(open_vault(&dir));
    // A key without its database may open a backup, so it is kept.
    let kept: Vec<_> =
        file_contents(&dir).into_iter().filter(|(_, content)| content == b"half").map(|(path, _)| path).collect();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].to_str().unwrap().contains("vault.key.old-"));
}

#[test]
fn create_with_unsafe_input_is_rejected() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let error = LocalVault::create(&dir, Protection::Passphrase(passphrase(""))).unwrap_err();
    assert!(matches!(&error, VaultError::Invalid(text) if text.contains("passphrase is empty")), "{error:?}");
    assert!(!dir.exists());

    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let error = LocalVault::create(&dir, Protection::KeyFile).unwrap_err();
    assert!(matches!(&error, VaultError::Invalid(text) if text.contains("chmod 700")), "{error:?}");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();

    fs::write(dir.join("vault.sqlite3-wal"), "log").unwrap();
    let error = LocalVault::create(&dir, Protection::KeyFile).unwrap_err();
    assert!(matches!(&error, VaultError::Invalid(text) if text.contains("database is gone")), "{error:?}");
    assert_eq!(file_contents(&dir).len(), 1);
}

#[test]
fn concurrent_create_succeeds_once() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let created = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| LocalVault::create(&dir, Protection::KeyFile).is_ok())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|created| *created).count()
    });
    assert_eq!(created, 1);
    drop(open_vault(&dir));
}

/// Returns the value itself, in hexadecimal, and in base64 at its three alignments.
fn traces(value: &str) -> Vec<Vec<u8>> {
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut traces = vec![value.as_bytes().to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for pad in 0..3 {
        let padded = [vec![0; pad], value.as_bytes().to_vec()].concat();
        for engine in [base64::engine::general_purpose::STANDARD, base64::engine::general_purpose::URL_SAFE] {
            let text = engine.encode(&padded);
            // Without the ends, which depend on adjacent bytes.
            traces.push(text.as_bytes()[4..text.len() - 4].to_vec());
        }
    }
    traces
}

fn file_containing(dir: &Path, needle: &[u8]) -> Option<std::path::PathBuf> {
    let found = |content: &[u8]| content.windows(needle.len()).any(|window| window == needle);
    file_contents(dir).into_iter().find(|(_, content)| found(content)).map(|(path, _)| path)
}

#[tokio::test]
async fn values_do_not_appear_in_files() {
    let (_temp, dir) = new_vault();
    let vault = open_vault(&dir);
    let value = "a-value-that-stands-nowhere-else-0123456789";
    set(&vault, "the-name-is-not-secret", value).await;
    assert!(file_containing(&dir, b"the-name-is-not-secret").is_some(), "the search finds existing text");
    for trace in traces(value) {
        assert_eq!(file_containing(&dir, &trace), None);
    }
    vault.remove(vec![name("the-name-is-not-secret")]).await.unwrap();
    for trace in traces(value) {
        assert_eq!(file_containing(&dir, &trace), None);
    }
}

#[tokio::test]
async fn deleted_secret_leaves_no_trace_in_files() {
    let (_temp, dir) = new_vault();
    let vault = open_vault(&dir);
    let sealed = |text: &str| -> Vec<u8> {
        let query = "SELECT sealed FROM versions WHERE name = ?1";
        lock(&vault.0.reader).query_row(query, [text], |row| row.get(0)).unwrap()
    };
    set(&vault, "stays", "x").await;
    set(&vault, "goes-small", "x").await;
    set(&vault, "goes-large", &"y".repeat(20_000)).await;
    let gone =
        [sealed("goes-small"), sealed("goes-large")[..100].to_vec(), b"goes-small".to_vec(), b"goes-large".to_vec()];
    for trace in &gone {
        assert!(file_containing(&dir, trace).is_some());
    }
    vault.remove(vec![name("goes-small"), name("goes-large")]).await.unwrap();
    for trace in &gone {
        assert_eq!(file_containing(&dir, trace), None, "erased while the vault is still open");
    }
    assert_eq!(fs::metadata(dir.join("vault.sqlite3-wal")).unwrap().len(), 0);
    assert!(file_containing(&dir, b"stays").is_some());
}

#[tokio::test]
async fn newer_format_is_refused() {
    let (_temp, dir) = new_vault();
    let vault = open_vault(&dir);
    let newer_format = Connection::open(dir.join("vault.sqlite3")).unwrap();
    newer_format.execute_batch("PRAGMA user_version = 2").unwrap();
    // Fails even on a handle opened earlier.
    let value = Arc::new(Secret::new("x".into()).unwrap());
    let error = vault.insert(vec![(name("a"), value, Attributes::default())]).await.unwrap_err();
    assert!(is_refused(&error) && error.to_string().contains("use a newer strongroom"), "{error:?}");
    drop((vault, newer_format));
    assert_open_fails(&dir, Protection::KeyFile, is_refused, "has format 2, but this program supports only format 1");
    assert!(is_refused(&LocalVault::needs_passphrase(&dir).unwrap_err()));
}

#[tokio::test]
async fn invalid_format_is_damage() {
    let (_temp, dir) = new_vault();
    for format in [0, -1] {
        let connection = Connection::open(dir.join("vault.sqlite3")).unwrap();
        connection.pragma_update(None, "user_version", format).unwrap();
        drop(connection);
        assert_open_fails(&dir, Protection::KeyFile, is_damaged, "format version is invalid");
    }
}
