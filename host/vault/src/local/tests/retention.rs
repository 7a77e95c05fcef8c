//! Tests of how many versions are kept.

use std::num::NonZeroU32;

use super::*;

async fn version_values(vault: &LocalVault, text: &str) -> Vec<String> {
    let mut values = Vec::new();
    for version in vault.versions(&name(text)).await.unwrap() {
        let stored = vault.read_version(name(text), Some(version.version)).await.unwrap();
        values.push(stored.value.expose().to_owned());
    }
    values
}

// promise: The local vault keeps a bounded number of versions of a secret, so that repeated writes
// do not make it grow.
#[tokio::test]
async fn write_deletes_versions_beyond_the_kept_number() {
    let (_temp, dir) = new_vault();
    let vault = open_vault(&dir).keeping(3);
    for n in 0..10 {
        set(&vault, "a", &format!("value {n}")).await;
        set(&vault, &format!("other-{n}"), "x").await;
    }
    assert_eq!(version_values(&vault, "a").await, ["value 9", "value 8", "value 7"]);
    assert!(vault.verify().await.unwrap().is_whole());
    let contents = LocalVault::status(&dir).unwrap().contents;
    assert_eq!(contents, Contents { secrets: 11, versions: 13 });

    let vault = open_vault(&dir).keeping(0);
    for n in 10..15 {
        set(&vault, "a", &format!("value {n}")).await;
    }
    assert_eq!(version_values(&vault, "a").await.len(), 8, "zero keeps all");
}

// attack: vault: write large values in turn to fill the disk -> old versions are deleted, and their
// space is reused
#[tokio::test]
async fn alternating_writes_do_not_grow_the_vault() {
    let (_temp, dir) = new_vault();
    let vault = open_vault(&dir).keeping(2);
    let values = ["a", "b"].map(|letter| letter.repeat(24 << 10));
    for value in values.iter().cycle().take(200) {
        set(&vault, "a", value).await;
    }
    let status = LocalVault::status(&dir).unwrap();
    assert_eq!(status.contents.versions, 2);
    assert!(status.size < 1 << 20, "{} bytes after 5 MB of writes", status.size);
}

#[tokio::test]
async fn prune_keeps_the_newest_versions() {
    let (_temp, dir) = new_vault();
    let vault = open_vault(&dir);
    for n in 0..5 {
        set(&vault, "a", &format!("a {n} {}", "x".repeat(20 << 10))).await;
        set(&vault, "b", &format!("b {n}")).await;
    }
    set(&vault, "c", "only").await;
    let keep = NonZeroU32::new(2).unwrap();
    let expected = Pruned { secrets: 2, versions: 6 };
    let before = LocalVault::status(&dir).unwrap();
    assert_eq!(vault.prune(keep, true).await.unwrap(), expected);
    assert_eq!(LocalVault::status(&dir).unwrap().contents, before.contents, "a dry run deletes nothing");
    assert_eq!(vault.prune(keep, false).await.unwrap(), expected);
    assert_eq!(version_values(&vault, "b").await, ["b 4", "b 3"]);
    assert_eq!(version_values(&vault, "c").await, ["only"]);
    let after = LocalVault::status(&dir).unwrap();
    assert_eq!(after.contents, Contents { secrets: 3, versions: 5 });
    assert!(after.size < before.size, "{} {}", before.size, after.size);
    assert_eq!(vault.prune(keep, false).await.unwrap(), Pruned::default());
    drop(vault);
    let vault = open_vault(&dir);
    assert!(vault.verify().await.unwrap().is_whole());
    // Later versions come after all existing ones.
    set(&vault, "b", "b 5").await;
    assert_eq!(value(&vault, "b").await.unwrap(), "b 5");
}
