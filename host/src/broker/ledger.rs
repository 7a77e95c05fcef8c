//! Counts what a run used and was denied, for its record.

use std::collections::BTreeMap;

use crate::policy::Operation;
use crate::record::SecretUse;

/// How many distinct names the record lists; what is over is counted under [`OTHERS`]. A hostile component can ask for as many names as
/// its request limit allows.
const NAMES_MAX: usize = 500;

/// The name under which the rest is counted. No secret can have it.
const OTHERS: &str = "(others)";

#[derive(Default)]
pub(super) struct Ledger {
    uses: BTreeMap<(String, Operation), Counts>,
}

#[derive(Default)]
struct Counts {
    served: u64,
    denied: u64,
    would_allow: Option<String>,
}

impl Ledger {
    pub(super) fn served(&mut self, name: &str, operation: Operation, times: u64) {
        let counts = self.counts(name, operation);
        counts.served = counts.served.saturating_add(times);
    }

    pub(super) fn denied(&mut self, name: &str, operation: Operation, would_allow: Option<String>) {
        let counts = self.counts(name, operation);
        counts.denied = counts.denied.saturating_add(1);
        counts.would_allow = counts.would_allow.take().or(would_allow);
    }

    fn counts(&mut self, name: &str, operation: Operation) -> &mut Counts {
        let key = (name.to_owned(), operation);
        let key = if self.uses.len() < NAMES_MAX || self.uses.contains_key(&key) {
            key
        } else {
            (OTHERS.to_owned(), operation)
        };
        self.uses.entry(key).or_default()
    }

    pub(super) fn uses(&self) -> Vec<SecretUse> {
        self.uses
            .iter()
            .map(|((name, operation), counts)| SecretUse {
                name: name.clone(),
                operation: operation.as_str().to_owned(),
                count: counts.served,
                denied: counts.denied,
                would_allow: counts.would_allow.clone().filter(|_| name != OTHERS),
            })
            .collect()
    }
}
