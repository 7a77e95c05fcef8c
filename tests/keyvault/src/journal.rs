//! What was asked: a line for every request, and counts by kind. Neither a value nor a token is in it: bodies and headers are never recorded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use serde::Serialize;

use crate::lock;
use crate::service::Service;

/// One request, as it was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// The server's clock.
    pub at: i64,
    /// Which service was asked.
    pub service: Service,
    /// The method.
    pub method: String,
    /// Path and query as they came, before anything is decoded.
    pub path: String,
    /// What the request was taken for: `get-secret`, `list-secrets`, `challenge`, `keys`, `token-client-secret`…
    pub kind: &'static str,
    /// Whose token it carried, where that was a good one.
    pub principal: Option<String>,
    /// The status of the reply; 0: the connection was reset instead.
    pub status: u16,
    /// The fault that was at work.
    pub fault: Option<&'static str>,
    /// `x-ms-request-id` of the reply.
    pub request_id: String,
}

/// Counts since the start, or since they were last cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counters {
    /// Requests by kind.
    pub requests: BTreeMap<&'static str, u64>,
    /// Replies by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// The most requests that the vault had open at the same time.
    pub most_at_once: u64,
}

impl Counters {
    /// How many requests of a kind there were.
    pub fn of(&self, kind: &str) -> u64 {
        self.requests.get(kind).copied().unwrap_or(0)
    }
}

/// Lines beyond this push out the oldest; the counts stay exact.
const LINES: usize = 200_000;

#[derive(Default)]
struct Pages {
    lines: VecDeque<Entry>,
    counters: Counters,
    open: u64,
}

#[derive(Default)]
pub(crate) struct Journal(Mutex<Pages>);

/// A request of the vault that is being answered.
pub(crate) struct Open<'a>(&'a Journal);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        lock(&self.0.0).open -= 1;
    }
}

impl Journal {
    pub(crate) fn open(&self) -> Open<'_> {
        let mut pages = lock(&self.0);
        pages.open += 1;
        pages.counters.most_at_once = pages.counters.most_at_once.max(pages.open);
        Open(self)
    }

    pub(crate) fn note(&self, entry: Entry) {
        let mut pages = lock(&self.0);
        *pages.counters.requests.entry(entry.kind).or_default() += 1;
        *pages.counters.statuses.entry(entry.status).or_default() += 1;
        if let Some(fault) = entry.fault {
            *pages.counters.faults.entry(fault).or_default() += 1;
        }
        if pages.lines.len() == LINES {
            pages.lines.pop_front();
        }
        pages.lines.push_back(entry);
    }

    pub(crate) fn lines(&self) -> Vec<Entry> {
        lock(&self.0).lines.iter().cloned().collect()
    }

    pub(crate) fn counters(&self) -> Counters {
        lock(&self.0).counters.clone()
    }

    pub(crate) fn clear(&self) {
        let mut pages = lock(&self.0);
        pages.lines.clear();
        pages.counters = Counters::default();
    }
}
