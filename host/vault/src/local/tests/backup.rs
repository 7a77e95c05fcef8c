//! Tests of backups, restoring them, and the status of a vault.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn file_mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[tokio::test]
async fn backup_is_a_vault_without_key() {
    let (temp, dir) = new_vault();
    let vault = open_vault(&dir);
    set(&vault, "a", "older").await;
    set(&vault, "a", "newer").await;
    let backup = temp.path().join("backup");
    let made = vault.backup(&backup).await.unwrap();
    assert_eq!((made.dir.clone(), made.contents), (backup.clone(), Contents { secrets: 1, versions: 2 }));
    assert_eq!(file_mode(&backup), 0o700);
    let names: Vec<_> = file_contents(&backup).into_keys().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["vault.sqlite3"]);
    assert_eq!(file_mode(&backup.join("vault.sqlite3")), 0o600);
    assert_eq!(fs::metadata(backup.join("vault.sqlite3")).unwrap().len(), made.size);
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2, "no temporary directory is left");

    assert_open_fails(&backup, Protection::KeyFile, is_refused, "is missing");
    // Restore: with the key file beside it, the backup is the vault as it was.
    set(&vault, "a", "after the backup").await;
    let versions = vault.versions(&name("a")).await.unwrap();
    drop(vault);
    fs::rename(dir.join("vault.key"), backup.join("vault.key")).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    fs::rename(&backup, &dir).unwrap();
    let restored = open_vault(&dir);
    assert_eq!(value(&restored, "a").await.unwrap(), "newer");
    assert_eq!(restored.versions(&name("a")).await.unwrap(), versions[1..]);
    // The next write comes after the restored versions.
    set(&restored, "a", "newest").await;
    assert_eq!(value(&restored, "a").await.unwrap(), "newest");
}

#[tokio::test]
async fn backup_replaces_nothing() {
    let (temp, dir) = new_vault();
    let vault = open_vault(&dir);
    set(&vault, "a", "x").await;
    let file = temp.path().join("file");
    fs::write(&file, "mine").unwrap();
    let folder = temp.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let link = temp.path().join("link");
    std::os::unix::fs::symlink(temp.path().join("nowhere"), &link).unwrap();
    for (to, part) in [
        (file.clone(), "already exists"),
        (folder, "already exists"),
        (link, "already exists"),
        (dir.clone(), "already exists"),
        (temp.path().join("missing").join("backup"), "not a directory"),
        (Path::new("/").to_owned(), "not a new directory"),
    ] {
        let error = vault.backup(&to).await.unwrap_err();
        assert!(matches!(&error, VaultError::Invalid(text) if text.contains(part)), "{}: {error:?}", to.display());
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 4);
}

// promise: A backup is one consistent state, and every value in it can be decrypted.
#[tokio::test]
async fn vault_with_broken_version_is_not_backed_up() {
    let (temp, dir) = new_vault();
    let vault = open_vault(&dir);
    set(&vault, "a", "x").await;
    set(&vault, "b", "x").await;
    lock(&vault.0.writer).execute("UPDATE versions SET nonce = x'00' WHERE name = 'b'", []).unwrap();
    let broken = vault.verify().await.unwrap().broken;
    assert_eq!(broken.len(), 1);
    assert_eq!(broken[0].name, "b");
    let error = vault.backup(&temp.path().join("backup")).await.unwrap_err();
    assert!(is_damaged(&error) && error.to_string().contains("of the secret `b`"), "{error:?}");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "no temporary directory is left");
}

// promise: A backup is one consistent state, and every value in it can be decrypted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn backup_during_writes_is_consistent() {
    let (temp, dir) = new_vault();
    let vault = open_vault(&dir);
    let pair = |text: &str| {
        let secret =
            |name_of: &str| (name(name_of), Arc::new(Secret::new(text.to_owned()).unwrap()), Attributes::default());
        vec![secret("one"), secret("two")]
    };
    vault.insert(pair("first")).await.unwrap();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let (vault, done) = (open_vault(&dir), Arc::clone(&done));
        tokio::spawn(async move {
            let mut round = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                vault.insert(pair(&round.to_string())).await.unwrap();
                round += 1;
            }
            round
        })
    };
    let mut sizes = BTreeSet::new();
    for round in 0..5 {
        let backup = temp.path().join(format!("backup-{round}"));
        sizes.insert(vault.backup(&backup).await.unwrap().contents.versions);
        fs::copy(dir.join("vault.key"), backup.join("vault.key")).unwrap();
        let copy = open_vault(&backup);
        assert_eq!(value(&copy, "one").await.unwrap(), value(&copy, "two").await.unwrap());
        assert_eq!(copy.versions(&name("one")).await.unwrap().len(), copy.versions(&name("two")).await.unwrap().len());
        // Wait for a write, so that the next backup sees a different state.
        while vault.versions(&name("one")).await.unwrap().len() as u64 * 2 == *sizes.last().unwrap() {
            tokio::task::yield_now().await;
        }
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(writer.await.unwrap() > 0);
    assert_eq!(sizes.len(), 5, "the vault grew between backups");
}

#[tokio::test]
async fn status_lists_problems_without_passphrase() {
    let (_temp, dir) = new_vault();
    let vault = open_vault(&dir);
    set(&vault, "a", "x").await;
    set(&vault, "a", "y").await;
    drop(vault);
    let key = dir.join("vault.key");
    let status = LocalVault::status(&dir).unwrap();
    assert_eq!(status.key, KeySource::KeyFile { path: key.clone(), fits: true });
    assert_eq!(status.contents, Contents { secrets: 1, versions: 2 });
    assert_eq!((status.format, status.rekey_cut_off), (1, false));
    assert!(status.problems.is_empty() && status.size > 0 && status.former_keys.is_empty());

    for (path, bad, good, part) in [
        (&key, 0o644, 0o600, "is open to others (mode 0644)"),
        (&dir.join("vault.sqlite3"), 0o644, 0o600, "`chmod 600`"),
        (&dir, 0o777, 0o700, "`chmod 700`"),
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(bad)).unwrap();
        let problems = LocalVault::status(&dir).unwrap().problems;
        assert!(problems.len() == 1 && problems[0].contains(part), "{problems:?}");
        fs::set_permissions(path, fs::Permissions::from_mode(good)).unwrap();
    }
    let before = file_contents(&dir);
    fs::remove_file(&key).unwrap();
    let status = LocalVault::status(&dir).unwrap();
    assert_eq!(status.key, KeySource::KeyFile { path: key.clone(), fits: false });
    assert!(status.problems[0].contains("is missing"), "{status:?}");
    fs::write(&key, &before[&key]).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(before == file_contents(&dir), "reading the status changes no file");
    assert!(is_absent(&LocalVault::status(&dir.join("nowhere")).unwrap_err()));

    // A vault with a passphrase has the same status.
    let vault = open_vault(&dir);
    vault.rekey(Protection::Passphrase(passphrase(PASSPHRASE))).await.unwrap();
    drop(vault);
    let status = LocalVault::status(&dir).unwrap();
    assert_eq!(status.key, KeySource::Passphrase { memory_kib: 65_536, passes: 3, lanes: 4 });
    assert_eq!(status.contents, Contents { secrets: 1, versions: 2 });
    assert!(status.problems.is_empty());
}
