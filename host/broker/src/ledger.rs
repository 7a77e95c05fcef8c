//! Counts what a run used and what it was denied, for its record.

use std::collections::BTreeMap;

use strongroom_core::record::SecretUse;
use strongroom_policy::Operation;

/// How many distinct names the record lists. Further names are counted under [`OTHERS`]. A hostile
/// component can ask for as many names as its request limit allows.
const NAMES_MAX: usize = 500;

/// The name under which further names are counted. It is not a valid secret name.
const OTHERS: &str = "(others)";

#[derive(Default)]
pub(super) struct Ledger {
    /// Counts by name and requested operation. Each name has few operations.
    uses: BTreeMap<String, Vec<(Operation, Counts)>>,
    /// The number of listed names.
    listed: usize,
}

#[derive(Default)]
struct Counts {
    served: u64,
    denied: u64,
    would_allow: Option<String>,
}

impl Ledger {
    pub(super) fn served(&mut self, name: &str, operation: Operation) {
        self.count(name, operation, |counts| counts.served = counts.served.saturating_add(1));
    }

    pub(super) fn denied(&mut self, name: &str, operation: Operation, would_allow: Option<String>) {
        self.count(name, operation, |counts| {
            counts.denied = counts.denied.saturating_add(1);
            counts.would_allow = counts.would_allow.take().or(would_allow);
        });
    }

    fn count(&mut self, name: &str, operation: Operation, change: impl FnOnce(&mut Counts)) {
        let same = |(of, _): &&mut (Operation, Counts)| *of == operation;
        if let Some((_, counts)) = self.uses.get_mut(name).and_then(|uses| uses.iter_mut().find(same)) {
            return change(counts);
        }
        let name = if self.listed < NAMES_MAX { name } else { OTHERS };
        let uses = self.uses.entry(name.to_owned()).or_default();
        if let Some((_, counts)) = uses.iter_mut().find(same) {
            return change(counts);
        }
        let mut counts = Counts::default();
        change(&mut counts);
        uses.push((operation, counts));
        uses.sort_by_key(|(operation, _)| *operation);
        self.listed = self.listed.saturating_add(1);
    }

    pub(super) fn uses(&self) -> Vec<SecretUse> {
        let listed = |name: &String, (operation, counts): &(Operation, Counts)| SecretUse {
            name: name.clone(),
            operation: operation.as_str().to_owned(),
            count: counts.served,
            denied: counts.denied,
            would_allow: counts.would_allow.clone().filter(|_| name != OTHERS),
        };
        self.uses.iter().flat_map(|(name, uses)| uses.iter().map(move |used| listed(name, used))).collect()
    }
}
