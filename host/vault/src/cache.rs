//! A cache around any vault, on the guest-facing path.
//!
//! It spares the vault repeated reads, within an age that the host accepts. Three rules keep it honest:
//!
//! - **One fetch at a time** for a secret, in a task of its own. Callers wait for the task; none of them carries it, so a run that
//!   is cut off while it waits neither fails nor delays the others.
//! - **Own writes count at once.** A write forgets what is cached of its names when it ends, whatever came of it, and cuts the
//!   fetches under way loose: they still answer those who wait, and their answer is not kept. Forgetting, rather than keeping the
//!   value just written, needs no order between two writes of one name.
//! - **Only answers are kept**: values, and for a short time that there is none to be had. A failure is told to those who wait.
//! - **A vault that cannot be reached** may leave a value in use for a configured time beyond its age, and such an answer says that it is
//!   overdue. A vault that refuses, or says that the secret is gone or disabled, is believed.
//!
//! What another process writes, or an operator's command, is seen when the age is reached. A vault has to bound its own time: a
//! fetch that never ends keeps its followers waiting.

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

/// The longest time that a negative answer is kept.
pub const NEGATIVE_MAX: Duration = Duration::from_secs(5);

/// How a cache behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How old an answer may be, counted from when its fetch began. Zero turns caching off.
    pub time_to_live: Duration,
    /// How much longer a value may be served while the vault cannot be reached. Zero for not at all.
    pub grace: Duration,
    /// Whether to vary the time by up to a tenth either way, so that answers fetched together do not all expire together.
    pub jitter: bool,
    /// The most answers that are kept. The one that was not used for longest goes first.
    pub max_entries: usize,
    /// The most bytes that are kept, values and names together.
    pub max_bytes: usize,
}

impl Default for Settings {
    /// Five minutes with jitter and without grace, 1,024 answers, 16 MiB.
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

/// A cache around a vault.
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

/// What a fetch tells those who wait.
#[derive(Clone, Debug)]
enum Told {
    Answer(Answer),
    /// The fetch of a batch failed, perhaps over another name of the batch: ask for this one alone.
    AskAgain,
}

type Teller = watch::Sender<Option<Told>>;
type Listener = watch::Receiver<Option<Told>>;

impl Cache {
    /// A cache around a vault.
    pub fn new(vault: Arc<dyn Vault>, settings: Settings) -> Self {
        Self { vault, shared: Arc::new(Shared { settings, entries: Mutex::default() }) }
    }

    /// Forgets everything. Values are overwritten when the last run that holds one drops it.
    pub fn clear(&self) {
        self.shared.lock().clear();
    }

    fn is_off(&self) -> bool {
        self.shared.settings.time_to_live.is_zero()
    }

    /// Answers from the cache, joins a fetch under way, or starts one.
    fn find_or_fetch(&self, key: &Key, grant: &Grant) -> Lookup {
        let mut entries = self.shared.lock();
        if let Some(answer) = entries.find(key, Instant::now()) {
            return Lookup::Cached(answer);
        }
        if let Some(listener) = entries.flight(key) {
            return Lookup::Joined(listener);
        }
        let (teller, listener) = watch::channel(None);
        let flight = Flight::start(&self.shared, &mut entries, key.clone(), teller, listener.clone());
        drop(entries);
        let (vault, grant) = (Arc::clone(&self.vault), grant.clone());
        tokio::spawn(async move { flight.land(vault.get(&grant).await) });
        Lookup::Started(listener)
    }

    /// An answer of the vault; in the place of one that says that it cannot be reached, a value that is overdue, where there is one.
    fn or_overdue(&self, key: &Key, answer: Answer) -> Answer {
        match answer {
            Err(VaultError::Unavailable(text)) => {
                let found = self.shared.lock().find_overdue(key, Instant::now());
                found.ok_or(VaultError::Unavailable(text))
            }
            answer => answer,
        }
    }

    /// Does a write in a task of its own and forgets what is cached of its names when it ends, even where it panics.
    async fn write<T: Send + 'static>(
        &self,
        names: Vec<SecretName>,
        work: impl Future<Output = Result<T, VaultError>> + Send + 'static,
    ) -> Result<T, VaultError> {
        let forget = Forget { shared: Arc::clone(&self.shared), names };
        let task = tokio::spawn(async move {
            let answer = work.await;
            drop(forget);
            answer
        });
        task.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Fetches what a batch did not find, in one call of the vault, and tells each flight its part.
    fn fetch_many(&self, missing: Vec<(Flight, Grant)>) -> tokio::task::JoinHandle<Result<(), VaultError>> {
        let vault = Arc::clone(&self.vault);
        tokio::spawn(async move {
            let (flights, grants): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
            match vault.get_many(&grants).await {
                Ok(answers) if answers.len() == flights.len() => {
                    for (flight, answer) in flights.into_iter().zip(answers) {
                        let name = flight.key.name.clone();
                        flight.land(answer.map_err(|missing| missing.of(name)));
                    }
                    Ok(())
                }
                Ok(_) => {
                    Err(VaultError::Unavailable("the vault answered a batch with another number of values".into()))
                }
                // The flights are dropped, which tells the others to ask for themselves.
                Err(error) => Err(error),
            }
        })
    }
}

/// What a look at the cache came to.
enum Lookup {
    /// The answer is in the cache.
    Cached(Answer),
    /// Another caller's fetch is under way.
    Joined(Listener),
    /// A fetch was started for this caller.
    Started(Listener),
}

/// A fetch under way. It is registered until it lands, is cut loose by a write, or is dropped.
struct Flight {
    shared: Arc<Shared>,
    key: Key,
    id: u64,
    began: Instant,
    teller: Teller,
}

impl Flight {
    fn start(shared: &Arc<Shared>, entries: &mut Entries, key: Key, teller: Teller, listener: Listener) -> Self {
        let id = entries.take_off(key.clone(), listener);
        Self { shared: Arc::clone(shared), key, id, began: Instant::now(), teller }
    }

    /// Keeps the answer, where it may be kept, and tells it.
    fn land(self, answer: Answer) {
        let mut entries = self.shared.lock();
        // Deregistered before it is told, so that nobody who comes later joins a fetch that failed already.
        if entries.end_flight(&self.key, self.id)
            && let Some(expires) = self.shared.settings.expiry(self.began, &answer)
        {
            let now = Instant::now();
            if let (Ok(stored), None) = (&answer, &self.key.version) {
                // A run that pins the version it saw first finds it, too.
                let pinned = Key { name: self.key.name.clone(), version: Some(stored.description.version.clone()) };
                entries.keep(pinned, answer.clone(), expires, now, &self.shared.settings);
            }
            entries.keep(self.key.clone(), answer.clone(), expires, now, &self.shared.settings);
        }
        drop(entries);
        self.teller.send_replace(Some(Told::Answer(answer)));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.shared.lock().end_flight(&self.key, self.id);
        // After a landing this changes nothing.
        self.teller.send_if_modified(|told| {
            let untold = told.is_none();
            told.get_or_insert(Told::AskAgain);
            untold
        });
    }
}

/// Forgets some names when it is dropped.
struct Forget {
    shared: Arc<Shared>,
    names: Vec<SecretName>,
}

impl Drop for Forget {
    fn drop(&mut self) {
        let mut entries = self.shared.lock();
        for name in &self.names {
            entries.forget(name);
        }
    }
}

impl Shared {
    /// Every change is complete before the lock is given back, so a panic elsewhere spoils nothing.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settings {
    /// Until when an answer is kept; none for a failure.
    fn expiry(&self, began: Instant, answer: &Answer) -> Option<Instant> {
        let time = match answer {
            Ok(_) => self.time_to_live,
            Err(VaultError::NotFound(_) | VaultError::Disabled(_)) => self.time_to_live.min(NEGATIVE_MAX),
            Err(_) => return None,
        };
        // Without random bytes the time is simply not varied.
        let percent = if self.jitter { 90 + getrandom::u32().map_or(10, |random| random % 21) } else { 100 };
        began.checked_add(time.saturating_mul(percent) / 100)
    }
}

/// Waits for a fetch.
async fn listen(mut listener: Listener) -> Told {
    match listener.wait_for(Option::is_some).await {
        Ok(told) => told.clone().unwrap_or(Told::AskAgain),
        Err(_) => Told::AskAgain,
    }
}

/// The task that asked the vault is gone: it panicked, or the host is ending.
fn lost() -> VaultError {
    VaultError::Unavailable("the vault's answer was lost: the host is ending or has a fault".into())
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

    fn place(&self) -> Option<String> {
        self.vault.place()
    }

    async fn get(&self, grant: &Grant) -> Result<Stored, VaultError> {
        if self.is_off() {
            return self.vault.get(grant).await;
        }
        let key = key_of(grant);
        loop {
            let (listener, joined) = match self.find_or_fetch(&key, grant) {
                Lookup::Cached(answer) => return answer,
                Lookup::Joined(listener) => (listener, true),
                Lookup::Started(listener) => (listener, false),
            };
            match listen(listener).await {
                Told::Answer(answer) => return self.or_overdue(&key, answer),
                // The fetch that was joined was lost: ask again, as its own caller would.
                Told::AskAgain if joined => {}
                Told::AskAgain => return self.or_overdue(&key, Err(lost())),
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
                } else if let Some(listener) = entries.flight(&key) {
                    Lookup::Joined(listener)
                } else {
                    let (teller, listener) = watch::channel(None);
                    let flight = Flight::start(&self.shared, &mut entries, key.clone(), teller, listener.clone());
                    missing.push((flight, grant.clone()));
                    Lookup::Started(listener)
                };
                lookups.push((key, grant, lookup));
            }
        }
        let mut down = lost();
        if !missing.is_empty() {
            match self.fetch_many(missing).await.unwrap_or_else(|_| Err(lost())) {
                Err(error @ VaultError::Unavailable(_)) => down = error,
                answer => answer?,
            }
        }
        let mut answers = Vec::with_capacity(lookups.len());
        for (key, grant, lookup) in lookups {
            let answer = match lookup {
                Lookup::Cached(answer) => answer,
                Lookup::Joined(listener) => match listen(listener).await {
                    Told::Answer(answer) => answer,
                    Told::AskAgain => self.get(grant).await,
                },
                Lookup::Started(listener) => match listen(listener).await {
                    Told::Answer(answer) => answer,
                    Told::AskAgain => Err(down.clone()),
                },
            };
            answers.push(Missing::apart(self.or_overdue(&key, answer))?);
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
