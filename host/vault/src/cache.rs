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

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{BoxFuture, Shared};
use futures_util::{FutureExt as _, TryFutureExt as _};
use tokio::sync::oneshot;
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
    shared: Arc<CacheState>,
}

struct CacheState {
    settings: Settings,
    entries: Mutex<Entries>,
}

/// A fetch in flight, which runs in its own task. Every clone waits for the same answer.
type Fetch = Shared<BoxFuture<'static, Result<Answer, Lost>>>;

/// A fetch of a batch in flight.
type BatchFetch = Shared<BoxFuture<'static, Result<Arc<[Answer]>, VaultError>>>;

/// A fetch gave no answer: its task panicked, or its batch failed, possibly because of another
/// name. Callers that joined it have to fetch for themselves.
#[derive(Clone, Copy, Debug)]
struct Lost;

impl Cache {
    /// Creates a cache that wraps a vault.
    pub fn new(vault: Arc<dyn Vault>, settings: Settings) -> Self {
        Self { vault, shared: Arc::new(CacheState { settings, entries: Mutex::default() }) }
    }

    /// Removes all entries. A value is zeroized when the last run that holds it drops it.
    pub fn clear(&self) {
        self.shared.lock().clear();
    }

    fn is_off(&self) -> bool {
        self.shared.settings.time_to_live.is_zero()
    }

    /// Returns a cached answer, or a fetch in flight and whether this call started it.
    fn lookup(&self, key: &Key, grant: &Grant) -> Result<Answer, (Fetch, bool)> {
        let mut entries = self.shared.lock();
        match entries.lookup(key, Instant::now()) {
            Some(Lookup::Cached(answer)) => return Ok(answer),
            Some(Lookup::InFlight(fetch)) => return Err((fetch, false)),
            None => {}
        }
        let ticket = Ticket::new(&self.shared, &mut entries, key.clone());
        let (id, vault, grant) = (ticket.id, Arc::clone(&self.vault), grant.clone());
        let (send, receive) = oneshot::channel();
        let fetch = receive.map_err(|_| Lost).boxed().shared();
        entries.register(key.clone(), id, fetch.clone());
        // A runtime that is shutting down drops the task at once, and with it the ticket, which
        // locks the entries.
        drop(entries);
        tokio::spawn(async move {
            let _ = send.send(ticket.keep(vault.get(&grant).await));
        });
        Err((fetch, true))
    }

    /// Registers one call of the vault for several secrets as a fetch of each. Returns the fetch,
    /// and the task that the caller has to spawn after it has unlocked the entries.
    fn fetch_many(
        &self,
        entries: &mut Entries,
        missing: Vec<(Key, Grant)>,
    ) -> (BatchFetch, impl Future<Output = ()> + Send + use<>) {
        let (keys, grants): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
        let tickets: Vec<_> = keys.iter().map(|key| Ticket::new(&self.shared, entries, key.clone())).collect();
        let ids: Vec<_> = tickets.iter().map(|ticket| ticket.id).collect();
        let vault = Arc::clone(&self.vault);
        let (send, receive) = oneshot::channel();
        let work = async move {
            let answers = vault.get_many(&grants).await?;
            if answers.len() != tickets.len() {
                return Err(VaultError::Unavailable("the vault returned a batch with a wrong number of values".into()));
            }
            let kept = tickets.into_iter().zip(answers).map(|(ticket, answer)| {
                let name = ticket.key.name.clone();
                ticket.keep(answer.map_err(|missing| missing.into_error(name)))
            });
            Ok(kept.collect::<Arc<[Answer]>>())
        };
        let task = async move {
            let _ = send.send(work.await);
        };
        let batch = receive.map(|received| received.unwrap_or_else(|_| Err(fetch_lost()))).boxed().shared();
        for (at, (key, id)) in keys.into_iter().zip(ids).enumerate() {
            let one = batch.clone().map(move |answers| answers.ok().and_then(|all| all.get(at).cloned()).ok_or(Lost));
            entries.register(key, id, one.boxed().shared());
        }
        (batch, task)
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
}

/// What the cache has for a key.
enum Lookup {
    Cached(Answer),
    InFlight(Fetch),
}

/// The right of a fetch to cache its answer. A write takes it away. When it is dropped, no further
/// caller joins the fetch.
struct Ticket {
    shared: Arc<CacheState>,
    key: Key,
    id: u64,
    started: Instant,
}

impl Ticket {
    fn new(shared: &Arc<CacheState>, entries: &mut Entries, key: Key) -> Self {
        Self { shared: Arc::clone(shared), key, id: entries.next_id(), started: Instant::now() }
    }

    /// Caches the answer if that is allowed, and returns it.
    fn keep(self, answer: Answer) -> Answer {
        let mut entries = self.shared.lock();
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
        answer
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.lock().deregister(&self.key, self.id);
    }
}

/// Invalidates names when it is dropped.
struct InvalidateOnDrop {
    shared: Arc<CacheState>,
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

impl CacheState {
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
            let (fetch, started) = match self.lookup(&key, grant) {
                Ok(answer) => return answer,
                Err(fetch) => fetch,
            };
            match fetch.await {
                Ok(answer) => return self.or_stale(&key, answer),
                Err(Lost) if started => return self.or_stale(&key, Err(fetch_lost())),
                // The joined fetch was lost: try again, as its own caller would.
                Err(Lost) => {}
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
        let batch = {
            let mut entries = self.shared.lock();
            let now = Instant::now();
            let (mut missing, mut positions) = (Vec::new(), HashMap::new());
            for grant in grants {
                let key = key_of(grant);
                let lookup = entries.lookup(&key, now).ok_or_else(|| {
                    *positions.entry(key.clone()).or_insert_with(|| {
                        missing.push((key.clone(), grant.clone()));
                        missing.len() - 1
                    })
                });
                lookups.push((key, grant, lookup));
            }
            (!missing.is_empty()).then(|| self.fetch_many(&mut entries, missing))
        };
        let fetched = match batch {
            Some((batch, task)) => {
                tokio::spawn(task);
                batch.await
            }
            None => Ok(Arc::default()),
        };
        if let Err(error) = &fetched
            && !matches!(error, VaultError::Unavailable(_))
        {
            return Err(error.clone());
        }
        let mut answers = Vec::with_capacity(lookups.len());
        for (key, grant, lookup) in lookups {
            let answer = match lookup {
                Ok(Lookup::Cached(answer)) => answer,
                Ok(Lookup::InFlight(fetch)) => match fetch.await {
                    Ok(answer) => answer,
                    Err(Lost) => self.get(grant).await,
                },
                Err(at) => match &fetched {
                    Ok(all) => all.get(at).cloned().unwrap_or_else(|| Err(fetch_lost())),
                    Err(error) => Err(error.clone()),
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
