//! Tests of the cache, with a fake vault that counts requests.

mod fetches;
mod grace;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::{advance, pause};

use super::*;
use crate::{Attributes, NewSecret, Operator, cases};
use strongroom_core::ids::SecretVersion;
use strongroom_policy::Operation;

/// A vault in memory that counts requests, and blocks or fails on request.
#[derive(Default)]
struct FakeVault {
    secrets: Mutex<BTreeMap<SecretName, Vec<Stored>>>,
    gets: AtomicUsize,
    batches: AtomicUsize,
    /// If set, a read finds its answer, then waits for a permit before it returns.
    gate: Mutex<Option<Arc<Semaphore>>>,
    /// If set, reads and writes fail with this error.
    failure: Mutex<Option<VaultError>>,
    panics: Mutex<bool>,
}

impl FakeVault {
    fn put(&self, name: &str, value: &str) -> Weak<Secret> {
        let value = Arc::new(Secret::new(value.to_owned()).unwrap());
        let weak = Arc::downgrade(&value);
        self.store(&SecretName::parse(name).unwrap(), value);
        weak
    }

    fn store(&self, name: &SecretName, value: Arc<Secret>) -> Description {
        let mut secrets = self.secrets.lock().unwrap();
        let versions = secrets.entry(name.clone()).or_default();
        let description = Description {
            name: name.clone(),
            version: SecretVersion::parse(&format!("v{}", versions.len() + 1)).unwrap(),
            attributes: Attributes::default(),
            created: Timestamp::UNIX_EPOCH,
            updated: Timestamp::UNIX_EPOCH,
            enabled: true,
        };
        versions.push(Stored { value, description: description.clone(), stale: false });
        description
    }

    /// Drops the vault's references to all values.
    fn empty(&self) {
        self.secrets.lock().unwrap().clear();
    }

    fn close_gate(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.gate.lock().unwrap() = Some(Arc::clone(&gate));
        gate
    }

    fn open_gate(&self) {
        *self.gate.lock().unwrap() = None;
    }

    fn fail(&self, failure: Option<VaultError>) {
        *self.failure.lock().unwrap() = failure;
    }

    fn find(&self, grant: &Grant) -> Option<Stored> {
        let secrets = self.secrets.lock().unwrap();
        let versions = secrets.get(grant.stored())?;
        match grant.version() {
            Some(version) => versions.iter().find(|stored| stored.description.version == *version).cloned(),
            None => versions.last().cloned(),
        }
    }

    async fn wait(&self) -> Result<(), VaultError> {
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        assert!(!*self.panics.lock().unwrap(), "the vault panics on request");
        match self.failure.lock().unwrap().clone() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn gets(&self) -> usize {
        self.gets.load(Ordering::SeqCst)
    }

    fn batches(&self) -> usize {
        self.batches.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Vault for FakeVault {
    fn abilities(&self) -> Abilities {
        Abilities { transactions: true, versions: true, soft_delete: false }
    }

    async fn get(&self, grant: &Grant) -> Result<Stored, VaultError> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        let answer = self.find(grant);
        self.wait().await?;
        answer.ok_or_else(|| VaultError::NotFound(grant.stored().clone()))
    }

    async fn get_many(&self, grants: &[Grant]) -> Result<Vec<Result<Stored, Missing>>, VaultError> {
        self.batches.fetch_add(1, Ordering::SeqCst);
        let answer = grants.iter().map(|grant| self.find(grant).ok_or(Missing::NotFound)).collect();
        self.wait().await?;
        Ok(answer)
    }

    async fn describe(&self, grant: &Grant) -> Result<Description, VaultError> {
        Ok(self.get(grant).await?.description)
    }

    async fn set_many(&self, secrets: &[(Grant, Arc<Secret>)]) -> Result<Vec<Description>, VaultError> {
        let set = secrets.iter().map(|(grant, value)| self.store(grant.stored(), Arc::clone(value))).collect();
        self.wait().await?;
        Ok(set)
    }

    async fn delete_many(&self, grants: &[Grant]) -> Result<(), VaultError> {
        for grant in grants {
            self.secrets.lock().unwrap().remove(grant.stored());
        }
        self.wait().await
    }

    async fn list(&self, _grant: &ListGrant) -> Result<Vec<SecretName>, VaultError> {
        Ok(self.secrets.lock().unwrap().keys().cloned().collect())
    }
}

fn settings(seconds: u64) -> Settings {
    Settings { time_to_live: Duration::from_secs(seconds), jitter: false, ..Settings::default() }
}

fn with(settings: Settings) -> (Arc<FakeVault>, Arc<Cache>) {
    let vault = Arc::new(FakeVault::default());
    let cache = Arc::new(Cache::new(Arc::clone(&vault) as Arc<dyn Vault>, settings));
    (vault, cache)
}

fn grant(name: &str) -> Grant {
    crate::cases::grant(Operation::Get, name)
}

fn secret(value: &str) -> Arc<Secret> {
    Arc::new(Secret::new(value.to_owned()).unwrap())
}

async fn value(cache: &Cache, name: &str) -> String {
    cache.get(&grant(name)).await.unwrap().value.expose().to_owned()
}

async fn set(cache: &Cache, name: &str, value: &str) -> Result<Vec<Description>, VaultError> {
    cache.set_many(&[(grant(name), secret(value))]).await
}

/// Runs every task that is ready. On one thread the order is deterministic.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn down() -> VaultError {
    VaultError::Unavailable("the vault is down".into())
}

#[tokio::test]
async fn answer_is_cached_until_its_time_to_live() {
    pause();
    let (vault, cache) = with(settings(60));
    vault.put("a", "one");
    assert!(cache.cached(&grant("a")).is_none(), "nothing is cached yet");
    assert_eq!(vault.gets(), 0, "a cache lookup does not ask the vault");
    assert_eq!(value(&cache, "a").await, "one");
    vault.put("a", "two");
    advance(Duration::from_secs(59)).await;
    assert_eq!(value(&cache, "a").await, "one");
    assert_eq!(cache.cached(&grant("a")).unwrap().unwrap().value.expose(), "one");
    assert_eq!(vault.gets(), 1);
    advance(Duration::from_secs(1)).await;
    assert!(cache.cached(&grant("a")).is_none(), "expired exactly at its time to live");
    assert_eq!(value(&cache, "a").await, "two");
    assert_eq!(vault.gets(), 2);
}

#[tokio::test]
async fn age_counts_from_start_of_fetch() {
    pause();
    let (vault, cache) = with(settings(60));
    vault.put("a", "one");
    let gate = vault.close_gate();
    let reader = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { value(&cache, "a").await }
    });
    settle().await;
    advance(Duration::from_secs(50)).await;
    gate.add_permits(1);
    assert_eq!(reader.await.unwrap(), "one");
    assert!(cache.cached(&grant("a")).is_some());
    advance(Duration::from_secs(10)).await;
    assert!(cache.cached(&grant("a")).is_none());
}

#[tokio::test]
async fn jitter_is_at_most_a_tenth() {
    pause();
    let settings = Settings { jitter: true, ..settings(100) };
    let began = Instant::now();
    let answer = Ok(Stored {
        value: secret("x"),
        description: FakeVault::default().store(&grant("a").stored().clone(), secret("x")),
        stale: false,
    });
    let lives: Vec<_> = (0..500).map(|_| settings.expiry(began, &answer).unwrap() - began).collect();
    assert!(lives.iter().all(|life| (Duration::from_secs(90)..=Duration::from_secs(110)).contains(life)));
    assert!(lives.iter().any(|life| *life != lives[0]), "it varies");
}

#[tokio::test]
async fn zero_time_to_live_disables_cache() {
    pause();
    let (vault, cache) = with(settings(0));
    vault.put("a", "one");
    for round in 1..=3 {
        assert_eq!(value(&cache, "a").await, "one");
        assert_eq!(vault.gets(), round);
        assert!(cache.cached(&grant("a")).is_none());
    }
    assert_eq!(cache.get_many(&[grant("a"), grant("b")]).await.unwrap().len(), 2);
    assert_eq!(vault.batches(), 1);
}

#[tokio::test]
async fn versions_and_names_are_separate_entries() {
    let (vault, cache) = with(settings(60));
    vault.put("a", "one");
    vault.put("b", "of b");
    assert_eq!(value(&cache, "a").await, "one");
    assert_eq!(value(&cache, "b").await, "of b");
    let version = |text| SecretVersion::parse(text).unwrap();
    // Reading the newest version also caches it under its version.
    assert_eq!(cache.get(&grant("a").at_version(version("v1"))).await.unwrap().value.expose(), "one");
    assert_eq!(vault.gets(), 2);
    let missing = cache.get(&grant("a").at_version(version("v2"))).await;
    assert!(matches!(missing, Err(VaultError::NotFound(_))), "{missing:?}");
    vault.put("a", "two");
    assert_eq!(value(&cache, "a").await, "one");
}

#[tokio::test]
async fn missing_secret_is_cached_briefly() {
    pause();
    let (vault, cache) = with(settings(60));
    for failure in [None, Some(VaultError::Disabled(grant("a").stored().clone()))] {
        let before = vault.gets();
        vault.fail(failure);
        assert!(cache.get(&grant("a")).await.is_err());
        vault.fail(None);
        advance(Duration::from_millis(4_999)).await;
        assert!(cache.cached(&grant("a")).unwrap().is_err());
        assert!(cache.get(&grant("a")).await.is_err());
        assert_eq!(vault.gets(), before + 1);
        advance(Duration::from_millis(1)).await;
        assert!(cache.cached(&grant("a")).is_none());
    }
    vault.put("a", "one");
    assert_eq!(value(&cache, "a").await, "one");

    let (_, short) = with(settings(2));
    assert!(short.get(&grant("a")).await.is_err());
    advance(Duration::from_secs(2)).await;
    assert!(short.cached(&grant("a")).is_none(), "not cached longer than a value");
}

#[tokio::test]
async fn full_cache_evicts_least_recently_used() {
    // Each value takes two entries: the newest version and the named version.
    let (vault, cache) = with(Settings { max_entries: 6, ..settings(60) });
    let held: Vec<_> = ["a", "b", "c", "d", "e"].map(|name| vault.put(name, name)).into();
    for name in ["a", "b", "c", "a", "d", "e"] {
        value(&cache, name).await;
        assert!(cache.shared.lock().size().0 <= 6);
    }
    assert!(cache.cached(&grant("a")).is_some(), "used recently");
    assert!(cache.cached(&grant("b")).is_none());
    assert!(cache.cached(&grant("e")).is_some());
    vault.empty();
    assert!(held[0].upgrade().is_some());
    assert!(held[1].upgrade().is_none(), "evicted, and dropped by its last holder");
}

#[tokio::test]
async fn cache_size_is_bounded_in_bytes() {
    let (vault, cache) = with(Settings { max_bytes: 50_000, ..settings(60) });
    for round in 0..20 {
        let name = format!("a{round}");
        vault.put(&name, &"x".repeat(10_000));
        value(&cache, &name).await;
        let (entries, bytes) = cache.shared.lock().size();
        assert!(bytes <= 50_000 && entries > 0, "{entries} entries of {bytes} bytes");
        assert!(cache.cached(&grant(&name)).is_some());
    }
    let (_, tiny) = with(Settings { max_bytes: 100, ..settings(60) });
    set(&tiny, "a", "one").await.unwrap();
    assert_eq!(value(&tiny, "a").await, "one");
    assert_eq!(tiny.shared.lock().size(), (0, 0), "an answer that exceeds the limit is not cached");
}

#[tokio::test]
async fn removed_values_are_dropped_by_last_holder() {
    pause();
    let (vault, cache) = with(settings(60));
    let ends: [fn(&Cache); 2] = [Cache::clear, |_| ()];
    for end in ends {
        let weak = vault.put("a", "one");
        let held = cache.get(&grant("a")).await.unwrap();
        vault.empty();
        settle().await;
        assert_eq!(weak.strong_count(), 3, "held by the reader and two cache entries, not by the fetch");
        drop(held);
        end(&cache);
        // Expired: the next lookup of any name removes it.
        advance(Duration::from_secs(60)).await;
        let _ = cache.cached(&grant("another"));
        assert!(weak.upgrade().is_none());
        assert_eq!(cache.shared.lock().size(), (0, 0));
    }
}

#[tokio::test]
async fn vault_without_cache_has_no_cached_answer() {
    assert!(FakeVault::default().cached(&grant("a")).is_none());
}

// promise: All vault backends pass the same cases.
#[tokio::test]
async fn cached_local_vault_passes_all_cases() {
    use crate::local::{LocalVault, Protection};
    let dir = tempfile::tempdir().unwrap();
    let local = LocalVault::create(&dir.path().join("vault"), Protection::KeyFile).unwrap();
    let cache = Arc::new(Cache::new(Arc::new(local.clone()), Settings::default()));
    let operator = Arc::new(OperatorAndCache { local, cache: Arc::clone(&cache) });
    let ran = cases::run_all(cache, operator, "cached").await;
    assert_eq!(ran.len(), cases::count());
}

/// Forwards to the local vault and clears the cache after writes, because the cases write on one
/// path and read on the other, and operator writes bypass the cache.
struct OperatorAndCache {
    local: crate::local::LocalVault,
    cache: Arc<Cache>,
}

#[async_trait]
impl Operator for OperatorAndCache {
    async fn get(&self, name: &SecretName, version: Option<&SecretVersion>) -> Result<Stored, VaultError> {
        Operator::get(&self.local, name, version).await
    }

    async fn set_many(&self, secrets: Vec<NewSecret>) -> Result<Vec<Description>, VaultError> {
        let answer = Operator::set_many(&self.local, secrets).await;
        self.cache.clear();
        answer
    }

    async fn list(&self) -> Result<Vec<Description>, VaultError> {
        Operator::list(&self.local).await
    }

    async fn versions(&self, name: &SecretName) -> Result<Vec<Description>, VaultError> {
        self.local.versions(name).await
    }

    async fn delete(&self, name: &SecretName) -> Result<(), VaultError> {
        let answer = self.local.delete(name).await;
        self.cache.clear();
        answer
    }
}
