//! Tests of several handles, as in several processes, on one vault.

use std::fs;

use rusqlite::Connection;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_on_two_handles_lose_nothing() {
    let (_temp, dir) = new_vault();
    let handles = [open_vault(&dir), open_vault(&dir)];
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let vault = handles[writer % 2].clone();
            tokio::spawn(async move {
                for round in 0..10 {
                    set(&vault, "shared", &format!("{writer}-{round}")).await;
                    set(&vault, &format!("own-{writer}"), &round.to_string()).await;
                    assert_eq!(value(&vault, &format!("own-{writer}")).await.unwrap(), round.to_string());
                    set(&vault, &format!("gone-{writer}"), "x").await;
                    vault.remove(vec![name(&format!("gone-{writer}"))]).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    for vault in &handles {
        let versions = vault.versions(&name("shared")).await.unwrap();
        assert_eq!(versions.len(), 80);
        let distinct: BTreeSet<_> = versions.iter().map(|version| version.version.clone()).collect();
        assert_eq!(distinct.len(), 80);
        assert_eq!(
            vault.versions(&name("shared")).await.unwrap()[0],
            vault.read_version(name("shared"), None).await.unwrap().description
        );
        for writer in 0..8 {
            assert_eq!(value(vault, &format!("own-{writer}")).await.unwrap(), "9");
        }
        assert_eq!(Operator::list(vault).await.unwrap().len(), 9);
    }
}

#[tokio::test]
async fn write_is_visible_on_other_handle() {
    let (_temp, dir) = new_vault();
    let (one, two) = (open_vault(&dir), open_vault(&dir));
    set(&one, "a", "first").await;
    assert_eq!(value(&two, "a").await.unwrap(), "first");
    set(&two, "a", "second").await;
    assert_eq!(value(&one, "a").await.unwrap(), "second");
    drop(one);
    set(&two, "a", "third").await;
    assert_eq!(value(&two, "a").await.unwrap(), "third");
    assert_eq!(value(&open_vault(&dir), "a").await.unwrap(), "third");
}

#[tokio::test]
async fn locked_vault_is_busy_but_readable() {
    let (_temp, dir) = new_vault();
    let vault = open_vault(&dir);
    set(&vault, "a", "x").await;
    lock(&vault.0.writer).busy_timeout(std::time::Duration::ZERO).unwrap();
    let other = Connection::open(dir.join("vault.sqlite3")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let secret = Arc::new(Secret::new("y".into()).unwrap());
    let error = vault.insert(vec![(name("a"), secret, Attributes::default())]).await.unwrap_err();
    assert!(matches!(&error, VaultError::Unavailable(text) if text.contains("busy")), "{error:?}");
    assert_eq!(value(&vault, "a").await.unwrap(), "x");
    other.execute_batch("ROLLBACK").unwrap();
    set(&vault, "a", "y").await;
}

#[tokio::test]
async fn committed_write_survives_killed_process() {
    let (_temp, dir) = new_vault();
    let vault = open_vault(&dir);
    set(&vault, "a", "hunter2").await;
    // Copy the files as a process would leave them if it were killed now: the log is not merged.
    let copy = tempfile::tempdir().unwrap();
    for (path, content) in file_contents(&dir) {
        if path.extension().is_none_or(|extension| extension != "sqlite3-shm") {
            fs::write(copy.path().join(path.file_name().unwrap()), content).unwrap();
        }
    }
    let key = copy.path().join("vault.key");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let log = copy.path().join("vault.sqlite3-wal");
    assert!(fs::metadata(&log).unwrap().len() > 0);
    // Opening with a wrong key does not merge the log.
    let before = (fs::read(&log).unwrap(), fs::read(copy.path().join("vault.sqlite3")).unwrap());
    assert!(is_refused(&LocalVault::open(copy.path(), Protection::KeyFile).unwrap_err()));
    assert!(before == (fs::read(&log).unwrap(), fs::read(copy.path().join("vault.sqlite3")).unwrap()));

    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(value(&open_vault(copy.path()), "a").await.unwrap(), "hunter2");
    assert!(!log.exists(), "closing the last handle merges the log");
}
