//! A journal of requests, and counts by kind. It contains neither values nor tokens: bodies and
//! headers are not recorded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use serde::Serialize;

use crate::lock;
use crate::service::Service;

/// A request and its reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// The time on the server's clock.
    pub at: i64,
    /// The service.
    pub service: Service,
    /// The method.
    pub method: String,
    /// Path and query as received, not decoded.
    pub path: String,
    /// The recognized kind: `get-secret`, `list-secrets`, `challenge`, `keys`,
    /// `token-client-secret`…
    pub kind: &'static str,
    /// The owner of the request's token, if the token was valid.
    pub principal: Option<String>,
    /// The reply's status; 0 if the connection was reset instead.
    pub status: u16,
    /// The active fault.
    pub fault: Option<&'static str>,
    /// `x-ms-request-id` of the reply.
    pub request_id: String,
}

/// Counts since the start or the last time they were cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counters {
    /// Requests by kind.
    pub requests: BTreeMap<&'static str, u64>,
    /// Replies by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// The maximum number of concurrent requests to the vault.
    pub most_at_once: u64,
}

impl Counters {
    /// Returns the number of requests of a kind.
    pub fn of(&self, kind: &str) -> u64 {
        self.requests.get(kind).copied().unwrap_or(0)
    }
}

/// The maximum number of entries. Further entries replace the oldest; the counts stay exact.
const ENTRIES_MAX: usize = 200_000;

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    counters: Counters,
    open: u64,
}

#[derive(Default)]
pub(crate) struct Journal(Mutex<State>);

/// A request to the vault in progress.
pub(crate) struct OpenRequest<'a>(&'a Journal);

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        lock(&self.0.0).open -= 1;
    }
}

impl Journal {
    pub(crate) fn open(&self) -> OpenRequest<'_> {
        let mut state = lock(&self.0);
        state.open += 1;
        state.counters.most_at_once = state.counters.most_at_once.max(state.open);
        OpenRequest(self)
    }

    pub(crate) fn record(&self, entry: Entry) {
        let mut state = lock(&self.0);
        *state.counters.requests.entry(entry.kind).or_default() += 1;
        *state.counters.statuses.entry(entry.status).or_default() += 1;
        if let Some(fault) = entry.fault {
            *state.counters.faults.entry(fault).or_default() += 1;
        }
        if state.entries.len() == ENTRIES_MAX {
            state.entries.pop_front();
        }
        state.entries.push_back(entry);
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        lock(&self.0).entries.iter().cloned().collect()
    }

    pub(crate) fn counters(&self) -> Counters {
        lock(&self.0).counters.clone()
    }

    pub(crate) fn clear(&self) {
        let mut state = lock(&self.0);
        state.entries.clear();
        state.counters = Counters::default();
    }
}
