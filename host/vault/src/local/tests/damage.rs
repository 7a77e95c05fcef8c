//! Wrong keys, and databases that are not as they were written.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rusqlite::Connection;

use super::*;

/// Changes the database behind the vault's back.
fn edit(dir: &Path, sql: &str) {
    let connection = Connection::open(dir.join("vault.sqlite3")).unwrap();
    let changed = connection.execute(sql, []).unwrap();
    assert!(changed > 0, "{sql}");
}

#[test]
fn a_wrong_key_file_is_refused() {
    let (_temp, dir) = made();
    let (_other_temp, other) = made();
    let key = dir.join("vault.key");
    let good = fs::read_to_string(&key).unwrap();
    let put = |text: &str| fs::write(&key, text).unwrap();

    fs::copy(other.join("vault.key"), &key).unwrap();
    refuses(&dir, Unlock::KeyFile, is_refused, "belongs to another vault");

    let last = good.len() - 2;
    let digit = if good.as_bytes()[last] == b'0' { "1" } else { "0" };
    put(&format!("{}{digit}\n", &good[..last]));
    refuses(&dir, Unlock::KeyFile, is_refused, "its key was changed");

    for bad in
        ["", "\n", "x", &good[..40], &good[1..], &good.replace(' ', "\t"), &format!("{good}{good}"), &"é".repeat(100)]
    {
        put(bad);
        refuses(&dir, Unlock::KeyFile, is_refused, "is no key file of strongroom");
    }
    fs::write(&key, vec![0xff; 1 << 20]).unwrap();
    refuses(&dir, Unlock::KeyFile, is_refused, "is no key file of strongroom");

    put(&good);
    for open in [0o604, 0o640, 0o620, 0o777] {
        fs::set_permissions(&key, fs::Permissions::from_mode(open)).unwrap();
        refuses(&dir, Unlock::KeyFile, is_refused, "is open to others");
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
    drop(opened(&dir));

    fs::rename(&key, dir.join("elsewhere")).unwrap();
    refuses(&dir, Unlock::KeyFile, is_refused, "is missing");
    symlink(dir.join("elsewhere"), &key).unwrap();
    refuses(&dir, Unlock::KeyFile, is_refused, "is no regular file");
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    refuses(&dir, Unlock::KeyFile, is_refused, "is no regular file");
    fs::remove_dir(&key).unwrap();

    // As an editor leaves it.
    put(good.trim_end());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    drop(opened(&dir));
    refuses(&dir, Unlock::Passphrase(passphrase("x")), is_refused, "is opened by its key file");
}

#[test]
fn a_file_that_is_no_vault_is_damaged() {
    let (_temp, dir) = made();
    let database = dir.join("vault.sqlite3");
    let good = fs::read(&database).unwrap();
    for bad in [Vec::new(), b"hello".to_vec(), vec![0; 8192], good.iter().map(|byte| !byte).collect()] {
        fs::write(&database, bad).unwrap();
        refuses(&dir, Unlock::KeyFile, is_damaged, "vault.sqlite3");
        assert!(is_damaged(&LocalVault::needs_passphrase(&dir).unwrap_err()));
    }
    fs::remove_file(&database).unwrap();
    Connection::open(&database).unwrap().execute_batch("CREATE TABLE vault (id INTEGER)").unwrap();
    refuses(&dir, Unlock::KeyFile, is_damaged, "is no vault of strongroom");
    fs::remove_file(&database).unwrap();
    fs::create_dir(&database).unwrap();
    refuses(&dir, Unlock::KeyFile, is_damaged, "is no regular file");
    fs::remove_dir(&database).unwrap();
    fs::write(&database, good).unwrap();
    drop(opened(&dir));
}

#[tokio::test]
async fn a_truncated_database_is_damaged() {
    let (_temp, dir) = made();
    let vault = opened(&dir);
    for round in 0..10 {
        set(&vault, &format!("a{round}"), &"x".repeat(5_000)).await;
    }
    drop(vault);
    let database = dir.join("vault.sqlite3");
    let good = fs::read(&database).unwrap();
    for keep in [1, 99, 100, 512, 4095, 4096, 4097, 8192, good.len() / 2, good.len() - 4096, good.len() - 1] {
        fs::write(&database, &good[..keep]).unwrap();
        refuses(&dir, Unlock::KeyFile, is_damaged, "vault.sqlite3");
    }
}

#[test]
fn a_damaged_header_is_damaged() {
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
        let (_temp, dir) = made();
        edit(&dir, &format!("UPDATE vault SET {column} = {value}"));
        refuses(&dir, Unlock::KeyFile, is_damaged, "is damaged");
    }
    let (_temp, dir) = made();
    edit(&dir, "DELETE FROM vault");
    refuses(&dir, Unlock::KeyFile, is_damaged, "it has no header");
}

#[test]
fn a_database_that_asks_for_too_much_is_refused_before_it_gets_it() {
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
        refuses(&dir, Unlock::Passphrase(passphrase(PASSPHRASE)), is_damaged, "is damaged");
        fs::write(dir.join("vault.sqlite3"), good).unwrap();
    }
    // Within bounds and not what was written: the checksum knows it for an accident.
    edit(&dir, "UPDATE vault SET passes = passes + 1");
    refuses(&dir, Unlock::Passphrase(passphrase(PASSPHRASE)), is_damaged, "checksum");
}

#[tokio::test]
async fn every_edit_of_a_row_is_noticed() {
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
        let (_temp, dir) = made();
        let vault = opened(&dir);
        let time = |second| Some(jiff::Timestamp::from_second(second).unwrap());
        let attributes =
            Attributes { content_type: Some("text/plain".into()), not_before: time(1), expires: time(4_000_000_000) };
        let value_of = |text: &str| Arc::new(Secret::new(text.to_owned()).unwrap());
        vault.insert(vec![(name("a"), value_of("value-of-a"), attributes)]).await.unwrap();
        set(&vault, "b", "value-of-b").await;
        drop(vault);
        let columns = if column.contains(',') { format!("({column})") } else { column.to_owned() };
        edit(&dir, &format!("UPDATE versions SET {columns} = {value} WHERE name = 'a'"));
        let before = contents(&dir);

        let vault = opened(&dir);
        let asked = if column == "name" { "c" } else { "a" };
        let error = vault.find(name(asked), None).await.unwrap_err();
        assert!(is_damaged(&error), "{column} = {value}: {error:?}");
        assert!(!error.to_string().contains("value-of"), "{error}");
        let grant = crate::cases::grant(strongroom_policy::Operation::Describe, asked);
        assert!(is_damaged(&vault.describe(&grant).await.unwrap_err()), "{column} = {value}");
        assert!(is_damaged(&Operator::list(&vault).await.unwrap_err()), "{column} = {value}");
        assert_eq!(super::value(&vault, "b").await.unwrap(), "value-of-b", "the others are served");
        drop(vault);
        assert!(before == contents(&dir), "{column} = {value}: something was changed on the disk");
    }
}

#[tokio::test]
async fn versions_of_one_secret_cannot_be_swapped() {
    let (_temp, dir) = made();
    let vault = opened(&dir);
    set(&vault, "a", "old").await;
    set(&vault, "a", "new").await;
    drop(vault);
    edit(&dir, "UPDATE versions SET serial = 3 WHERE serial = 1");
    let error = opened(&dir).find(name("a"), None).await.unwrap_err();
    assert!(is_damaged(&error) && error.to_string().contains("the secret `a`"), "{error:?}");
    // Setting it anew is the way out that the error names.
    let vault = opened(&dir);
    set(&vault, "a", "newer").await;
    assert_eq!(value(&vault, "a").await.unwrap(), "newer");
}

#[tokio::test]
async fn a_row_of_another_vault_does_not_open() {
    let (_temp, dir) = made();
    let (_other_temp, other) = made();
    for dir in [&dir, &other] {
        set(&opened(dir), "a", "x").await;
    }
    let connection = Connection::open(dir.join("vault.sqlite3")).unwrap();
    connection.execute("ATTACH ?1 AS other", [other.join("vault.sqlite3").to_str().unwrap()]).unwrap();
    connection
        .execute_batch("DELETE FROM main.versions; INSERT INTO main.versions SELECT * FROM other.versions")
        .unwrap();
    drop(connection);
    assert!(is_damaged(&opened(&dir).find(name("a"), None).await.unwrap_err()));
}

#[tokio::test]
async fn a_new_version_is_the_newest_whatever_the_file_says() {
    let (_temp, dir) = made();
    set(&opened(&dir), "a", "one").await;
    set(&opened(&dir), "a", "two").await;
    edit(&dir, "UPDATE sqlite_sequence SET seq = 0");
    let vault = opened(&dir);
    set(&vault, "a", "three").await;
    assert_eq!(value(&vault, "a").await.unwrap(), "three");
    drop(vault);
    edit(&dir, "UPDATE sqlite_sequence SET seq = 9223372036854775807");
    let vault = opened(&dir);
    let value_of = Arc::new(Secret::new("x".into()).unwrap());
    let error = vault.insert(vec![(name("a"), value_of, Attributes::default())]).await.unwrap_err();
    assert!(is_damaged(&error), "{error:?}");
    assert_eq!(value(&vault, "a").await.unwrap(), "three");
}

#[tokio::test]
async fn triggers_in_the_file_do_nothing() {
    let (_temp, dir) = made();
    set(&opened(&dir), "a", "one").await;
    let connection = Connection::open(dir.join("vault.sqlite3")).unwrap();
    connection.execute_batch("CREATE TRIGGER t AFTER INSERT ON versions BEGIN DELETE FROM versions; END").unwrap();
    drop(connection);
    let vault = opened(&dir);
    set(&vault, "a", "two").await;
    assert_eq!(vault.versions(&name("a")).await.unwrap().len(), 2);
}
