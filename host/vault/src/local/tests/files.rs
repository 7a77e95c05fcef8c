//! Making a vault, its files, and what can be read in them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use base64::Engine as _;
use rusqlite::Connection;

use super::*;
use crate::local::upgrade::Step;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn making_a_vault_makes_private_files() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("deep").join("vault");
    let vault = LocalVault::create(&dir, Protection::KeyFile).unwrap();
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&temp.path().join("deep")), 0o700);
    for (path, _) in contents(&dir) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    drop(vault);
    let names: Vec<_> = contents(&dir).into_keys().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["vault.key", "vault.sqlite3"]);
    assert!(!LocalVault::needs_passphrase(&dir).unwrap());
    let closed = LocalVault::look(&dir).unwrap();
    assert!(!closed.needs_passphrase());
    assert!(closed.open(Unlock::KeyFile).is_ok());
}

#[test]
fn no_vault_is_absent_and_none_is_made() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    for _ in 0..2 {
        let error = LocalVault::open(&dir, Unlock::KeyFile).unwrap_err();
        assert!(is_absent(&error), "{error:?}");
        assert!(error.to_string().contains("`strongroom init`"), "{error}");
        assert!(is_absent(&LocalVault::needs_passphrase(&dir).unwrap_err()));
        assert!(is_absent(&LocalVault::look(&dir).unwrap_err()));
        assert!(!dir.exists());
    }
    fs::create_dir(&dir).unwrap();
    refuses(&dir, Unlock::KeyFile, is_absent, "there is no vault in");
    // A file stands where the folder should be.
    fs::write(temp.path().join("file"), "x").unwrap();
    assert!(is_absent(&LocalVault::open(&temp.path().join("file"), Unlock::KeyFile).unwrap_err()));
}

#[tokio::test]
async fn a_second_vault_is_not_made_over_the_first() {
    let (_temp, dir) = made();
    let vault = opened(&dir);
    set(&vault, "a", "hunter2").await;
    drop(vault);
    let before = contents(&dir);
    for protection in [Protection::KeyFile, Protection::Passphrase(passphrase(PASSPHRASE))] {
        let error = LocalVault::create(&dir, protection).unwrap_err();
        assert!(matches!(&error, VaultError::Invalid(text) if text.contains("already")), "{error:?}");
        assert!(before == contents(&dir));
    }
}

#[test]
fn a_half_made_vault_does_not_stand_in_the_way() {
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
    drop(opened(&dir));
    // A key without its database may open a backup, so it is kept.
    let kept: Vec<_> =
        contents(&dir).into_iter().filter(|(_, content)| content == b"half").map(|(path, _)| path).collect();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].to_str().unwrap().contains("vault.key.old-"));
}

#[test]
fn what_would_spoil_a_new_vault_is_refused() {
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
    assert_eq!(contents(&dir).len(), 1);
}

#[test]
fn of_many_who_make_a_vault_one_does() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| LocalVault::create(&dir, Protection::KeyFile).is_ok())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|made| *made).count()
    });
    assert_eq!(made, 1);
    drop(opened(&dir));
}

/// The value as it stands, in hexadecimal, and in base64 at its three alignments.
fn traces(value: &str) -> Vec<Vec<u8>> {
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut traces = vec![value.as_bytes().to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for pad in 0..3 {
        let padded = [vec![0; pad], value.as_bytes().to_vec()].concat();
        for engine in [base64::engine::general_purpose::STANDARD, base64::engine::general_purpose::URL_SAFE] {
            let text = engine.encode(&padded);
            // Without the ends, which depend on what stands around.
            traces.push(text.as_bytes()[4..text.len() - 4].to_vec());
        }
    }
    traces
}

fn holds(dir: &Path, needle: &[u8]) -> Option<std::path::PathBuf> {
    let found = |content: &[u8]| content.windows(needle.len()).any(|window| window == needle);
    contents(dir).into_iter().find(|(_, content)| found(content)).map(|(path, _)| path)
}

#[tokio::test]
async fn no_value_can_be_read_in_the_files() {
    let (_temp, dir) = made();
    let vault = opened(&dir);
    let value = "a-value-that-stands-nowhere-else-0123456789";
    set(&vault, "the-name-is-not-secret", value).await;
    assert!(holds(&dir, b"the-name-is-not-secret").is_some(), "the search finds what is there");
    for trace in traces(value) {
        assert_eq!(holds(&dir, &trace), None);
    }
    vault.remove(vec![name("the-name-is-not-secret")]).await.unwrap();
    for trace in traces(value) {
        assert_eq!(holds(&dir, &trace), None);
    }
}

#[tokio::test]
async fn nothing_of_a_deleted_secret_stays_in_the_files() {
    let (_temp, dir) = made();
    let vault = opened(&dir);
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
        assert!(holds(&dir, trace).is_some());
    }
    vault.remove(vec![name("goes-small"), name("goes-large")]).await.unwrap();
    for trace in &gone {
        assert_eq!(holds(&dir, trace), None, "also while the vault is open");
    }
    assert_eq!(fs::metadata(dir.join("vault.sqlite3-wal")).unwrap().len(), 0);
    assert!(holds(&dir, b"stays").is_some());
}

/// A format that never was: as version 1, without the index.
fn make_older(dir: &Path) {
    let connection = Connection::open(dir.join("vault.sqlite3")).unwrap();
    connection.execute_batch("DROP INDEX versions_by_name; PRAGMA user_version = 0;").unwrap();
}

fn step(run: fn(&Transaction<'_>) -> rusqlite::Result<()>) -> Vec<Step> {
    vec![Step { from: 0, run }]
}

fn add_index(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch("CREATE INDEX versions_by_name ON versions (name, serial)")
}

#[tokio::test]
async fn an_older_format_is_upgraded_after_a_backup() {
    let (_temp, dir) = made();
    let vault = opened(&dir);
    set(&vault, "a", "hunter2").await;
    drop(vault);
    make_older(&dir);
    // Left by an attempt that was cut off.
    fs::write(dir.join("vault.sqlite3.backup-new"), "half").unwrap();
    let place = || Place::of(&dir).unwrap();
    let vault = LocalVault::open_with(place(), &Unlock::KeyFile, &step(add_index)).unwrap();
    assert_eq!(value(&vault, "a").await.unwrap(), "hunter2");
    set(&vault, "a", "changed").await;
    drop(vault);
    assert_eq!(value(&opened(&dir), "a").await.unwrap(), "changed");
    assert!(!dir.join("vault.sqlite3.backup-new").exists());

    // The backup is a vault of the older format, with what was there before.
    let backup = dir.join("vault.sqlite3.v0-backup");
    assert_eq!(mode(&backup), 0o600);
    fs::rename(&backup, dir.join("vault.sqlite3")).unwrap();
    refuses(&dir, Unlock::KeyFile, is_refused, "has format 0, which this program cannot upgrade");
    let vault = LocalVault::open_with(place(), &Unlock::KeyFile, &step(add_index)).unwrap();
    assert_eq!(value(&vault, "a").await.unwrap(), "hunter2");
}

#[tokio::test]
async fn an_upgrade_that_fails_leaves_the_older_format() {
    let (_temp, dir) = made();
    let vault = opened(&dir);
    set(&vault, "a", "hunter2").await;
    drop(vault);
    make_older(&dir);
    let place = Place::of(&dir).unwrap();
    let broken = step(|transaction| {
        transaction.execute_batch("DELETE FROM versions")?;
        transaction.execute_batch("not SQL")
    });
    LocalVault::open_with(place.clone(), &Unlock::KeyFile, &broken).unwrap_err();
    let vault = LocalVault::open_with(place, &Unlock::KeyFile, &step(add_index)).unwrap();
    assert_eq!(value(&vault, "a").await.unwrap(), "hunter2");
}

#[tokio::test]
async fn a_wrong_key_does_not_upgrade() {
    let (_temp, dir) = made();
    make_older(&dir);
    fs::remove_file(dir.join("vault.key")).unwrap();
    let before = contents(&dir);
    let place = Place::of(&dir).unwrap();
    let error = LocalVault::open_with(place, &Unlock::KeyFile, &step(add_index)).unwrap_err();
    assert!(is_refused(&error), "{error:?}");
    assert!(before == contents(&dir));
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let (_temp, dir) = made();
    let vault = opened(&dir);
    let newer = Connection::open(dir.join("vault.sqlite3")).unwrap();
    newer.execute_batch("PRAGMA user_version = 2").unwrap();
    // Also where the vault was opened before.
    let value = Arc::new(Secret::new("x".into()).unwrap());
    let error = vault.insert(vec![(name("a"), value, Attributes::default())]).await.unwrap_err();
    assert!(is_refused(&error) && error.to_string().contains("use a newer strongroom"), "{error:?}");
    drop((vault, newer));
    refuses(&dir, Unlock::KeyFile, is_refused, "has format 2, and this program knows up to 1");
    assert!(is_refused(&LocalVault::needs_passphrase(&dir).unwrap_err()));
}
