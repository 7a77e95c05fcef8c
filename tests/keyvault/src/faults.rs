//! Faults on demand: what goes wrong, for which requests, how often.

use std::sync::Mutex;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::lock;
use crate::service::Service;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// 429 with the body that Key Vault sends.
    Throttle {
        /// Seconds in `Retry-After`; without it the header is left out.
        retry_after: Option<u64>,
    },
    /// An error of any status.
    Status {
        /// The status.
        code: u16,
        /// What the error says, instead of the service's own words.
        message: Option<String>,
    },
    /// The connection is reset.
    Reset {
        /// After so many bytes of the body; without it, before the reply.
        after: Option<usize>,
    },
    /// The reply is late.
    Slow {
        /// By so much of the machine's time.
        milliseconds: u64,
        /// After the header and so many bytes of the body; without it, before the reply.
        after: Option<usize>,
    },
    /// Every page of a list has a next one.
    EndlessPages,
    /// The next page is said to be at another host.
    ForeignNextLink {
        /// The origin, such as `https://127.0.0.1:9`.
        to: String,
    },
    /// A reply that begins like a secret and goes on.
    Huge {
        /// For so many bytes.
        bytes: u64,
        /// Whether the header says how many.
        declared: bool,
    },
    /// Another type of content.
    ContentType {
        /// The type.
        value: String,
        /// Another body too.
        body: Option<String>,
    },
    /// 307 to another place.
    Redirect {
        /// The origin; path and query are kept.
        to: String,
    },
    /// A 401 that names an authority, or a resource, of somebody else.
    ForeignChallenge {
        /// The authority, with a tenant in its path.
        authority: String,
        /// The resource; without it, the vault's own.
        resource: Option<String>,
    },
}

impl Kind {
    /// An error of a status, in the service's own words.
    pub fn status(code: u16) -> Self {
        Self::Status { code, message: None }
    }

    /// Its name, in the journal.
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

    /// Whether it is for requests that carry a token. A client's first request to a vault carries none: a fault that is to hit the n-th call
    /// must not be used up by it.
    fn wants_token(&self) -> bool {
        !matches!(self, Self::ForeignChallenge { .. })
    }
}

/// A fault and when it strikes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fault {
    /// What goes wrong.
    pub what: Kind,
    /// Whose requests.
    #[serde(default)]
    pub service: Service,
    /// Requests with this method.
    #[serde(default)]
    pub method: Option<String>,
    /// Requests whose path begins like this, such as `/secrets/db-`.
    #[serde(default)]
    pub path: Option<String>,
    /// Requests that pass before it begins.
    #[serde(default)]
    pub skip: u64,
    /// How often; without it, until it is cleared.
    #[serde(default)]
    pub times: Option<u64>,
    /// How likely, from 0 to 1. The numbers come from the server's seed.
    #[serde(default = "always")]
    pub probability: f64,
    /// Requests of the vault with a token (`true`) or without (`false`). By default those with one, and for a challenge those without.
    #[serde(default)]
    pub token: Option<bool>,
}

fn always() -> f64 {
    1.0
}

impl Fault {
    /// A fault that strikes at every request of the vault.
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

    /// So many times.
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// At paths that begin like this.
    pub fn path(self, path: &str) -> Self {
        Self { path: Some(path.to_owned()), ..self }
    }

    /// At another service.
    pub fn at(self, service: Service) -> Self {
        Self { service, ..self }
    }

    fn fits(&self, service: Service, method: &str, path: &str, token: bool) -> bool {
        self.service == service
            && self.times != Some(0)
            && self.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && self.path.as_ref().is_none_or(|wanted| path.starts_with(wanted))
            && (service != Service::Vault || self.token.unwrap_or_else(|| self.what.wants_token()) == token)
    }
}

pub(crate) struct Faults {
    list: Mutex<Vec<Fault>>,
    chance: Mutex<SmallRng>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { list: Mutex::default(), chance: Mutex::new(SmallRng::seed_from_u64(seed)) }
    }

    pub(crate) fn add(&self, fault: Fault) {
        lock(&self.list).push(fault);
    }

    pub(crate) fn clear(&self) {
        lock(&self.list).clear();
    }

    /// The fault for a request: the first that fits, counted off.
    pub(crate) fn take(&self, service: Service, method: &str, path: &str, token: bool) -> Option<Kind> {
        let mut list = lock(&self.list);
        for fault in list.iter_mut().filter(|fault| fault.fits(service, method, path, token)) {
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            if fault.probability < 1.0 && !lock(&self.chance).gen_bool(fault.probability.clamp(0.0, 1.0)) {
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
    fn a_fault_strikes_where_and_as_often_as_it_says() {
        let faults = Faults::new(0);
        faults.add(Fault { skip: 1, ..Fault::new(Kind::status(503)).path("/secrets/a").times(2) });
        assert_eq!(get(&faults, "/secrets/b"), None);
        assert_eq!(get(&faults, "/secrets/a"), None, "the first passes");
        assert_eq!(faults.take(Service::Vault, "GET", "/secrets/a", false), None, "without a token");
        assert_eq!(faults.take(Service::Authority, "GET", "/secrets/a", true), None);
        assert!(get(&faults, "/secrets/a").is_some() && get(&faults, "/secrets/a").is_some());
        assert_eq!(get(&faults, "/secrets/a"), None);
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let strikes = |seed| {
            let faults = Faults::new(seed);
            faults.add(Fault { probability: 0.3, ..Fault::new(Kind::EndlessPages) });
            (0..200).map(|_| get(&faults, "/").is_some()).collect::<Vec<_>>()
        };
        let some = strikes(7).into_iter().filter(|strike| *strike).count();
        assert!((30..90).contains(&some), "{some} of 200");
        assert_eq!(strikes(7), strikes(7));
        assert_ne!(strikes(7), strikes(8));
    }
}
