//! What a cache holds: answers with their age and size, and the fetches under way.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Listener, Settings};
use crate::{Stored, VaultError};
use strongroom_core::ids::{SecretName, SecretVersion};

/// What a vault answered to a read.
pub(super) type Answer = Result<Stored, VaultError>;

/// What was asked for: a secret as the vault knows it, and a version or the latest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) name: SecretName,
    pub(super) version: Option<SecretVersion>,
}

/// What an entry weighs beside its texts: an estimate of the structures around them.
const OVERHEAD: usize = 512;

struct Entry {
    answer: Answer,
    expires: Instant,
    /// Until when it may be served where the vault cannot be reached; not before `expires`.
    gone: Instant,
    bytes: usize,
    used: u64,
}

struct Flying {
    id: u64,
    listener: Listener,
}

/// The state of a cache.
#[derive(Default)]
pub(super) struct Entries {
    answers: HashMap<Key, Entry>,
    flights: HashMap<Key, Flying>,
    bytes: usize,
    /// Counts uses, so that the entry that was not used for longest is known.
    uses: u64,
    next_flight: u64,
    /// Not later than the first moment at which an entry goes.
    next_gone: Option<Instant>,
}

impl Entries {
    /// An answer that is not too old.
    pub(super) fn find(&mut self, key: &Key, now: Instant) -> Option<Answer> {
        self.drop_expired(now);
        self.uses = self.uses.wrapping_add(1);
        let entry = self.answers.get_mut(key).filter(|entry| now < entry.expires)?;
        entry.used = self.uses;
        Some(entry.answer.clone())
    }

    /// A value that is too old to be served but where the vault cannot be reached.
    pub(super) fn find_overdue(&mut self, key: &Key, now: Instant) -> Option<Stored> {
        self.drop_expired(now);
        let stored = self.answers.get(key)?.answer.as_ref().ok()?;
        Some(Stored { overdue: true, ..stored.clone() })
    }

    /// Keeps an answer, and lets others go where it would be too much. An answer that alone is too big is not kept.
    pub(super) fn keep(&mut self, key: Key, answer: Answer, expires: Instant, now: Instant, settings: &Settings) {
        self.drop_expired(now);
        self.remove(&key);
        let bytes = weigh(&key, &answer);
        if expires <= now || bytes > settings.max_bytes || settings.max_entries == 0 {
            return;
        }
        while self.answers.len() >= settings.max_entries || self.bytes.saturating_add(bytes) > settings.max_bytes {
            // A scan: it happens after a fetch from the vault, beside which it is nothing.
            let Some(oldest) = self.answers.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone())
            else {
                break;
            };
            self.remove(&oldest);
        }
        self.uses = self.uses.wrapping_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        let grace = if answer.is_ok() { settings.grace } else { Duration::ZERO };
        let gone = expires.checked_add(grace).unwrap_or(expires);
        self.next_gone = Some(self.next_gone.map_or(gone, |next| next.min(gone)));
        self.answers.insert(key, Entry { answer, expires, gone, bytes, used: self.uses });
    }

    /// A fetch under way that a reader may join.
    pub(super) fn flight(&self, key: &Key) -> Option<Listener> {
        self.flights.get(key).map(|flying| flying.listener.clone())
    }

    /// Registers a fetch.
    pub(super) fn take_off(&mut self, key: Key, listener: Listener) -> u64 {
        self.next_flight = self.next_flight.wrapping_add(1);
        let id = self.next_flight;
        self.flights.insert(key, Flying { id, listener });
        id
    }

    /// Ends a fetch. Answers whether it was still registered: no write has come between.
    pub(super) fn end_flight(&mut self, key: &Key, id: u64) -> bool {
        let registered = self.flights.get(key).is_some_and(|flying| flying.id == id);
        if registered {
            self.flights.remove(key);
        }
        registered
    }

    /// Forgets all answers of a name and cuts its fetches loose.
    pub(super) fn forget(&mut self, name: &SecretName) {
        for key in keys_of(&self.answers, name) {
            self.remove(&key);
        }
        for key in keys_of(&self.flights, name) {
            self.flights.remove(&key);
        }
    }

    /// Forgets everything and cuts all fetches loose.
    pub(super) fn clear(&mut self) {
        self.answers.clear();
        self.flights.clear();
        self.bytes = 0;
        self.next_gone = None;
    }

    /// Lets go of what is too old, so that a value does not stay in memory because nobody asks for it again.
    fn drop_expired(&mut self, now: Instant) {
        if self.next_gone.is_none_or(|next| now < next) {
            return;
        }
        self.answers.retain(|_, entry| entry.gone > now);
        self.bytes = self.answers.values().map(|entry| entry.bytes).sum();
        self.next_gone = self.answers.values().map(|entry| entry.gone).min();
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

/// A scan: names are forgotten by writes to the vault, beside which it is nothing.
fn keys_of<T>(map: &HashMap<Key, T>, name: &SecretName) -> Vec<Key> {
    map.keys().filter(|key| key.name == *name).cloned().collect()
}

fn weigh(key: &Key, answer: &Answer) -> usize {
    let value = match answer {
        Ok(stored) => {
            let content_type = stored.description.attributes.content_type.as_ref();
            stored.value.len().saturating_add(content_type.map_or(0, String::len))
        }
        Err(_) => 0,
    };
    value.saturating_add(key.name.as_str().len()).saturating_add(OVERHEAD)
}
