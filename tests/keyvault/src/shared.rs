//! State shared between the services.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::faults::Faults;
use crate::journal::Journal;
use crate::lock;
use crate::principals::{Action, Identity, Permission, Principal, uuid};
use crate::service::Service;
use crate::tokens::{Access, EXCHANGE, Federated, Signer, issuer};
use crate::vault::Store;

/// Options for starting a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names in the certificate besides `localhost`, `127.0.0.1` and `::1`, such as
    /// `*.vault.azure.net` for a client with its own name resolution.
    pub names: Vec<String>,
    /// The resource in the vault's challenge, and the required audience of tokens.
    pub resource: String,
    /// The seed for faults with a probability.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { names: Vec::new(), resource: "https://vault.azure.net".to_owned(), seed: 0 }
    }
}

/// Settings that can change while the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// The duration of a deletion in seconds, on the server's clock.
    pub deletion_takes: i64,
    /// The duration of a recovery in seconds.
    pub recovery_takes: i64,
    /// The time in seconds for which a purged name stays unavailable.
    pub purge_takes: i64,
    /// The number of days for which a deleted secret can be recovered: 7 to 90.
    pub retention_days: i64,
    /// The lifetime of a token in seconds.
    pub token_lifetime: i64,
    /// The maximum number of items on a page, if the client does not request fewer.
    pub page_size: usize,
    /// Whether a list starts with an empty page that links to another one.
    pub empty_page_first: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            deletion_takes: 0,
            recovery_takes: 0,
            purge_takes: 0,
            retention_days: 90,
            token_lifetime: 3599,
            page_size: 25,
            empty_page_first: false,
        }
    }
}

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) tenant: String,
    pub(crate) clock: Clock,
    pub(crate) settings: Mutex<Settings>,
    pub(crate) principals: Mutex<Vec<Principal>>,
    pub(crate) store: Mutex<Store>,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    /// The authority's key.
    pub(crate) signer: Signer,
    /// The key of the cluster whose workloads exchange tokens. Created on first use, because that
    /// takes a while and few tests need it.
    cluster: OnceLock<Signer>,
    addresses: OnceLock<[SocketAddr; 4]>,
    tokens: AtomicU64,
}

/// The issuer of federated tokens.
pub(crate) const CLUSTER: &str = "https://cluster.example/";

impl Shared {
    pub(crate) fn new(options: Options, signer: Signer) -> Self {
        Self {
            faults: Faults::new(options.seed),
            options,
            tenant: uuid(),
            clock: Clock::new(),
            settings: Mutex::default(),
            principals: Mutex::new(initial_principals()),
            store: Mutex::default(),
            journal: Journal::default(),
            signer,
            cluster: OnceLock::new(),
            addresses: OnceLock::new(),
            tokens: AtomicU64::new(0),
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        *lock(&self.settings)
    }

    pub(crate) fn set_addresses(&self, addresses: [SocketAddr; 4]) {
        let _ = self.addresses.set(addresses);
    }

    /// Returns the URL of a service, with a host name that the certificate contains.
    pub(crate) fn url(&self, service: Service) -> String {
        let port = self.addresses.get().map_or(0, |[vault, authority, metadata, admin]| {
            match service {
                Service::Vault => vault,
                Service::Authority => authority,
                Service::Metadata => metadata,
                Service::Admin => admin,
            }
            .port()
        });
        match service.tls() {
            true => format!("https://localhost:{port}"),
            false => format!("http://127.0.0.1:{port}"),
        }
    }

    /// Returns a copy of the first principal that matches.
    pub(crate) fn principal(&self, matches: impl Fn(&Principal) -> bool) -> Option<Principal> {
        lock(&self.principals).iter().find(|principal| matches(principal)).cloned()
    }

    /// Returns the number of the newest token.
    pub(crate) fn newest_token(&self) -> u64 {
        self.tokens.load(Ordering::SeqCst)
    }

    /// Creates an access token for a principal, and returns it with its claims.
    pub(crate) fn access_token(&self, principal: &Principal, audience: &str) -> std::io::Result<(String, Access)> {
        let now = self.clock.now();
        let claims = Access {
            aud: audience.to_owned(),
            iss: issuer(&self.tenant),
            iat: now,
            // Microsoft's tokens are valid from five minutes earlier, for clocks that are behind.
            nbf: now - 300,
            exp: now + self.settings().token_lifetime,
            appid: principal.client_id.clone(),
            oid: principal.object_id.clone(),
            sub: principal.object_id.clone(),
            tid: self.tenant.clone(),
            uti: (self.tokens.fetch_add(1, Ordering::SeqCst) + 1).to_string(),
            ver: "1.0".to_owned(),
        };
        Ok((self.signer.sign(&claims)?, claims))
    }

    /// Returns the cluster's key.
    pub(crate) fn cluster(&self) -> std::io::Result<&Signer> {
        if let Some(signer) = self.cluster.get() {
            return Ok(signer);
        }
        let signer = Signer::new()?;
        Ok(self.cluster.get_or_init(|| signer))
    }

    /// Returns the token that a cluster would write to a workload's file.
    pub(crate) fn federated_token(&self, subject: &str) -> std::io::Result<String> {
        let now = self.clock.now();
        self.cluster()?.sign(&Federated {
            iss: CLUSTER.to_owned(),
            sub: subject.to_owned(),
            aud: vec![EXCHANGE.to_owned()],
            iat: now,
            nbf: now,
            exp: now + 3600,
        })
    }
}

/// Returns the initial principals: an application with all permissions, and two managed identities
/// with read permissions.
fn initial_principals() -> Vec<Principal> {
    let new = |name: &str, identity, actions: &[Action]| Principal {
        client_secret: None,
        identity,
        ..Principal::application(name, Permission::on_vault(actions))
    };
    let reader = [Action::Get, Action::ReadMetadata];
    let resource = "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/test/providers/Microsoft.ManagedIdentity/userAssignedIdentities/user-assigned";
    vec![
        Principal {
            subject: Some("system:serviceaccount:training:strongroom".to_owned()),
            ..Principal::application("application", Permission::on_vault(&Action::ALL))
        },
        new("system-assigned", Some(Identity::System), &reader),
        new("user-assigned", Some(Identity::User(resource.to_owned())), &reader),
    ]
}
