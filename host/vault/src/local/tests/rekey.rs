//! Tests of rekeying: which key opens the vault at each stage, what remains, and the effect on
//! other handles.

use std::fs;

use super::super::rekey::Stage;
use super::*;

/// Returns the ciphertext of every row.
fn sealed(vault: &LocalVault) -> Vec<Vec<u8>> {
    let reader = lock(&vault.0.reader);
    let mut statement = reader.prepare("SELECT sealed FROM versions ORDER BY serial").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn files_contain(dir: &Path, needle: &[u8]) -> bool {
    file_contents(dir).values().any(|content| content.windows(needle.len()).any(|window| window == needle))
}

/// Creates a vault with two secrets, one with two versions and attributes.
async fn vault_with_secrets(dir: &Path, protection: Protection) -> LocalVault {
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
enum Method {
    KeyFile,
    Passphrase(&'static str),
}

impl Method {
    fn protection(self) -> Protection {
        match self {
            Method::KeyFile => Protection::KeyFile,
            Method::Passphrase(text) => Protection::Passphrase(passphrase(text)),
        }
    }
}

const CHANGES: [(Method, Method); 4] = [
    (Method::KeyFile, Method::KeyFile),
    (Method::KeyFile, Method::Passphrase(PASSPHRASE)),
    (Method::Passphrase(PASSPHRASE), Method::KeyFile),
    (Method::Passphrase(PASSPHRASE), Method::Passphrase("another")),
];

/// Copies the directory as a process would leave it if it were killed now.
fn snapshot(dir: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    for (path, _) in file_contents(dir) {
        if path.extension().is_none_or(|extension| extension != "sqlite3-shm") {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

// promise: At every moment of a rekey either the former key or the new key opens the vault.
#[tokio::test]
async fn every_rekey_stage_opens_with_one_of_both_keys() {
    for (from, to) in CHANGES {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("vault");
        let vault = vault_with_secrets(&dir, from.protection()).await;
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
        assert!(done.old_ciphertext_erased);
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
                assert!(LocalVault::open(&left, wrong.protection()).is_err(), "{from:?} {to:?} {stage:?}");
            }
            // Twice: the first time settles the interrupted rekey and leaves nothing to settle.
            for _ in 0..2 {
                let vault = LocalVault::open(&left, right.protection())
                    .unwrap_or_else(|error| panic!("{from:?} {to:?} {stage:?}: {error}"));
                assert_eq!(value(&vault, "a").await.unwrap(), "the-value-of-a");
                assert_eq!(vault.versions(&name("a")).await.unwrap(), before);
                assert_eq!(sealed(&vault) == old, !is_new, "{from:?} {to:?} {stage:?}");
                assert!(!left.join("vault.key.next").exists());
                assert_eq!(left.join("vault.key").exists(), right == Method::KeyFile);
                assert!(vault.verify().await.unwrap().is_whole());
            }
            let status = LocalVault::status(&left).unwrap();
            assert!(!status.rekey_cut_off && status.problems.is_empty(), "{status:?}");
            assert_eq!(
                status.former_keys.len(),
                usize::from(is_new && from == Method::KeyFile),
                "{from:?} {to:?} {stage:?}"
            );
        }
    }
}

#[tokio::test]
async fn rekey_erases_old_ciphertext() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let vault = vault_with_secrets(&dir, Protection::KeyFile).await;
    let traces: Vec<Vec<u8>> = sealed(&vault).into_iter().map(|seal| seal[..30].to_vec()).collect();
    let wrapped: Vec<u8> =
        lock(&vault.0.reader).query_row("SELECT wrapped_key FROM vault", [], |row| row.get(0)).unwrap();
    assert!(
        traces.iter().all(|trace| files_contain(&dir, trace)) && files_contain(&dir, &wrapped),
        "the search finds existing text"
    );
    assert!(vault.rekey(Protection::KeyFile).await.unwrap().old_ciphertext_erased);
    for trace in traces.iter().chain([&wrapped]) {
        assert!(!files_contain(&dir, trace), "erased while the vault is still open");
    }
}

#[tokio::test]
async fn leaked_key_and_old_copy_reveal_no_new_value() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let vault = vault_with_secrets(&dir, Protection::KeyFile).await;
    let stolen = temp.path().join("stolen");
    snapshot(&dir, &stolen);
    let done = vault.rekey(Protection::KeyFile).await.unwrap();
    drop(vault);
    let stolen_vault = LocalVault::open(&stolen, Protection::KeyFile).unwrap();
    // The stolen data key does not decrypt a row of the rekeyed vault, even under the stolen
    // header.
    let vault = open_vault(&dir);
    let row = |vault: &LocalVault| -> (Vec<u8>, Vec<u8>) {
        let query = "SELECT nonce, sealed FROM versions WHERE serial = 2";
        lock(&vault.0.reader).query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    let (nonce, seal) = row(&vault);
    lock(&stolen_vault.0.writer)
        .execute("UPDATE versions SET nonce = ?1, sealed = ?2 WHERE serial = 2", (nonce, seal))
        .unwrap();
    assert!(is_damaged(&value(&stolen_vault, "a").await.unwrap_err()));
    // The former key is kept for old copies, and opens only those.
    let former = done.former_key.unwrap();
    fs::copy(&former, dir.join("vault.key")).unwrap();
    drop(vault);
    assert_open_fails(&dir, Protection::KeyFile, is_refused, "its key was changed");
}

// promise: No value is encrypted under a key that was replaced.
#[tokio::test]
async fn other_handles_fail_after_rekey() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let one = vault_with_secrets(&dir, Protection::KeyFile).await;
    let other = open_vault(&dir);
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
            assert!(is_refused(&error) && error.to_string().contains("was rekeyed"), "{error:?}");
        }
    }
    assert!(!temp.path().join("backup").exists());
    let vault = open_vault(&dir);
    assert_eq!(Operator::list(&vault).await.unwrap().len(), 2);
    assert!(vault.verify().await.unwrap().is_whole());
}

#[tokio::test]
#[expect(
    clippy::await_holding_lock,
    reason = "only this test takes the reader's lock, and the rekey must proceed meanwhile"
)]
async fn reader_during_rekey_keeps_its_snapshot() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let vault = vault_with_secrets(&dir, Protection::KeyFile).await;
    let other = open_vault(&dir);
    let mut reader = lock(&other.0.reader);
    let reading = reader.transaction().unwrap();
    let query = "SELECT sealed FROM versions WHERE serial = 1";
    let before: Vec<u8> = reading.query_row(query, [], |row| row.get(0)).unwrap();
    lock(&vault.0.writer).busy_timeout(std::time::Duration::ZERO).unwrap();
    let done = vault.rekey(Protection::KeyFile).await.unwrap();
    assert!(!done.old_ciphertext_erased);
    assert_eq!(before, reading.query_row(query, [], |row| row.get::<_, Vec<u8>>(0)).unwrap());
    drop(reading);
    drop(reader);
    drop(other);
    drop(vault);
    drop(open_vault(&dir));
    assert!(!files_contain(&dir, &before), "erased when the last handle is closed");
}

#[tokio::test]
async fn broken_version_prevents_rekey() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let vault = vault_with_secrets(&dir, Protection::KeyFile).await;
    lock(&vault.0.writer).execute("UPDATE versions SET created = created + 1 WHERE serial = 1", []).unwrap();
    let verification = vault.verify().await.unwrap();
    assert_eq!(verification.broken.iter().map(|broken| broken.name.as_str()).collect::<Vec<_>>(), ["a"]);
    let error = vault.rekey(Protection::Passphrase(passphrase(PASSPHRASE))).await.unwrap_err();
    assert!(is_damaged(&error) && error.to_string().contains("the secret `a`"), "{error:?}");
    assert_eq!(value(&vault, "b").await.unwrap().len(), 20_000, "the vault keeps its key");
    vault.remove(vec![name("a")]).await.unwrap();
    vault.rekey(Protection::KeyFile).await.unwrap();
    assert_eq!(value(&open_vault(&dir), "b").await.unwrap().len(), 20_000);
}

#[tokio::test]
async fn current_passphrase_is_rejected() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let vault = vault_with_secrets(&dir, Protection::Passphrase(passphrase(PASSPHRASE))).await;
    let before = sealed(&vault);
    let error = vault.rekey(Protection::Passphrase(passphrase(PASSPHRASE))).await.unwrap_err();
    assert!(matches!(&error, VaultError::Invalid(text) if text.contains("the current one")), "{error:?}");
    assert_eq!(sealed(&vault), before);
    assert_eq!(value(&vault, "a").await.unwrap(), "the-value-of-a", "the vault keeps its key");
}

#[tokio::test]
async fn failed_rekey_keeps_the_key() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let vault = vault_with_secrets(&dir, Protection::KeyFile).await;
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
    let vault = open_vault(&dir);
    assert!(!dir.join("vault.key.next").exists());
    vault.rekey(Protection::KeyFile).await.unwrap();
    assert_eq!(value(&open_vault(&dir), "a").await.unwrap(), "the-value-of-a");
}

#[tokio::test]
async fn unidentified_key_file_is_kept() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    let vault = vault_with_secrets(&dir, Protection::KeyFile).await;
    let (key, next, away) = (dir.join("vault.key"), dir.join("vault.key.next"), temp.path().join("away"));
    fs::rename(&key, &away).unwrap();
    // As an editor or a copy may leave it: not accepted as a key now, but perhaps the only one.
    fs::write(&next, fs::read(&away).unwrap()).unwrap();
    fs::set_permissions(&next, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let error = vault.rekey(Protection::KeyFile).await.unwrap_err();
    assert!(matches!(&error, VaultError::Unavailable(text) if text.contains("vault.key.next")), "{error:?}");
    assert_eq!(fs::read(&next).unwrap(), fs::read(&away).unwrap());
    fs::rename(&away, &key).unwrap();
    assert_eq!(value(&open_vault(&dir), "a").await.unwrap(), "the-value-of-a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn open_during_rekey_succeeds() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    drop(vault_with_secrets(&dir, Protection::KeyFile).await);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let openers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        LocalVault::open(&dir, Protection::KeyFile).unwrap();
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for _ in 0..10 {
            open_vault(&dir).0.rekey(&Protection::KeyFile, &mut |_| {}).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for opener in openers {
            assert!(opener.join().unwrap() > 0);
        }
    });
    assert_eq!(value(&open_vault(&dir), "a").await.unwrap(), "the-value-of-a");
    assert_eq!(LocalVault::status(&dir).unwrap().former_keys.len(), 10);
}
