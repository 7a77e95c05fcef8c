//! Stale values while the vault cannot be reached.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn down() -> VaultError {
    VaultError::Unavailable("down".into())
}

fn cache(vault: &Arc<FakeVault>, grace: Duration) -> Cache {
    Cache::new(Arc::clone(vault) as _, Settings { grace, ..settings(100) })
}

async fn get(cache: &Cache) -> Result<(String, bool), VaultError> {
    let stored = Vault::get(cache, &grant("a")).await?;
    Ok((stored.value.expose().to_owned(), stored.stale))
}

async fn get_many(cache: &Cache) -> Result<Vec<Option<bool>>, VaultError> {
    let answers = cache.get_many(&[grant("a"), grant("b")]).await?;
    Ok(answers.into_iter().map(|stored| stored.ok().map(|stored| stored.stale)).collect())
}

// promise: A stale value is served only while the vault cannot be reached and the grace period
// lasts, and the audit log marks it.
#[tokio::test]
async fn stale_value_is_served_only_in_grace_period() {
    pause();
    let vault = Arc::new(FakeVault::default());
    vault.put("a", "old");
    let cache = cache(&vault, HOUR);
    assert_eq!(get(&cache).await.unwrap(), ("old".into(), false));
    vault.fail(Some(down()));
    advance(Duration::from_secs(99)).await;
    assert_eq!(get(&cache).await.unwrap(), ("old".into(), false), "not stale yet");
    advance(Duration::from_secs(2)).await;
    assert_eq!(get(&cache).await.unwrap(), ("old".into(), true));
    assert_eq!(vault.gets(), 2, "the vault was asked first");
    assert!(cache.cached(&grant("a")).is_none(), "a stale value is never served without asking the vault");
    // The vault is reachable again and has a new value.
    vault.fail(None);
    vault.put("a", "new");
    assert_eq!(get(&cache).await.unwrap(), ("new".into(), false));
    vault.fail(Some(down()));
    advance(Duration::from_secs(100) + HOUR).await;
    assert!(matches!(get(&cache).await, Err(VaultError::Unavailable(_))), "the grace period is over");
}

// promise: A stale value is served only while the vault cannot be reached and the grace period
// lasts, and the audit log marks it.
#[tokio::test]
async fn without_grace_period_no_stale_value_is_served() {
    pause();
    let vault = Arc::new(FakeVault::default());
    vault.put("a", "old");
    let cache = cache(&vault, Duration::ZERO);
    get(&cache).await.unwrap();
    vault.fail(Some(down()));
    advance(Duration::from_secs(101)).await;
    assert!(matches!(get(&cache).await, Err(VaultError::Unavailable(_))));
}

// promise: A stale value is served only while the vault cannot be reached and the grace period
// lasts, and the audit log marks it.
#[tokio::test]
async fn refusal_or_missing_secret_is_not_bridged() {
    for failure in [
        VaultError::Refused("revoked".into()),
        VaultError::NotFound(grant("a").stored().clone()),
        VaultError::Disabled(grant("a").stored().clone()),
        VaultError::Damaged("x".into()),
    ] {
        pause();
        let vault = Arc::new(FakeVault::default());
        vault.put("a", "old");
        let cache = cache(&vault, HOUR);
        get(&cache).await.unwrap();
        advance(Duration::from_secs(101)).await;
        vault.fail(Some(failure.clone()));
        assert_eq!(get(&cache).await.unwrap_err().kind(), failure.kind());
        vault.fail(Some(down()));
        advance(NEGATIVE_MAX).await;
        let gone = matches!(failure, VaultError::NotFound(_) | VaultError::Disabled(_));
        assert_eq!(get(&cache).await.is_err(), gone, "a secret that the vault reported as gone stays gone: {failure}");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn stale_batch_is_served_only_if_complete() {
    pause();
    let vault = Arc::new(FakeVault::default());
    vault.put("a", "a");
    let cache = cache(&vault, HOUR);
    get(&cache).await.unwrap();
    advance(Duration::from_secs(101)).await;
    vault.fail(Some(down()));
    assert!(matches!(get_many(&cache).await, Err(VaultError::Unavailable(text)) if text == "down"));
    vault.fail(None);
    vault.put("b", "b");
    assert_eq!(get_many(&cache).await.unwrap(), [Some(false), Some(false)]);
    advance(Duration::from_secs(101)).await;
    vault.fail(Some(down()));
    assert_eq!(get_many(&cache).await.unwrap(), [Some(true), Some(true)]);
}

#[tokio::test]
async fn own_write_removes_stale_value() {
    pause();
    let vault = Arc::new(FakeVault::default());
    vault.put("a", "old");
    let cache = cache(&vault, HOUR);
    get(&cache).await.unwrap();
    cache.set_many(&[(grant("a"), secret("new"))]).await.unwrap();
    vault.fail(Some(down()));
    assert!(matches!(get(&cache).await, Err(VaultError::Unavailable(_))));
}
