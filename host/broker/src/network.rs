//! Audits a run's network use and counts it for its record.
//!
//! The sandbox decides, based on the addresses to which the policy's `tcp` resolved when the run
//! started. The decision is written to the same audit log as the run's secrets, so that a reviewer
//! sees in one place what a component had and where it could send it. The first use of each
//! destination is an event. An allowed use waits until that event is durable, and is refused if it
//! cannot be written. Later uses of the same destination carry no new information and are only
//! counted. Allowed and denied uses have separate events even if both are shown alike: an address
//! with an IPv6 flow label is denied, but shown like the granted one.
//!
//! The event of an allowed destination belongs to the run and not to the first use. If a component
//! abandons a connection while the event becomes durable, and then connects again, the event is
//! still written only once.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use super::RunBroker;
use strongroom_audit::{Decision, Event, Kind};
use strongroom_core::record::{NetworkOperation, NetworkUse};

/// How many denied destinations a record lists and the audit log has an event for. A hostile
/// component can try as many as its time allows; further ones are counted under `(others)`. The
/// policy bounds the allowed destinations.
pub const DESTINATIONS_MAX: usize = 100;

/// The name under which further destinations are counted. No destination has this form.
const OTHERS: &str = "(others)";

/// The longest target that is shown, in bytes. No DNS name or address is longer.
const TARGET_MAX: usize = 253;

/// A network operation that a component requested, and the decision about it.
#[derive(Debug)]
pub struct Contact<'a> {
    /// The requested operation.
    pub operation: NetworkOperation,
    /// `ADDRESS:PORT`, or a name as the component wrote it.
    pub target: &'a str,
    /// The entry of the policy's `tcp` that allows it; `None` if it is denied.
    pub entry: Option<&'a str>,
    /// The entry that would allow it, if it is denied and an entry can allow it.
    pub would_allow: Option<String>,
}

/// A run's network uses so far, by operation and destination as shown.
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
    /// The event that records the first allowed use: `true` once it is durable, `false` if it
    /// cannot be written.
    allowed_event: Option<Shared<BoxFuture<'static, bool>>>,
    /// Whether there is an event that records a denied use.
    denied_event: bool,
}

impl Contacts {
    /// Returns the key under which a destination is counted.
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
    /// Audits and counts a decision. Returns whether the component may continue: true if the use
    /// was allowed and audited.
    pub async fn contact(&self, contact: Contact<'_>) -> bool {
        if self.state().ended {
            return false;
        }
        let allowed = contact.entry.is_some();
        let shown = if contact.target.len() > TARGET_MAX {
            "(a text too long for a name)".to_owned()
        } else if allowed {
            // The target is in the policy, or the host resolved it, so it is not text from the
            // component.
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
                self.remember_audit_failure("the event of a connection was not written".to_owned());
                return false;
            }
        } else {
            let known = self.state().network.uses.get(&key).is_some_and(|counts| counts.denied_event);
            // A denial need not be durable first, and must be returned immediately: the libraries
            // of some components take a later error for an established connection. The event is
            // written nevertheless and is durable with the run's last event.
            if !known && matches!(self.audit(event()).now_or_never(), Some(Err(_))) {
                return false;
            }
        }
        let mut state = self.state();
        let contacts = &mut state.network;
        if !allowed && !contacts.uses.contains_key(&key) {
            contacts.denied = contacts.denied.saturating_add(1);
        }
        // A target that was redacted could not be used in a policy.
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

    /// Returns a shared future that writes an event and resolves to whether it is durable. The
    /// write starts when it is first polled and is not cancelled with any single waiter.
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

    /// Returns the network uses so far, for the run record.
    pub fn contacts(&self) -> Vec<NetworkUse> {
        let state = self.state();
        // A use that was abandoned, or could not be audited, before it was allowed has no counts.
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
