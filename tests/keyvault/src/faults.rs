//! Faults on demand: their kind, the requests that they affect, and how often.

use std::sync::Mutex;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::lock;
use crate::service::Service;

/// The kind of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// 429 with Key Vault's body.
    Throttle {
        /// Seconds in `Retry-After`. Without it the header is omitted.
        retry_after: Option<u64>,
    },
    /// An error with any status.
    Status {
        /// The status.
        code: u16,
        /// The error's message, instead of the service's own.
        message: Option<String>,
    },
    /// The connection is reset.
    Reset {
        /// After this many bytes of the body. Without it, before the reply.
        after: Option<usize>,
    },
    /// The reply is delayed.
    Slow {
        /// The delay, in the machine's time.
        milliseconds: u64,
        /// After the header and this many bytes of the body. Without it, before the reply.
        after: Option<usize>,
    },
    /// Every page of a list links to another one.
    EndlessPages,
    /// The link to the next page leads to another host.
    ForeignNextLink {
        /// The origin, such as `https://127.0.0.1:9`.
        to: String,
    },
    /// A huge reply that starts like a secret.
    Huge {
        /// The length of the value in bytes.
        bytes: u64,
        /// Whether the header declares the length.
        declared: bool,
    },
    /// Another content type.
    ContentType {
        /// The type.
        value: String,
        /// Another body as well.
        body: Option<String>,
    },
    /// A redirect (307).
    Redirect {
        /// The origin; path and query are kept.
        to: String,
    },
    /// A 401 that names a foreign authority or resource.
    ForeignChallenge {
        /// The authority, with a tenant in its path.
        authority: String,
        /// The resource. Without it, the vault's own.
        resource: Option<String>,
    },
}

impl Kind {
    /// Creates an error with a status and the service's own message.
    pub fn status(code: u16) -> Self {
        Self::Status { code, message: None }
    }

    /// Returns the name used in the journal.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Throttle { .. } => "throttle",
            Self::Status { .. } => "status",
            Self::Reset { .. } => "reset",
            Self::Slow { .. } => "slow",
            Self::EndlessPages => "endless-pages",
            Self::ForeignNextLink { .. } => "foreign-next-link",
            Self::Huge { .. } => "huge",
            Self::ContentType { .. } => "content-type",
            Self::Redirect { .. } => "redirect",
            Self::ForeignChallenge { .. } => "foreign-challenge",
        }
    }

    /// Returns whether the fault affects requests with a token. A client's first request to a vault
    /// has no token, and must not use up a fault meant for the n-th call.
    fn wants_token(&self) -> bool {
        !matches!(self, Self::ForeignChallenge { .. })
    }
}

/// A fault and the requests that it affects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fault {
    /// The kind.
    pub what: Kind,
    /// The affected service.
    #[serde(default)]
    pub service: Service,
    /// The affected method.
    #[serde(default)]
    pub method: Option<String>,
    /// The affected prefix of paths, such as `/secrets/db-`.
    #[serde(default)]
    pub path: Option<String>,
    /// The number of requests that pass first.
    #[serde(default)]
    pub skip: u64,
    /// The number of occurrences. Without it, until the fault is cleared.
    #[serde(default)]
    pub times: Option<u64>,
    /// The probability from 0 to 1, drawn from the server's seed.
    #[serde(default = "always")]
    pub probability: f64,
    /// Whether it affects requests to the vault with a token (`true`) or without (`false`). The
    /// default is with a token, and for a challenge without.
    #[serde(default)]
    pub token: Option<bool>,
}

fn always() -> f64 {
    1.0
}

impl Fault {
    /// Creates a fault that affects every request to the vault.
    pub fn new(what: Kind) -> Self {
        Self {
            what,
            service: Service::Vault,
            method: None,
            path: None,
            skip: 0,
            times: None,
            probability: 1.0,
            token: None,
        }
    }

    /// Limits the number of occurrences.
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Limits the fault to paths with this prefix.
    pub fn path(self, path: &str) -> Self {
        Self { path: Some(path.to_owned()), ..self }
    }

    /// Moves the fault to another service.
    pub fn at(self, service: Service) -> Self {
        Self { service, ..self }
    }

    fn matches(&self, service: Service, method: &str, path: &str, token: bool) -> bool {
        self.service == service
            && self.times != Some(0)
            && self.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && self.path.as_ref().is_none_or(|wanted| path.starts_with(wanted))
            && (service != Service::Vault || self.token.unwrap_or_else(|| self.what.wants_token()) == token)
    }
}

pub(crate) struct Faults {
    list: Mutex<Vec<Fault>>,
    random: Mutex<SmallRng>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { list: Mutex::default(), random: Mutex::new(SmallRng::seed_from_u64(seed)) }
    }

    pub(crate) fn add(&self, fault: Fault) {
        lock(&self.list).push(fault);
    }

    pub(crate) fn clear(&self) {
        lock(&self.list).clear();
    }

    /// Returns the fault for a request, if any: the first that matches, whose count is decreased.
    pub(crate) fn take(&self, service: Service, method: &str, path: &str, token: bool) -> Option<Kind> {
        let mut list = lock(&self.list);
        for fault in list.iter_mut().filter(|fault| fault.matches(service, method, path, token)) {
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            if fault.probability < 1.0 && !lock(&self.random).gen_bool(fault.probability.clamp(0.0, 1.0)) {
                continue;
            }
            if let Some(times) = &mut fault.times {
                *times -= 1;
            }
            return Some(fault.what.clone());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(faults: &Faults, path: &str) -> Option<Kind> {
        faults.take(Service::Vault, "GET", path, true)
    }

    #[test]
    fn fault_affects_only_matching_requests_and_counts() {
        let faults = Faults::new(0);
        faults.add(Fault { skip: 1, ..Fault::new(Kind::status(503)).path("/secrets/a").times(2) });
        assert_eq!(get(&faults, "/secrets/b"), None);
        assert_eq!(get(&faults, "/secrets/a"), None, "the first request was affected");
        assert_eq!(faults.take(Service::Vault, "GET", "/secrets/a", false), None, "without a token");
        assert_eq!(faults.take(Service::Authority, "GET", "/secrets/a", true), None);
        assert!(get(&faults, "/secrets/a").is_some() && get(&faults, "/secrets/a").is_some());
        assert_eq!(get(&faults, "/secrets/a"), None);
    }

    #[test]
    fn same_seed_gives_the_same_faults() {
        let affected = |seed| {
            let faults = Faults::new(seed);
            faults.add(Fault { probability: 0.3, ..Fault::new(Kind::EndlessPages) });
            (0..200).map(|_| get(&faults, "/").is_some()).collect::<Vec<_>>()
        };
        let count = affected(7).into_iter().filter(|is_affected| *is_affected).count();
        assert!((30..90).contains(&count), "{count} of 200");
        assert_eq!(affected(7), affected(7));
        assert_ne!(affected(7), affected(8));
    }
}
