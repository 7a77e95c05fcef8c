//! Cached answers with their age and size, and the fetches in flight.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Fetch, Lookup, Settings};
use crate::{Stored, VaultError};
use strongroom_core::ids::{SecretName, SecretVersion};

/// A vault's answer to a read.
pub(super) type Answer = Result<Stored, VaultError>;

/// A cache key: the name as the vault knows it, and a version, or `None` for the newest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) name: SecretName,
    pub(super) version: Option<SecretVersion>,
}

/// Estimated memory of an entry beyond its texts, in bytes.
const ENTRY_OVERHEAD: usize = 512;

struct Entry {
    answer: Answer,
    expires: Instant,
    /// When the entry is removed: the end of its grace period, not before `expires`.
    drop_at: Instant,
    bytes: usize,
    last_used: u64,
}

struct InFlight {
    id: u64,
    fetch: Fetch,
}

/// The entries of a cache and its fetches in flight.
#[derive(Default)]
pub(super) struct Entries {
    answers: HashMap<Key, Entry>,
    in_flight: HashMap<Key, InFlight>,
    bytes: usize,
    /// Incremented on each use, to find the least recently used entry.
    use_counter: u64,
    next_id: u64,
    /// Lower bound of the earliest `drop_at`.
    next_drop: Option<Instant>,
}

impl Entries {
    /// Returns an answer within its time to live.
    pub(super) fn find(&mut self, key: &Key, now: Instant) -> Option<Answer> {
        self.drop_expired(now);
        self.use_counter = self.use_counter.wrapping_add(1);
        let entry = self.answers.get_mut(key).filter(|entry| now < entry.expires)?;
        entry.last_used = self.use_counter;
        Some(entry.answer.clone())
    }

    /// Returns a value within its grace period, marked as stale.
    pub(super) fn find_stale(&mut self, key: &Key, now: Instant) -> Option<Stored> {
        self.drop_expired(now);
        let stored = self.answers.get(key)?.answer.as_ref().ok()?;
        Some(Stored { stale: true, ..stored.clone() })
    }

    /// Caches an answer, and evicts others if a limit is exceeded. An answer that exceeds the limit
    /// alone is not cached.
    pub(super) fn keep(&mut self, key: Key, answer: Answer, expires: Instant, now: Instant, settings: &Settings) {
        self.drop_expired(now);
        self.remove(&key);
        let bytes = size_of(&key, &answer);
        if expires <= now || bytes > settings.max_bytes || settings.max_entries == 0 {
            return;
        }
        while self.answers.len() >= settings.max_entries || self.bytes.saturating_add(bytes) > settings.max_bytes {
            // The linear scan is cheap compared to the fetch that precedes it.
            let Some(oldest) = self.answers.iter().min_by_key(|(_, entry)| entry.last_used).map(|(key, _)| key.clone())
            else {
                break;
            };
            self.remove(&oldest);
        }
        self.use_counter = self.use_counter.wrapping_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        let grace = if answer.is_ok() { settings.grace } else { Duration::ZERO };
        let drop_at = expires.checked_add(grace).unwrap_or(expires);
        self.next_drop = Some(self.next_drop.map_or(drop_at, |next| next.min(drop_at)));
        self.answers.insert(key, Entry { answer, expires, drop_at, bytes, last_used: self.use_counter });
    }

    /// Returns a cached answer, or the fetch in flight for another caller to join.
    pub(super) fn lookup(&mut self, key: &Key, now: Instant) -> Option<Lookup> {
        if let Some(answer) = self.find(key, now) {
            return Some(Lookup::Cached(answer));
        }
        self.in_flight.get(key).map(|one| Lookup::InFlight(one.fetch.clone()))
    }

    /// Returns an ID for a new fetch.
    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// Registers a fetch.
    pub(super) fn register(&mut self, key: Key, id: u64, fetch: Fetch) {
        self.in_flight.insert(key, InFlight { id, fetch });
    }

    /// Deregisters a fetch. Returns whether it was still registered, that is, not detached by a
    /// write.
    pub(super) fn deregister(&mut self, key: &Key, id: u64) -> bool {
        let registered = self.in_flight.get(key).is_some_and(|fetch| fetch.id == id);
        if registered {
            self.in_flight.remove(key);
        }
        registered
    }

    /// Removes all answers of a name and detaches its fetches.
    pub(super) fn invalidate(&mut self, name: &SecretName) {
        for key in keys_of(&self.answers, name) {
            self.remove(&key);
        }
        for key in keys_of(&self.in_flight, name) {
            self.in_flight.remove(&key);
        }
    }

    /// Removes all entries and detaches all fetches.
    pub(super) fn clear(&mut self) {
        self.answers.clear();
        self.in_flight.clear();
        self.bytes = 0;
        self.next_drop = None;
    }

    /// Removes entries past their grace period, so that a value does not stay in memory when no
    /// caller asks for it again.
    fn drop_expired(&mut self, now: Instant) {
        if self.next_drop.is_none_or(|next| now < next) {
            return;
        }
        self.answers.retain(|_, entry| entry.drop_at > now);
        self.bytes = self.answers.values().map(|entry| entry.bytes).sum();
        self.next_drop = self.answers.values().map(|entry| entry.drop_at).min();
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.answers.remove(key) {
            self.bytes = self.bytes.saturating_sub(entry.bytes);
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.answers.len(), self.bytes)
    }
}

/// The linear scan is cheap compared to the write that precedes it.
fn keys_of<T>(map: &HashMap<Key, T>, name: &SecretName) -> Vec<Key> {
    map.keys().filter(|key| key.name == *name).cloned().collect()
}

fn size_of(key: &Key, answer: &Answer) -> usize {
    let value = match answer {
        Ok(stored) => {
            let content_type = stored.description.attributes.content_type.as_ref();
            stored.value.len().saturating_add(content_type.map_or(0, String::len))
        }
        Err(_) => 0,
    };
    value.saturating_add(key.name.as_str().len()).saturating_add(ENTRY_OVERHEAD)
}
