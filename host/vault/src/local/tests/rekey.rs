//! Changing the key: what opens the vault at every moment, what is left, and what other handles are told.

use std::fs;

use super::super::rekey::Stage;
use super::*;

/// The sealed bytes of every row.
fn sealed(vault: &LocalVault) -> Vec<Vec<u8>> {
    let reader = lock(&vault.0.reader);
    let mut statement = reader.prepare("SELECT sealed FROM versions ORDER BY serial").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn is_in(dir: &Path, needle: &[u8]) -> bool {
    contents(dir).values().any(|content| content.windows(needle.len()).any(|window| window == needle))
}

/// A vault with two secrets, one of two versions with attributes.
async fn filled(dir: &Path, protection: Protection) -> LocalVault {
    let vault = LocalVault::create(dir, protection).unwrap();
    set(&vault, "a", "the-older-value-of-a").await;
    let time = |second| Some(jiff::Timestamp::from_second(second).unwrap());
    let attributes =
        Attributes { content_type: Some("text/plain".into()), not_before: time(1), expires: time(4_000_000_000) };
    let secret = Arc::new(Secret::new("the-value-of-a".into()).unwrap());
    vault.insert(vec![(name("a"), secret, attributes)]).await.unwrap();
    set(&vault, "b", &"long".repeat(5_000)).await;
    vault
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    KeyFile,
    Passphrase(&'static str),
}

impl By {
    fn protection(self) -> Protection {
        match self {
            By::KeyFile => Protection::KeyFile,
            By::Passphrase(text) => Protection::Passphrase(passphrase(text)),
        }
    }

    fn unlock(self) -> Unlock {
        match self {
            By::KeyFile => Unlock::KeyFile,
            By::Passphrase(text) => Unlock::Passphrase(passphrase(text)),
        }
    }
}

const CHANGES: [(By, By); 4] = [
    (By::KeyFile, By::KeyFile),
    (By::KeyFile, By::Passphrase(PASSPHRASE)),
    (By::Passphrase(PASSPHRASE), By::KeyFile),
    (By::Passphrase(PASSPHRASE), By::Passphrase("another")),
];

/// The folder as a process leaves it that is killed now.
fn snapshot(dir: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    for (path, _) in contents(dir) {
        if path.extension().is_none_or(|extension| extension != "sqlite3-shm") {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

// promise: At every moment of a rekey either the former key or the new key opens the vault.
#[tokio::test]
async fn at_every_stage_the_former_key_opens_the_vault_or_the_new_one() {
    for (from, to) in CHANGES {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("vault");
        let vault = filled(&dir, from.protection()).await;
        let before = vault.versions(&name("a")).await.unwrap();
        let old = sealed(&vault);
        let mut stages = Vec::new();
        let done = vault
            .0
            .rekey(&to.protection(), &mut |stage| {
                snapshot(&dir, &temp.path().join(format!("{stage:?}")));
                stages.push(stage);
            })
            .unwrap();
        assert_eq!(done.contents, Contents { secrets: 2, versions: 3 });
        assert!(done.former_seals_gone);
        assert_eq!(
            stages,
            [Stage::KeyWritten, Stage::Sealed, Stage::Committed, Stage::Truncated, Stage::Finished],
            "{from:?} {to:?}"
        );
        for stage in stages {
            let left = temp.path().join(format!("{stage:?}"));
            let is_new = !matches!(stage, Stage::KeyWritten | Stage::Sealed);
            let (right, wrong) = if is_new { (to, from) } else { (from, to) };
            if right != wrong {
                assert!(LocalVault::open(&left, wrong.unlock()).is_err(), "{from:?} {to:?} {stage:?}");
            }
            // Twice: the first opening settles what was cut off, and leaves nothing to settle.
            for _ in 0..2 {
                let vault = LocalVault::open(&left, right.unlock())
                    .unwrap_or_else(|error| panic!("{from:?} {to:?} {stage:?}: {error}"));
                assert_eq!(value(&vault, "a").await.unwrap(), "the-value-of-a");
                assert_eq!(vault.versions(&name("a")).await.unwrap(), before);
                assert_eq!(sealed(&vault) == old, !is_new, "{from:?} {to:?} {stage:?}");
                assert!(!left.join("vault.key.next").exists());
                assert_eq!(left.join("vault.key").exists(), right == By::KeyFile);
                assert!(vault.verify().await.unwrap().is_whole());
            }
            let status = LocalVault::status(&left).unwrap();
            assert!(!status.rekey_cut_off && status.problems.is_empty(), "{status:?}");
            assert_eq!(
                status.former_keys.len(),
                usize::from(is_new && from == By::KeyFile),
                "{from:?} {to:?} {stage:?}"
            );
        }
    }
}

#[tokio::test]
async fn nothing_that_the_former_key_sealed_is_left() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let vault = filled(&dir, Protection::KeyFile).await;
    let traces: Vec<Vec<u8>> = sealed(&vault).into_iter().map(|seal| seal[..30].to_vec()).collect();
    let wrapped: Vec<u8> =
        lock(&vault.0.reader).query_row("SELECT wrapped_key FROM vault", [], |row| row.get(0)).unwrap();
    assert!(traces.iter().all(|trace| is_in(&dir, trace)) && is_in(&dir, &wrapped), "the search finds what is there");
    assert!(vault.rekey(Protection::KeyFile).await.unwrap().former_seals_gone);
    for trace in traces.iter().chain([&wrapped]) {
        assert!(!is_in(&dir, trace), "also while the vault is open");
    }
}

#[tokio::test]
async fn a_leaked_key_and_an_old_copy_tell_nothing_of_what_is_there_now() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let vault = filled(&dir, Protection::KeyFile).await;
    let stolen = temp.path().join("stolen");
    snapshot(&dir, &stolen);
    let done = vault.rekey(Protection::KeyFile).await.unwrap();
    drop(vault);
    let thief = LocalVault::open(&stolen, Unlock::KeyFile).unwrap();
    // The thief's data key does not open what stands in the vault now, in the thief's own header's name.
    let vault = opened(&dir);
    let row = |vault: &LocalVault| -> (Vec<u8>, Vec<u8>) {
        let query = "SELECT nonce, sealed FROM versions WHERE serial = 2";
        lock(&vault.0.reader).query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    let (nonce, seal) = row(&vault);
    lock(&thief.0.writer)
        .execute("UPDATE versions SET nonce = ?1, sealed = ?2 WHERE serial = 2", (nonce, seal))
        .unwrap();
    assert!(is_damaged(&value(&thief, "a").await.unwrap_err()));
    // The former key is kept for such copies, and opens no more than them.
    let former = done.former_key.unwrap();
    fs::copy(&former, dir.join("vault.key")).unwrap();
    drop(vault);
    refuses(&dir, Unlock::KeyFile, is_refused, "its key was changed");
}

// promise: No value is encrypted under a key that was replaced.
#[tokio::test]
async fn other_handles_are_told_and_write_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let one = filled(&dir, Protection::KeyFile).await;
    let other = opened(&dir);
    assert_eq!(value(&other, "a").await.unwrap(), "the-value-of-a");
    one.rekey(Protection::KeyFile).await.unwrap();
    for vault in [&one, &other] {
        let secret = Arc::new(Secret::new("late".into()).unwrap());
        let errors = [
            value(vault, "a").await.unwrap_err(),
            Operator::list(vault).await.unwrap_err(),
            vault.insert(vec![(name("late"), secret, Attributes::default())]).await.unwrap_err(),
            vault.remove(vec![name("a")]).await.unwrap_err(),
            vault.rekey(Protection::KeyFile).await.unwrap_err(),
            vault.verify().await.unwrap_err(),
            vault.backup(&temp.path().join("backup")).await.unwrap_err(),
        ];
        for error in errors {
            assert!(is_refused(&error) && error.to_string().contains("given a new key"), "{error:?}");
        }
    }
    assert!(!temp.path().join("backup").exists());
    let vault = opened(&dir);
    assert_eq!(Operator::list(&vault).await.unwrap().len(), 2);
    assert!(vault.verify().await.unwrap().is_whole());
}

#[tokio::test]
#[expect(
    clippy::await_holding_lock,
    reason = "the reader's lock is held by this test alone, and the rekey must go on beside it"
)]
async fn a_reader_keeps_what_it_reads_and_the_rest_is_told() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let vault = filled(&dir, Protection::KeyFile).await;
    let other = opened(&dir);
    let mut reader = lock(&other.0.reader);
    let reading = reader.transaction().unwrap();
    let query = "SELECT sealed FROM versions WHERE serial = 1";
    let before: Vec<u8> = reading.query_row(query, [], |row| row.get(0)).unwrap();
    lock(&vault.0.writer).busy_timeout(std::time::Duration::ZERO).unwrap();
    let done = vault.rekey(Protection::KeyFile).await.unwrap();
    assert!(!done.former_seals_gone);
    assert_eq!(before, reading.query_row(query, [], |row| row.get::<_, Vec<u8>>(0)).unwrap());
    drop(reading);
    drop(reader);
    drop(other);
    drop(vault);
    drop(opened(&dir));
    assert!(!is_in(&dir, &before), "it is gone when the last one has closed the vault");
}

#[tokio::test]
async fn a_version_that_does_not_open_keeps_the_key() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let vault = filled(&dir, Protection::KeyFile).await;
    lock(&vault.0.writer).execute("UPDATE versions SET created = created + 1 WHERE serial = 1", []).unwrap();
    let verification = vault.verify().await.unwrap();
    assert_eq!(verification.broken.iter().map(|broken| broken.name.as_str()).collect::<Vec<_>>(), ["a"]);
    let error = vault.rekey(Protection::Passphrase(passphrase(PASSPHRASE))).await.unwrap_err();
    assert!(is_damaged(&error) && error.to_string().contains("the secret `a`"), "{error:?}");
    assert_eq!(value(&vault, "b").await.unwrap().len(), 20_000, "it goes on under its key");
    vault.remove(vec![name("a")]).await.unwrap();
    vault.rekey(Protection::KeyFile).await.unwrap();
    assert_eq!(value(&opened(&dir), "b").await.unwrap().len(), 20_000);
}

#[tokio::test]
async fn the_present_passphrase_is_no_new_one() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let vault = filled(&dir, Protection::Passphrase(passphrase(PASSPHRASE))).await;
    let before = sealed(&vault);
    let error = vault.rekey(Protection::Passphrase(passphrase(PASSPHRASE))).await.unwrap_err();
    assert!(matches!(&error, VaultError::Invalid(text) if text.contains("the present one")), "{error:?}");
    assert_eq!(sealed(&vault), before);
    assert_eq!(value(&vault, "a").await.unwrap(), "the-value-of-a", "it goes on under its key");
}

#[tokio::test]
async fn a_change_that_cannot_begin_leaves_the_key() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let vault = filled(&dir, Protection::KeyFile).await;
    let error = vault.rekey(Protection::Passphrase(passphrase(""))).await.unwrap_err();
    assert!(matches!(&error, VaultError::Invalid(text) if text.contains("passphrase is empty")), "{error:?}");
    // Another process is writing.
    lock(&vault.0.writer).busy_timeout(std::time::Duration::ZERO).unwrap();
    let other = rusqlite::Connection::open(dir.join("vault.sqlite3")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = vault.rekey(Protection::KeyFile).await.unwrap_err();
    assert!(matches!(&error, VaultError::Unavailable(text) if text.contains("busy")), "{error:?}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(value(&vault, "a").await.unwrap(), "the-value-of-a");
    drop(vault);
    let vault = opened(&dir);
    assert!(!dir.join("vault.key.next").exists());
    vault.rekey(Protection::KeyFile).await.unwrap();
    assert_eq!(value(&opened(&dir), "a").await.unwrap(), "the-value-of-a");
}

#[tokio::test]
async fn a_key_of_which_nobody_knows_whose_it_is_stays() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let vault = filled(&dir, Protection::KeyFile).await;
    let (key, next, away) = (dir.join("vault.key"), dir.join("vault.key.next"), temp.path().join("away"));
    fs::rename(&key, &away).unwrap();
    // As an editor or a copy may leave it: not readable as a key now, and perhaps the only one.
    fs::write(&next, fs::read(&away).unwrap()).unwrap();
    fs::set_permissions(&next, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let error = vault.rekey(Protection::KeyFile).await.unwrap_err();
    assert!(matches!(&error, VaultError::Unavailable(text) if text.contains("vault.key.next")), "{error:?}");
    assert_eq!(fs::read(&next).unwrap(), fs::read(&away).unwrap());
    fs::rename(&away, &key).unwrap();
    assert_eq!(value(&opened(&dir), "a").await.unwrap(), "the-value-of-a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_opens_the_vault_while_its_key_changes_gets_in() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    drop(filled(&dir, Protection::KeyFile).await);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let openers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        LocalVault::open(&dir, Unlock::KeyFile).unwrap();
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for _ in 0..10 {
            opened(&dir).0.rekey(&Protection::KeyFile, &mut |_| {}).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for opener in openers {
            assert!(opener.join().unwrap() > 0);
        }
    });
    assert_eq!(value(&opened(&dir), "a").await.unwrap(), "the-value-of-a");
    assert_eq!(LocalVault::status(&dir).unwrap().former_keys.len(), 10);
}
