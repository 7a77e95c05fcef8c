//! Fetches that are shared, aborted, or overtaken by writes.

use super::*;

// promise: Simultaneous reads of one secret are a single request to the vault.
#[tokio::test]
async fn hundred_readers_share_one_fetch() {
    let (vault, cache) = with(settings(60));
    vault.put("a", "one");
    let gate = vault.close_gate();
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { value(&cache, "a").await })
        })
        .collect();
    settle().await;
    gate.add_permits(1);
    for reader in readers {
        assert_eq!(reader.await.unwrap(), "one");
    }
    assert_eq!(vault.gets(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hundred_readers_on_threads_share_one_fetch() {
    let (vault, cache) = with(settings(60));
    vault.put("a", "one");
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { value(&cache, "a").await })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), "one");
    }
    assert_eq!(vault.gets(), 1);
}

#[tokio::test]
async fn dropped_first_reader_does_not_delay_others() {
    let (vault, cache) = with(settings(60));
    vault.put("a", "one");
    let gate = vault.close_gate();
    let leader_grants = grant("a");
    let mut leader = cache.get(&leader_grants);
    assert!(futures_util::poll!(&mut leader).is_pending());
    let follower = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { value(&cache, "a").await }
    });
    settle().await;
    assert_eq!(vault.gets(), 1);
    drop(leader);
    gate.add_permits(1);
    assert_eq!(follower.await.unwrap(), "one");
    assert_eq!(vault.gets(), 1, "the first reader's fetch continued");
}

#[tokio::test]
async fn dropped_batch_does_not_delay_others() {
    let (vault, cache) = with(settings(60));
    vault.put("a", "one");
    let gate = vault.close_gate();
    let leader_grants = [grant("a"), grant("b")];
    let mut leader = cache.get_many(&leader_grants);
    assert!(futures_util::poll!(&mut leader).is_pending());
    let follower = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { value(&cache, "a").await }
    });
    settle().await;
    drop(leader);
    gate.add_permits(1);
    assert_eq!(follower.await.unwrap(), "one");
    assert_eq!((vault.gets(), vault.batches()), (0, 1));
}

#[tokio::test]
async fn failure_reaches_waiters_and_is_not_cached() {
    let (vault, cache) = with(settings(60));
    vault.put("a", "one");
    vault.fail(Some(down()));
    let gate = vault.close_gate();
    let readers: Vec<_> = (0..10)
        .map(|_| {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { cache.get(&grant("a")).await })
        })
        .collect();
    settle().await;
    gate.add_permits(1);
    for reader in readers {
        let answer = reader.await.unwrap();
        assert!(matches!(&answer, Err(VaultError::Unavailable(text)) if text == "the vault is down"), "{answer:?}");
    }
    assert_eq!(vault.gets(), 1);
    assert!(cache.cached(&grant("a")).is_none());
    vault.fail(None);
    vault.open_gate();
    assert_eq!(value(&cache, "a").await, "one");
    assert_eq!(vault.gets(), 2);
}

#[tokio::test]
async fn panic_in_vault_is_unavailable() {
    let (vault, cache) = with(settings(60));
    vault.put("a", "one");
    *vault.panics.lock().unwrap() = true;
    assert!(matches!(cache.get(&grant("a")).await, Err(VaultError::Unavailable(_))));
    assert!(matches!(cache.get_many(&[grant("a")]).await, Err(VaultError::Unavailable(_))));
    assert!(matches!(set(&cache, "a", "two").await, Err(VaultError::Unavailable(_))));
    *vault.panics.lock().unwrap() = false;
    assert_eq!(value(&cache, "a").await, "two");
}

#[tokio::test]
async fn failed_batch_does_not_fail_others() {
    let (vault, cache) = with(settings(60));
    vault.put("a", "one");
    vault.fail(Some(VaultError::Damaged("another secret of the batch".into())));
    let gate = vault.close_gate();
    let batch_grants = [grant("a"), grant("b")];
    let mut batch = cache.get_many(&batch_grants);
    assert!(futures_util::poll!(&mut batch).is_pending());
    let follower = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { value(&cache, "a").await }
    });
    settle().await;
    assert_eq!(vault.gets(), 0, "the follower waits for the batch");
    gate.add_permits(1);
    assert!(matches!(batch.await, Err(VaultError::Damaged(_))));
    vault.fail(None);
    gate.add_permits(1);
    assert_eq!(follower.await.unwrap(), "one");
    assert_eq!(vault.gets(), 1);
}

#[tokio::test]
async fn own_writes_are_visible_at_once() {
    let (vault, cache) = with(settings(60));
    assert!(cache.get(&grant("a")).await.is_err());
    set(&cache, "a", "one").await.unwrap();
    assert_eq!(value(&cache, "a").await, "one");
    set(&cache, "a", "two").await.unwrap();
    assert_eq!(value(&cache, "a").await, "two");
    cache.delete_many(&[grant("a")]).await.unwrap();
    assert!(matches!(cache.get(&grant("a")).await, Err(VaultError::NotFound(_))));
    // A failed write may have taken effect.
    set(&cache, "b", "one").await.unwrap();
    assert_eq!(value(&cache, "b").await, "one");
    vault.fail(Some(down()));
    assert!(set(&cache, "b", "two").await.is_err());
    vault.fail(None);
    assert_eq!(value(&cache, "b").await, "two");
}

#[tokio::test]
async fn fetch_started_before_write_is_not_cached() {
    let (vault, cache) = with(settings(60));
    vault.put("a", "old");
    for batch in [false, true] {
        let gate = vault.close_gate();
        let mut reader: std::pin::Pin<Box<dyn Future<Output = String> + Send + '_>> = if batch {
            Box::pin(async {
                cache.get_many(&[grant("a")]).await.unwrap()[0].as_ref().unwrap().value.expose().to_owned()
            })
        } else {
            Box::pin(value(&cache, "a"))
        };
        assert!(futures_util::poll!(&mut reader).is_pending());
        settle().await;
        // The vault has read the old value and not returned it yet. Write now.
        vault.open_gate();
        set(&cache, "a", "new").await.unwrap();
        gate.add_permits(1);
        assert_eq!(reader.await, "old", "the read started before the write");
        assert!(cache.cached(&grant("a")).is_none(), "the old value is not cached");
        assert_eq!(value(&cache, "a").await, "new");
        set(&cache, "a", "old").await.unwrap();
    }
}

#[tokio::test]
async fn reader_after_write_does_not_join_older_fetch() {
    let (vault, cache) = with(settings(60));
    vault.put("a", "old");
    let gate = vault.close_gate();
    let before_grant = grant("a");
    let mut before = cache.get(&before_grant);
    assert!(futures_util::poll!(&mut before).is_pending());
    settle().await;
    vault.open_gate();
    set(&cache, "a", "new").await.unwrap();
    assert_eq!(value(&cache, "a").await, "new");
    gate.add_permits(1);
    assert_eq!(before.await.unwrap().value.expose(), "old");
    assert_eq!(cache.cached(&grant("a")).unwrap().unwrap().value.expose(), "new");
}

#[tokio::test]
async fn dropped_write_still_invalidates() {
    let (vault, cache) = with(settings(60));
    vault.put("a", "old");
    assert_eq!(value(&cache, "a").await, "old");
    let gate = vault.close_gate();
    let write_grants = [(grant("a"), secret("new"))];
    let mut write = cache.set_many(&write_grants);
    assert!(futures_util::poll!(&mut write).is_pending());
    drop(write);
    settle().await;
    gate.add_permits(1);
    vault.open_gate();
    settle().await;
    assert_eq!(value(&cache, "a").await, "new");
}

#[tokio::test]
async fn batch_fetches_only_uncached_names() {
    let (vault, cache) = with(settings(60));
    for name in ["a", "b", "c"] {
        vault.put(name, name);
    }
    value(&cache, "b").await;
    let texts = |answers: Vec<Result<Stored, Missing>>| -> Vec<_> {
        answers.iter().map(|answer| answer.as_ref().ok().map(|stored| stored.value.expose().to_owned())).collect()
    };
    let some = |text: &str| Some(text.to_owned());
    let batch = ["c", "b", "none", "a", "c"].map(grant);
    let expected = [some("c"), some("b"), None, some("a"), some("c")];
    assert_eq!(texts(cache.get_many(&batch).await.unwrap()), expected);
    assert_eq!((vault.gets(), vault.batches()), (1, 1));
    // The second time everything is cached, including the missing name.
    assert_eq!(texts(cache.get_many(&batch).await.unwrap()), expected);
    assert_eq!((vault.gets(), vault.batches()), (1, 1));
    assert_eq!(value(&cache, "a").await, "a");
    assert_eq!(vault.gets(), 1);

    // A batch joins a fetch in flight.
    vault.put("d", "d");
    let gate = vault.close_gate();
    let single_grants = grant("d");
    let mut single = cache.get(&single_grants);
    assert!(futures_util::poll!(&mut single).is_pending());
    let batch_grants = [grant("a"), grant("d")];
    let mut batch = cache.get_many(&batch_grants);
    assert!(futures_util::poll!(&mut batch).is_pending());
    settle().await;
    gate.add_permits(1);
    assert_eq!(texts(batch.await.unwrap()), [some("a"), some("d")]);
    assert_eq!(single.await.unwrap().value.expose(), "d");
    assert_eq!((vault.gets(), vault.batches()), (2, 1));
}
