//! What a run wants of the network: written into the audit, and counted for its record.
//!
//! The sandbox decides, by the addresses that the policy's `tcp` came to when the run started; what it decided is written down here, in the
//! trail that the run's secrets are in, so that a reviewer sees in one place what a component had and where it could take it. The first use
//! of each destination is an event of its own; what is allowed waits until that is durable, and where it cannot be written the answer is
//! no. Later uses of the same destination tell nothing new and are counted. What was allowed and what was denied are apart, also where both
//! are shown alike: an address with a flow label of IPv6 is denied and written as the granted one is.
//!
//! The event of an allowed destination belongs to the run and not to the use that came first: a component that gives a connection up while
//! the event becomes durable, and begins again, has it written once all the same.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use super::RunBroker;
use strongroom_audit::{Decision, Event, Kind};
use strongroom_core::record::{NetworkOperation, NetworkUse};

/// How many destinations that were denied a record lists and the audit has an event for. A hostile component can try as many as its time
/// allows; what is over is counted under `(others)`. Those that are allowed are bounded by the policy.
pub const DESTINATIONS_MAX: usize = 100;

/// Under which the rest is counted. No destination is written so.
const OTHERS: &str = "(others)";

/// Longer than any name of the domain name system, and than any address.
const TARGET_MAX: usize = 253;

/// What a component wants of the network, and what was decided about it.
#[derive(Debug)]
pub struct Contact<'a> {
    /// What it wants.
    pub operation: NetworkOperation,
    /// `ADDRESS:PORT`, or a name as the component wrote it.
    pub target: &'a str,
    /// The entry of the policy's `tcp` that allows it; none where it is denied.
    pub entry: Option<&'a str>,
    /// The entry that would allow it, where it is denied and a policy can.
    pub would_allow: Option<String>,
}

/// What a run wanted so far, by operation and destination as they are shown.
#[derive(Default)]
pub(super) struct Contacts {
    uses: BTreeMap<(NetworkOperation, String), Counts>,
    denied: usize,
}

#[derive(Default)]
struct Counts {
    allowed: u64,
    denied: u64,
    entry: Option<String>,
    would_allow: Option<String>,
    /// The event that says that it was allowed; `true` once that is durable, `false` where it cannot be written.
    allowed_event: Option<Shared<BoxFuture<'static, bool>>>,
    /// Whether there is an event that says that it was denied.
    denied_event: bool,
}

impl Contacts {
    /// The name under which a destination is counted.
    fn key(&self, operation: NetworkOperation, shown: String, allowed: bool) -> (NetworkOperation, String) {
        let key = (operation, shown);
        if allowed || self.denied < DESTINATIONS_MAX || self.uses.contains_key(&key) {
            key
        } else {
            (operation, OTHERS.to_owned())
        }
    }
}

impl RunBroker {
    /// Audits and counts what was decided. Whether the component may go on: what was allowed, unless the audit cannot be written.
    pub async fn contact(&self, contact: Contact<'_>) -> bool {
        if self.state().ended {
            return false;
        }
        let allowed = contact.entry.is_some();
        let shown = if contact.target.len() > TARGET_MAX {
            "(a text too long for a name)".to_owned()
        } else if allowed {
            // It stands in the policy, or is what the host has resolved: no text of the component's.
            strongroom_core::escape::escape_controls(&contact.target.to_ascii_lowercase())
        } else {
            self.shown(contact.target)
        };
        let key = self.state().network.key(contact.operation, shown, allowed);
        let event = || Event {
            event: Kind::Network,
            run: Some(self.run),
            operation: Some(contact.operation.as_str().into()),
            decision: Some(if allowed { Decision::Allowed } else { Decision::Denied }),
            rule: contact.entry.map(|entry| format!("tcp \"{entry}\"").into()),
            detail: [("target".into(), key.1.clone().into())].into(),
            ..Event::default()
        };
        if allowed {
            let written = {
                let mut state = self.state();
                let counts = state.network.uses.entry(key.clone()).or_default();
                counts.allowed_event.get_or_insert_with(|| self.written(event())).clone()
            };
            if !written.await {
                return false;
            }
        } else {
            let known = self.state().network.uses.get(&key).is_some_and(|counts| counts.denied_event);
            // A no needs no durable event first, and has to be given at once: what comes later some components' libraries take for
            // a connection. The line is written all the same, and durable with the run's last event.
            if !known && matches!(self.audit(event()).now_or_never(), Some(Err(_))) {
                return false;
            }
        }
        let mut state = self.state();
        let contacts = &mut state.network;
        if !allowed && !contacts.uses.contains_key(&key) {
            contacts.denied = contacts.denied.saturating_add(1);
        }
        // What had to be redacted could not be used in a policy.
        let would_allow = contact.would_allow.filter(|_| key.1 == contact.target);
        let counts = contacts.uses.entry(key).or_default();
        if allowed {
            counts.allowed = counts.allowed.saturating_add(1);
            counts.entry = contact.entry.map(str::to_owned);
        } else {
            counts.denied_event = true;
            counts.denied = counts.denied.saturating_add(1);
            counts.would_allow = would_allow;
        }
        allowed
    }

    /// The writing of an event, begun with the first wait and not ended with any: whether it is durable.
    fn written(&self, event: Event) -> Shared<BoxFuture<'static, bool>> {
        let (audit, run) = (self.broker.audit.clone(), self.run);
        let write = async move {
            let written = audit.append(event).await;
            if let Err(error) = &written {
                tracing::error!(%run, %error, "the audit could not be written; a connection is refused");
            }
            written.is_ok()
        };
        write.boxed().shared()
    }

    /// What was wanted of the network so far, for the run record.
    pub fn contacts(&self) -> Vec<NetworkUse> {
        let state = self.state();
        // What was given up, or could not be audited, before it was opened has no counts.
        let counted = state.network.uses.iter().filter(|(_, counts)| counts.allowed > 0 || counts.denied > 0);
        let uses = counted.map(|((operation, target), counts)| NetworkUse {
            operation: *operation,
            target: target.clone(),
            count: counts.allowed,
            denied: counts.denied,
            entry: counts.entry.clone(),
            would_allow: counts.would_allow.clone(),
        });
        uses.collect()
    }
}
