//! Backups, restoring them, and what a vault says of itself.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[tokio::test]
async fn a_backup_is_a_vault_without_its_key() {
    let (temp, dir) = made();
    let vault = opened(&dir);
    set(&vault, "a", "older").await;
    set(&vault, "a", "newer").await;
    let backup = temp.path().join("backup");
    let made = vault.backup(&backup).await.unwrap();
    assert_eq!((made.dir.clone(), made.contents), (backup.clone(), Contents { secrets: 1, versions: 2 }));
    assert_eq!(mode(&backup), 0o700);
    let names: Vec<_> = contents(&backup).into_keys().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["vault.sqlite3"]);
    assert_eq!(mode(&backup.join("vault.sqlite3")), 0o600);
    assert_eq!(fs::metadata(backup.join("vault.sqlite3")).unwrap().len(), made.size);
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2, "nothing else is left");

    refuses(&backup, Unlock::KeyFile, is_refused, "is missing");
    // Restored: the key beside it, and it is the vault as it was.
    set(&vault, "a", "after the backup").await;
    let versions = vault.versions(&name("a")).await.unwrap();
    drop(vault);
    fs::rename(dir.join("vault.key"), backup.join("vault.key")).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    fs::rename(&backup, &dir).unwrap();
    let restored = opened(&dir);
    assert_eq!(value(&restored, "a").await.unwrap(), "newer");
    assert_eq!(restored.versions(&name("a")).await.unwrap(), versions[1..]);
    // What is written next comes after what is there.
    set(&restored, "a", "newest").await;
    assert_eq!(value(&restored, "a").await.unwrap(), "newest");
}

#[tokio::test]
async fn a_backup_replaces_nothing() {
    let (temp, dir) = made();
    let vault = opened(&dir);
    set(&vault, "a", "x").await;
    let file = temp.path().join("file");
    fs::write(&file, "mine").unwrap();
    let folder = temp.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let link = temp.path().join("link");
    std::os::unix::fs::symlink(temp.path().join("nowhere"), &link).unwrap();
    for (to, part) in [
        (file.clone(), "is there already"),
        (folder, "is there already"),
        (link, "is there already"),
        (dir.clone(), "is there already"),
        (temp.path().join("missing").join("backup"), "no folder"),
        (Path::new("/").to_owned(), "no new folder"),
    ] {
        let error = vault.backup(&to).await.unwrap_err();
        assert!(matches!(&error, VaultError::Invalid(text) if text.contains(part)), "{}: {error:?}", to.display());
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 4);
}

// promise: A backup is one consistent state, and every value in it can be decrypted.
#[tokio::test]
async fn a_vault_that_does_not_open_whole_is_not_backed_up() {
    let (temp, dir) = made();
    let vault = opened(&dir);
    set(&vault, "a", "x").await;
    set(&vault, "b", "x").await;
    lock(&vault.0.writer).execute("UPDATE versions SET nonce = x'00' WHERE name = 'b'", []).unwrap();
    let broken = vault.verify().await.unwrap().broken;
    assert_eq!(broken.len(), 1);
    assert_eq!(broken[0].name, "b");
    let error = vault.backup(&temp.path().join("backup")).await.unwrap_err();
    assert!(is_damaged(&error) && error.to_string().contains("the secret `b`"), "{error:?}");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "nothing is left of it");
}

// promise: A backup is one consistent state, and every value in it can be decrypted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_is_one_state_while_others_write() {
    let (temp, dir) = made();
    let vault = opened(&dir);
    let pair = |text: &str| {
        let secret =
            |name_of: &str| (name(name_of), Arc::new(Secret::new(text.to_owned()).unwrap()), Attributes::default());
        vec![secret("one"), secret("two")]
    };
    vault.insert(pair("first")).await.unwrap();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let (vault, done) = (opened(&dir), Arc::clone(&done));
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
        let copy = opened(&backup);
        assert_eq!(value(&copy, "one").await.unwrap(), value(&copy, "two").await.unwrap());
        assert_eq!(copy.versions(&name("one")).await.unwrap().len(), copy.versions(&name("two")).await.unwrap().len());
        // Until something was written: else nothing would be tried here.
        while vault.versions(&name("one")).await.unwrap().len() as u64 * 2 == *sizes.last().unwrap() {
            tokio::task::yield_now().await;
        }
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(writer.await.unwrap() > 0);
    assert_eq!(sizes.len(), 5, "the vault grew meanwhile");
}

#[tokio::test]
async fn the_status_tells_what_is_wrong_without_a_passphrase() {
    let (_temp, dir) = made();
    let vault = opened(&dir);
    set(&vault, "a", "x").await;
    set(&vault, "a", "y").await;
    drop(vault);
    let key = dir.join("vault.key");
    let status = LocalVault::status(&dir).unwrap();
    assert_eq!(status.key, KeySource::KeyFile { path: key.clone(), fits: true });
    assert_eq!(status.contents, Some(Contents { secrets: 1, versions: 2 }));
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
    let before = contents(&dir);
    fs::remove_file(&key).unwrap();
    let status = LocalVault::status(&dir).unwrap();
    assert_eq!(status.key, KeySource::KeyFile { path: key.clone(), fits: false });
    assert!(status.problems[0].contains("is missing"), "{status:?}");
    fs::write(&key, &before[&key]).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(before == contents(&dir), "looking changes nothing");
    assert!(is_absent(&LocalVault::status(&dir.join("nowhere")).unwrap_err()));

    // A vault of a passphrase tells the same.
    let vault = opened(&dir);
    vault.rekey(Protection::Passphrase(passphrase(PASSPHRASE))).await.unwrap();
    drop(vault);
    let status = LocalVault::status(&dir).unwrap();
    assert_eq!(status.key, KeySource::Passphrase { memory_kib: 65_536, passes: 3, lanes: 4 });
    assert_eq!(status.contents, Some(Contents { secrets: 1, versions: 2 }));
    assert!(status.problems.is_empty());
}
