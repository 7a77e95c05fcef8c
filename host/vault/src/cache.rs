//! A cache that wraps any vault on the guest-facing path.
//!
//! The cache avoids repeated reads within a time to live that the operator accepts:
//!
//! - **Fetches are single-flight.** There is at most one fetch of a secret at a time, in its own
//!   task. Callers only wait for that task, so a run that is aborted while it waits neither fails
//!   nor delays the others.
//! - **A run sees this process's writes at once.** When a write ends, whether or not it succeeded,
//!   the cache invalidates the entries of its names and detaches their fetches in flight: those
//!   still serve the callers that wait for them, but their result is not cached. Invalidating the
//!   entry, rather than caching the written value, makes the order of two writes to one name
//!   irrelevant.
//! - **Failures are not cached.** Values are, and for a short time also that a secret is missing or
//!   disabled. A failure reaches only the callers that wait for that fetch.
//! - **Stale values bridge an outage.** While the vault cannot be reached, a value stays in use for
//!   a configurable grace period after its time to live, and is marked as stale. If the vault
//!   refuses access, or says that the secret is gone or disabled, no stale value is served.
//!
//! Writes by other processes and by operators become visible when the time to live ends. A vault
//! must bound the time of its operations: callers of a fetch that never ends wait for it.

mod entries;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Abilities, Description, Missing, Stored, Vault, VaultError};
use entries::{Answer, Entries, Key};
use strongroom_core::ids::SecretName;
use strongroom_core::secret::Secret;
use strongroom_policy::{Grant, ListGrant};

/// How long a missing or disabled secret is cached at most.
pub const NEGATIVE_MAX: Duration = Duration::from_secs(5);

/// Settings of a cache.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an answer is served, counted from the start of its fetch. Zero turns caching off.
    pub time_to_live: Duration,
    /// Grace period: how long a stale value may be served while the vault cannot be reached. Zero
    /// turns this off.
    pub grace: Duration,
    /// Whether to vary the time to live by up to a tenth in either direction, so that answers
    /// fetched together do not expire together.
    pub jitter: bool,
    /// Maximum number of cached answers. The least recently used one is evicted first.
    pub max_entries: usize,
    /// Maximum size of the cached values and names in bytes.
    pub max_bytes: usize,
}

impl Default for Settings {
    /// Returns five minutes with jitter and without a grace period, 1,024 answers, 16 MiB.
    fn default() -> Self {
        Self {
            time_to_live: Duration::from_secs(300),
            grace: Duration::ZERO,
            jitter: true,
            max_entries: 1024,
            max_bytes: 16 * 1024 * 1024,
        }
    }
}

/// A cache that wraps a vault.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use strongroom_vault::Vault;
/// use strongroom_vault::cache::{Cache, Settings};
///
/// fn cached(vault: Arc<dyn Vault>) -> Arc<dyn Vault> {
///     let mut settings = Settings::default();
///     settings.time_to_live = Duration::from_secs(60);
///     Arc::new(Cache::new(vault, settings))
/// }
/// ```
pub struct Cache {
    vault: Arc<dyn Vault>,
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    entries: Mutex<Entries>,
}

/// What the callers that wait for a fetch receive.
#[derive(Clone, Debug)]
enum FetchOutcome {
    Done(Answer),
    /// The fetch of a batch failed, possibly because of another name: fetch this secret alone.
    Retry,
}

type OutcomeSender = watch::Sender<Option<FetchOutcome>>;
type OutcomeReceiver = watch::Receiver<Option<FetchOutcome>>;

impl Cache {
    /// Creates a cache that wraps a vault.
    pub fn new(vault: Arc<dyn Vault>, settings: Settings) -> Self {
        Self { vault, shared: Arc::new(Shared { settings, entries: Mutex::default() }) }
    }

    /// Removes all entries. A value is zeroized when the last run that holds it drops it.
    pub fn clear(&self) {
        self.shared.lock().clear();
    }

    fn is_off(&self) -> bool {
        self.shared.settings.time_to_live.is_zero()
    }

    /// Returns a cached answer, joins a fetch in flight, or starts one.
    fn lookup(&self, key: &Key, grant: &Grant) -> Lookup {
        let mut entries = self.shared.lock();
        if let Some(answer) = entries.find(key, Instant::now()) {
            return Lookup::Cached(answer);
        }
        if let Some(receiver) = entries.fetch(key) {
            return Lookup::Joined(receiver);
        }
        let (sender, receiver) = watch::channel(None);
        let fetch = Fetch::start(&self.shared, &mut entries, key.clone(), sender, receiver.clone());
        drop(entries);
        let (vault, grant) = (Arc::clone(&self.vault), grant.clone());
        tokio::spawn(async move { fetch.publish(vault.get(&grant).await) });
        Lookup::Started(receiver)
    }

    /// Replaces an answer that says that the vault cannot be reached by a stale value, if there is
    /// one.
    fn or_stale(&self, key: &Key, answer: Answer) -> Answer {
        match answer {
            Err(VaultError::Unavailable(text)) => {
                let found = self.shared.lock().find_stale(key, Instant::now());
                found.ok_or(VaultError::Unavailable(text))
            }
            answer => answer,
        }
    }

    /// Runs a write in its own task, and invalidates its names when the task ends, even by a panic.
    async fn write<T: Send + 'static>(
        &self,
        names: Vec<SecretName>,
        work: impl Future<Output = Result<T, VaultError>> + Send + 'static,
    ) -> Result<T, VaultError> {
        let invalidate = InvalidateOnDrop { shared: Arc::clone(&self.shared), names };
        let task = tokio::spawn(async move {
            let answer = work.await;
            drop(invalidate);
            answer
        });
        task.await.unwrap_or_else(|_| Err(fetch_lost()))
    }

    /// Fetches the part of a batch that is not cached in one call of the vault, and publishes each
    /// result.
    fn fetch_many(&self, missing: Vec<(Fetch, Grant)>) -> tokio::task::JoinHandle<Result<(), VaultError>> {
        let vault = Arc::clone(&self.vault);
        tokio::spawn(async move {
            let (in_flight, grants): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
            match vault.get_many(&grants).await {
                Ok(answers) if answers.len() == in_flight.len() => {
                    for (fetch, answer) in in_flight.into_iter().zip(answers) {
                        let name = fetch.key.name.clone();
                        fetch.publish(answer.map_err(|missing| missing.into_error(name)));
                    }
                    Ok(())
                }
                Ok(_) => {
                    Err(VaultError::Unavailable("the vault returned a batch with a wrong number of values".into()))
                }
                // Dropping the fetches tells callers that joined them to fetch for themselves.
                Err(error) => Err(error),
            }
        })
    }
}

/// Result of a cache lookup.
enum Lookup {
    /// The answer is cached.
    Cached(Answer),
    /// Another caller's fetch is in flight.
    Joined(OutcomeReceiver),
    /// A fetch was started for this caller.
    Started(OutcomeReceiver),
}

/// A fetch in flight. It stays registered until it publishes its result, is detached by a write, or
/// is dropped.
struct Fetch {
    shared: Arc<Shared>,
    key: Key,
    id: u64,
    started: Instant,
    sender: OutcomeSender,
}

impl Fetch {
    fn start(
        shared: &Arc<Shared>,
        entries: &mut Entries,
        key: Key,
        sender: OutcomeSender,
        receiver: OutcomeReceiver,
    ) -> Self {
        let id = entries.register(key.clone(), receiver);
        Self { shared: Arc::clone(shared), key, id, started: Instant::now(), sender }
    }

    /// Caches the answer if that is allowed, and publishes it to the waiting callers.
    fn publish(self, answer: Answer) {
        let mut entries = self.shared.lock();
        // Deregister first, so that no later caller joins a fetch that has already failed.
        if entries.deregister(&self.key, self.id)
            && let Some(expires) = self.shared.settings.expiry(self.started, &answer)
        {
            let now = Instant::now();
            if let (Ok(stored), None) = (&answer, &self.key.version) {
                // Serves a run that is pinned to the version that it read first.
                let pinned = Key { name: self.key.name.clone(), version: Some(stored.description.version.clone()) };
                entries.keep(pinned, answer.clone(), expires, now, &self.shared.settings);
            }
            entries.keep(self.key.clone(), answer.clone(), expires, now, &self.shared.settings);
        }
        drop(entries);
        self.sender.send_replace(Some(FetchOutcome::Done(answer)));
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.shared.lock().deregister(&self.key, self.id);
        // No effect if the answer was published.
        self.sender.send_if_modified(|outcome| {
            let unpublished = outcome.is_none();
            outcome.get_or_insert(FetchOutcome::Retry);
            unpublished
        });
    }
}

/// Invalidates names when it is dropped.
struct InvalidateOnDrop {
    shared: Arc<Shared>,
    names: Vec<SecretName>,
}

impl Drop for InvalidateOnDrop {
    fn drop(&mut self) {
        let mut entries = self.shared.lock();
        for name in &self.names {
            entries.invalidate(name);
        }
    }
}

impl Shared {
    /// A poisoned lock is safe to use: every change is complete before the lock is released.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settings {
    /// Returns when a cached answer expires, or `None` if it must not be cached.
    fn expiry(&self, started: Instant, answer: &Answer) -> Option<Instant> {
        let time = match answer {
            Ok(_) => self.time_to_live,
            Err(VaultError::NotFound(_) | VaultError::Disabled(_)) => self.time_to_live.min(NEGATIVE_MAX),
            Err(_) => return None,
        };
        // Without random bytes there is no jitter.
        let percent = if self.jitter { 90 + getrandom::u32().map_or(10, |random| random % 21) } else { 100 };
        started.checked_add(time.saturating_mul(percent) / 100)
    }
}

/// Waits for the outcome of a fetch.
async fn wait_for_outcome(mut receiver: OutcomeReceiver) -> FetchOutcome {
    match receiver.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(FetchOutcome::Retry),
        Err(_) => FetchOutcome::Retry,
    }
}

/// Returns the error for a fetch whose task panicked or was cancelled.
fn fetch_lost() -> VaultError {
    VaultError::Unavailable("the vault's answer was lost: the host is shutting down or has a bug".into())
}

fn key_of(grant: &Grant) -> Key {
    Key { name: grant.stored().clone(), version: grant.version().cloned() }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

#[async_trait]
impl Vault for Cache {
    fn abilities(&self) -> Abilities {
        self.vault.abilities()
    }

    fn address(&self) -> Option<String> {
        self.vault.address()
    }

    async fn get(&self, grant: &Grant) -> Result<Stored, VaultError> {
        if self.is_off() {
            return self.vault.get(grant).await;
        }
        let key = key_of(grant);
        loop {
            let (receiver, joined) = match self.lookup(&key, grant) {
                Lookup::Cached(answer) => return answer,
                Lookup::Joined(receiver) => (receiver, true),
                Lookup::Started(receiver) => (receiver, false),
            };
            match wait_for_outcome(receiver).await {
                FetchOutcome::Done(answer) => return self.or_stale(&key, answer),
                // The joined fetch was lost: try again, as its own caller would.
                FetchOutcome::Retry if joined => {}
                FetchOutcome::Retry => return self.or_stale(&key, Err(fetch_lost())),
            }
        }
    }

    fn cached(&self, grant: &Grant) -> Option<Result<Stored, VaultError>> {
        if self.is_off() {
            return None;
        }
        self.shared.lock().find(&key_of(grant), Instant::now())
    }

    async fn get_many(&self, grants: &[Grant]) -> Result<Vec<Result<Stored, Missing>>, VaultError> {
        if self.is_off() {
            return self.vault.get_many(grants).await;
        }
        let mut lookups = Vec::with_capacity(grants.len());
        let mut missing = Vec::new();
        {
            let mut entries = self.shared.lock();
            let now = Instant::now();
            for grant in grants {
                let key = key_of(grant);
                let lookup = if let Some(answer) = entries.find(&key, now) {
                    Lookup::Cached(answer)
                } else if let Some(receiver) = entries.fetch(&key) {
                    Lookup::Joined(receiver)
                } else {
                    let (sender, receiver) = watch::channel(None);
                    let fetch = Fetch::start(&self.shared, &mut entries, key.clone(), sender, receiver.clone());
                    missing.push((fetch, grant.clone()));
                    Lookup::Started(receiver)
                };
                lookups.push((key, grant, lookup));
            }
        }
        let mut batch_error = fetch_lost();
        if !missing.is_empty() {
            match self.fetch_many(missing).await.unwrap_or_else(|_| Err(fetch_lost())) {
                Err(error @ VaultError::Unavailable(_)) => batch_error = error,
                answer => answer?,
            }
        }
        let mut answers = Vec::with_capacity(lookups.len());
        for (key, grant, lookup) in lookups {
            let answer = match lookup {
                Lookup::Cached(answer) => answer,
                Lookup::Joined(receiver) => match wait_for_outcome(receiver).await {
                    FetchOutcome::Done(answer) => answer,
                    FetchOutcome::Retry => self.get(grant).await,
                },
                Lookup::Started(receiver) => match wait_for_outcome(receiver).await {
                    FetchOutcome::Done(answer) => answer,
                    FetchOutcome::Retry => Err(batch_error.clone()),
                },
            };
            answers.push(Missing::separate(self.or_stale(&key, answer))?);
        }
        Ok(answers)
    }

    async fn describe(&self, grant: &Grant) -> Result<Description, VaultError> {
        self.vault.describe(grant).await
    }

    async fn set_many(&self, secrets: &[(Grant, Arc<Secret>)]) -> Result<Vec<Description>, VaultError> {
        let names = secrets.iter().map(|(grant, _)| grant.stored().clone()).collect();
        let (vault, secrets) = (Arc::clone(&self.vault), secrets.to_vec());
        self.write(names, async move { vault.set_many(&secrets).await }).await
    }

    async fn delete_many(&self, grants: &[Grant]) -> Result<(), VaultError> {
        let names = grants.iter().map(|grant| grant.stored().clone()).collect();
        let (vault, grants) = (Arc::clone(&self.vault), grants.to_vec());
        self.write(names, async move { vault.delete_many(&grants).await }).await
    }

    async fn list(&self, grant: &ListGrant) -> Result<Vec<SecretName>, VaultError> {
        self.vault.list(grant).await
    }
}
