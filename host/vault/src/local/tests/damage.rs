//! Tests of wrong keys and of edited databases.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rusqlite::Connection;

use super::*;

/// Edits the database directly.
fn edit(dir: &Path, sql: &str) {
    let connection = Connection::open(dir.join("vault.sqlite3")).unwrap();
    let changed = connection.execute(sql, []).unwrap();
    assert!(changed > 0, "{sql}");
}

#[test]
fn wrong_key_file_is_refused() {
    let (_temp, dir) = new_vault();
    let (_other_temp, other) = new_vault();
    let key = dir.join("vault.key");
    let good = fs::read_to_string(&key).unwrap();
    let put = |text: &str| fs::write(&key, text).unwrap();

    fs::copy(other.join("vault.key"), &key).unwrap();
    assert_open_fails(&dir, Protection::KeyFile, is_refused, "belongs to another vault");

    let last = good.len() - 2;
    let digit = if good.as_bytes()[last] == b'0' { "1" } else { "0" };
    put(&format!("{}{digit}\n", &good[..last]));
    assert_open_fails(&dir, Protection::KeyFile, is_refused, "its key was changed");

    for bad in
        ["", "\n", "x", &good[..40], &good[1..], &good.replace(' ', "\t"), &format!("{good}{good}"), &"é".repeat(100)]
    {
        put(bad);
        assert_open_fails(&dir, Protection::KeyFile, is_refused, "is not a strongroom key file");
    }
    fs::write(&key, vec![0xff; 1 << 20]).unwrap();
    assert_open_fails(&dir, Protection::KeyFile, is_refused, "is not a strongroom key file");

    put(&good);
    for open in [0o604, 0o640, 0o620, 0o777] {
        fs::set_permissions(&key, fs::Permissions::from_mode(open)).unwrap();
        assert_open_fails(&dir, Protection::KeyFile, is_refused, "is open to others");
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
    drop(open_vault(&dir));

    fs::rename(&key, dir.join("elsewhere")).unwrap();
    assert_open_fails(&dir, Protection::KeyFile, is_refused, "is missing");
    symlink(dir.join("elsewhere"), &key).unwrap();
    assert_open_fails(&dir, Protection::KeyFile, is_refused, "is not a regular file");
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    assert_open_fails(&dir, Protection::KeyFile, is_refused, "is not a regular file");
    fs::remove_dir(&key).unwrap();

    // Without the line feed, as some editors save it.
    put(good.trim_end());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    drop(open_vault(&dir));
    assert_open_fails(&dir, Protection::Passphrase(passphrase("x")), is_refused, "is opened by its key file");
}

#[test]
fn file_other_than_vault_is_damaged() {
    let (_temp, dir) = new_vault();
    let database = dir.join("vault.sqlite3");
    let good = fs::read(&database).unwrap();
    for bad in [Vec::new(), b"hello".to_vec(), vec![0; 8192], good.iter().map(|byte| !byte).collect()] {
        fs::write(&database, bad).unwrap();
        assert_open_fails(&dir, Protection::KeyFile, is_damaged, "vault.sqlite3");
        assert!(is_damaged(&LocalVault::needs_passphrase(&dir).unwrap_err()));
    }
    fs::remove_file(&database).unwrap();
    Connection::open(&database).unwrap().execute_batch("CREATE TABLE vault (id INTEGER)").unwrap();
    assert_open_fails(&dir, Protection::KeyFile, is_damaged, "is not a strongroom vault");
    fs::remove_file(&database).unwrap();
    fs::create_dir(&database).unwrap();
    assert_open_fails(&dir, Protection::KeyFile, is_damaged, "is not a regular file");
    fs::remove_dir(&database).unwrap();
    fs::write(&database, good).unwrap();
    drop(open_vault(&dir));
}

#[tokio::test]
async fn truncated_database_is_damaged() {
    let (_temp, dir) = new_vault();
    let vault = open_vault(&dir);
    for round in 0..10 {
        set(&vault, &format!("a{round}"), &"x".repeat(5_000)).await;
    }
    drop(vault);
    let database = dir.join("vault.sqlite3");
    let good = fs::read(&database).unwrap();
    for keep in [1, 99, 100, 512, 4095, 4096, 4097, 8192, good.len() / 2, good.len() - 4096, good.len() - 1] {
        fs::write(&database, &good[..keep]).unwrap();
        assert_open_fails(&dir, Protection::KeyFile, is_damaged, "vault.sqlite3");
    }
}

#[test]
fn edited_header_is_damaged() {
    for (column, value) in [
        ("vault", "randomblob(16)"),
        ("vault", "x'00'"),
        ("protection", "'passphrase'"),
        ("protection", "'none'"),
        ("salt", "randomblob(16)"),
        ("memory_kib", "1"),
        ("key_check", "randomblob(32)"),
        ("nonce", "randomblob(24)"),
        ("wrapped_key", "randomblob(48)"),
        ("wrapped_key", "zeroblob(100000)"),
        ("checksum", "randomblob(32)"),
    ] {
        let (_temp, dir) = new_vault();
        edit(&dir, &format!("UPDATE vault SET {column} = {value}"));
        assert_open_fails(&dir, Protection::KeyFile, is_damaged, "is damaged");
    }
    let (_temp, dir) = new_vault();
    edit(&dir, "DELETE FROM vault");
    assert_open_fails(&dir, Protection::KeyFile, is_damaged, "it has no header");
}

#[test]
fn excessive_kdf_parameters_are_rejected() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vault");
    drop(LocalVault::create(&dir, Protection::Passphrase(passphrase(PASSPHRASE))).unwrap());
    for (column, value) in [
        ("memory_kib", 100_i64 << 20),
        ("memory_kib", i64::from(u32::MAX) + 1),
        ("memory_kib", -1),
        ("memory_kib", 8),
        ("passes", i64::from(u32::MAX)),
        ("passes", 0),
        ("lanes", 1 << 20),
        ("lanes", 0),
    ] {
        let good = fs::read(dir.join("vault.sqlite3")).unwrap();
        edit(&dir, &format!("UPDATE vault SET {column} = {value}"));
        assert_open_fails(&dir, Protection::Passphrase(passphrase(PASSPHRASE)), is_damaged, "is damaged");
        fs::write(dir.join("vault.sqlite3"), good).unwrap();
    }
    // Within bounds, but changed: the checksum detects it.
    edit(&dir, "UPDATE vault SET passes = passes + 1");
    assert_open_fails(&dir, Protection::Passphrase(passphrase(PASSPHRASE)), is_damaged, "checksum");
}

#[tokio::test]
async fn every_edit_of_a_row_is_detected() {
    let other = "(SELECT %s FROM versions WHERE name = 'b')";
    for (column, value) in [
        ("serial", "1000"),
        ("name", "'c'"),
        ("version", "'0123456789abcdef0123456789abcdef'"),
        ("version", "'not a version'"),
        ("content_type", "NULL"),
        ("content_type", "''"),
        ("not_before", "NULL"),
        ("not_before", "not_before - 1"),
        ("expires", "NULL"),
        ("expires", "expires + 1"),
        ("expires", "9223372036854775807"),
        ("created", "created - 1"),
        ("updated", "updated + 1"),
        ("nonce", "randomblob(24)"),
        ("nonce", "x'00'"),
        ("sealed", "x''"),
        ("sealed", "zeroblob(1000000)"),
        ("sealed", "substr(sealed, 1, length(sealed) - 1)"),
        ("sealed", "randomblob(length(sealed))"),
        ("sealed", &other.replace("%s", "sealed")),
        ("nonce, sealed", "(SELECT nonce, sealed FROM versions WHERE name = 'b')"),
    ] {
        let (_temp, dir) = new_vault();
        let vault = open_vault(&dir);
        let time = |second| Some(jiff::Timestamp::from_second(second).unwrap());
        let attributes =
            Attributes { content_type: Some("text/plain".into()), not_before: time(1), expires: time(4_000_000_000) };
        let value_of = |text: &str| Arc::new(Secret::new(text.to_owned()).unwrap());
        vault.insert(vec![(name("a"), value_of("value-of-a"), attributes)]).await.unwrap();
        set(&vault, "b", "value-of-b").await;
        drop(vault);
        let columns = if column.contains(',') { format!("({column})") } else { column.to_owned() };
        edit(&dir, &format!("UPDATE versions SET {columns} = {value} WHERE name = 'a'"));
        let before = file_contents(&dir);

        let vault = open_vault(&dir);
        let asked = if column == "name" { "c" } else { "a" };
        let error = vault.read_version(name(asked), None).await.unwrap_err();
        assert!(is_damaged(&error), "{column} = {value}: {error:?}");
        assert!(!error.to_string().contains("value-of"), "{error}");
        let grant = crate::cases::grant(strongroom_policy::Operation::Describe, asked);
        assert!(is_damaged(&vault.describe(&grant).await.unwrap_err()), "{column} = {value}");
        assert!(is_damaged(&Operator::list(&vault).await.unwrap_err()), "{column} = {value}");
        assert_eq!(super::value(&vault, "b").await.unwrap(), "value-of-b", "other secrets are still served");
        drop(vault);
        assert!(before == file_contents(&dir), "{column} = {value}: a file changed");
    }
}

#[tokio::test]
async fn versions_of_one_secret_cannot_be_swapped() {
    let (_temp, dir) = new_vault();
    let vault = open_vault(&dir);
    set(&vault, "a", "old").await;
    set(&vault, "a", "new").await;
    drop(vault);
    edit(&dir, "UPDATE versions SET serial = 3 WHERE serial = 1");
    let error = open_vault(&dir).read_version(name("a"), None).await.unwrap_err();
    assert!(is_damaged(&error) && error.to_string().contains("the secret `a`"), "{error:?}");
    // Setting it again is the remedy that the error states.
    let vault = open_vault(&dir);
    set(&vault, "a", "newer").await;
    assert_eq!(value(&vault, "a").await.unwrap(), "newer");
}

#[tokio::test]
async fn row_of_another_vault_does_not_decrypt() {
    let (_temp, dir) = new_vault();
    let (_other_temp, other) = new_vault();
    for dir in [&dir, &other] {
        set(&open_vault(dir), "a", "x").await;
    }
    let connection = Connection::open(dir.join("vault.sqlite3")).unwrap();
    connection.execute("ATTACH ?1 AS other", [other.join("vault.sqlite3").to_str().unwrap()]).unwrap();
    connection
        .execute_batch("DELETE FROM main.versions; INSERT INTO main.versions SELECT * FROM other.versions")
        .unwrap();
    drop(connection);
    assert!(is_damaged(&open_vault(&dir).read_version(name("a"), None).await.unwrap_err()));
}

#[tokio::test]
async fn new_version_is_newest_after_tampering() {
    let (_temp, dir) = new_vault();
    set(&open_vault(&dir), "a", "one").await;
    set(&open_vault(&dir), "a", "two").await;
    edit(&dir, "UPDATE sqlite_sequence SET seq = 0");
    let vault = open_vault(&dir);
    set(&vault, "a", "three").await;
    assert_eq!(value(&vault, "a").await.unwrap(), "three");
    drop(vault);
    edit(&dir, "UPDATE sqlite_sequence SET seq = 9223372036854775807");
    let vault = open_vault(&dir);
    let value_of = Arc::new(Secret::new("x".into()).unwrap());
    let error = vault.insert(vec![(name("a"), value_of, Attributes::default())]).await.unwrap_err();
    assert!(is_damaged(&error), "{error:?}");
    assert_eq!(value(&vault, "a").await.unwrap(), "three");
}

#[tokio::test]
async fn triggers_in_the_file_do_not_run() {
    let (_temp, dir) = new_vault();
    set(&open_vault(&dir), "a", "one").await;
    let connection = Connection::open(dir.join("vault.sqlite3")).unwrap();
    connection.execute_batch("CREATE TRIGGER t AFTER INSERT ON versions BEGIN DELETE FROM versions; END").unwrap();
    drop(connection);
    let vault = open_vault(&dir);
    set(&vault, "a", "two").await;
    assert_eq!(vault.versions(&name("a")).await.unwrap().len(), 2);
}
