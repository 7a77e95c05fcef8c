//! Several handles, as several processes have them, on one vault.

use std::fs;

use rusqlite::Connection;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_on_two_handles_lose_nothing() {
    let (_temp, dir) = made();
    let handles = [opened(&dir), opened(&dir)];
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
            vault.find(name("shared"), None).await.unwrap().description
        );
        for writer in 0..8 {
            assert_eq!(value(vault, &format!("own-{writer}")).await.unwrap(), "9");
        }
        assert_eq!(Operator::list(vault).await.unwrap().len(), 9);
    }
}

#[tokio::test]
async fn a_write_on_one_handle_is_seen_on_the_other() {
    let (_temp, dir) = made();
    let (one, two) = (opened(&dir), opened(&dir));
    set(&one, "a", "first").await;
    assert_eq!(value(&two, "a").await.unwrap(), "first");
    set(&two, "a", "second").await;
    assert_eq!(value(&one, "a").await.unwrap(), "second");
    drop(one);
    set(&two, "a", "third").await;
    assert_eq!(value(&two, "a").await.unwrap(), "third");
    assert_eq!(value(&opened(&dir), "a").await.unwrap(), "third");
}

#[tokio::test]
async fn a_vault_that_is_held_is_busy_and_can_be_read() {
    let (_temp, dir) = made();
    let vault = opened(&dir);
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
async fn what_was_written_is_there_after_the_process_is_gone() {
    let (_temp, dir) = made();
    let vault = opened(&dir);
    set(&vault, "a", "hunter2").await;
    // The files as a process leaves them that is killed now: the log is not merged.
    let copy = tempfile::tempdir().unwrap();
    for (path, content) in contents(&dir) {
        if path.extension().is_none_or(|extension| extension != "sqlite3-shm") {
            fs::write(copy.path().join(path.file_name().unwrap()), content).unwrap();
        }
    }
    let key = copy.path().join("vault.key");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let log = copy.path().join("vault.sqlite3-wal");
    assert!(fs::metadata(&log).unwrap().len() > 0);
    // A wrong key merges nothing.
    let before = (fs::read(&log).unwrap(), fs::read(copy.path().join("vault.sqlite3")).unwrap());
    assert!(is_refused(&LocalVault::open(copy.path(), Unlock::KeyFile).unwrap_err()));
    assert!(before == (fs::read(&log).unwrap(), fs::read(copy.path().join("vault.sqlite3")).unwrap()));

    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(value(&opened(copy.path()), "a").await.unwrap(), "hunter2");
    assert!(!log.exists(), "the last one to close merges the log");
}
