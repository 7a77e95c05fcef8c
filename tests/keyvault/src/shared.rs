//! What the services share.

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

/// How a server is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names for the certificate beyond `localhost`, `127.0.0.1` and `::1`, such as `*.vault.azure.net` for a client that resolves names
    /// itself.
    pub names: Vec<String>,
    /// The resource that the vault names in its challenge, and the audience that it wants in tokens.
    pub resource: String,
    /// For faults that strike with a probability, and nothing else.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { names: Vec::new(), resource: "https://vault.azure.net".to_owned(), seed: 0 }
    }
}

/// What can be changed while the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Seconds that a deletion takes, by the server's clock.
    pub deletion_takes: i64,
    /// Seconds that a recovery takes.
    pub recovery_takes: i64,
    /// Seconds for which a purged name cannot be used.
    pub purge_takes: i64,
    /// Days for which what was deleted can be recovered: 7 to 90.
    pub retention_days: i64,
    /// Seconds for which a token is good.
    pub token_lifetime: i64,
    /// The most items of a page, where the client asks for no fewer.
    pub page_size: usize,
    /// Whether a list begins with a page that is empty and has a next one.
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
    /// Of the authority.
    pub(crate) signer: Signer,
    /// Of the cluster whose workloads exchange tokens. Made when it is first wanted: a key takes a while, and few tests want this one.
    cluster: OnceLock<Signer>,
    addresses: OnceLock<[SocketAddr; 4]>,
    tokens: AtomicU64,
}

/// Of the cluster that signs federated tokens.
pub(crate) const CLUSTER: &str = "https://cluster.example/";

impl Shared {
    pub(crate) fn new(options: Options, signer: Signer) -> Self {
        Self {
            faults: Faults::new(options.seed),
            options,
            tenant: uuid(),
            clock: Clock::new(),
            settings: Mutex::default(),
            principals: Mutex::new(first_principals()),
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

    pub(crate) fn listening(&self, addresses: [SocketAddr; 4]) {
        let _ = self.addresses.set(addresses);
    }

    /// Where a service is. The name is one of the certificate's.
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

    /// A copy of the principal that fits.
    pub(crate) fn principal(&self, fits: impl Fn(&Principal) -> bool) -> Option<Principal> {
        lock(&self.principals).iter().find(|principal| fits(principal)).cloned()
    }

    /// The number of the newest token.
    pub(crate) fn newest_token(&self) -> u64 {
        self.tokens.load(Ordering::SeqCst)
    }

    /// A new access token for a principal, and how long it is good.
    pub(crate) fn access_token(&self, principal: &Principal, audience: &str) -> std::io::Result<(String, Access)> {
        let now = self.clock.now();
        let claims = Access {
            aud: audience.to_owned(),
            iss: issuer(&self.tenant),
            iat: now,
            // Microsoft's tokens begin five minutes early, for clocks that are behind.
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

    /// The cluster's key.
    pub(crate) fn cluster(&self) -> std::io::Result<&Signer> {
        if let Some(signer) = self.cluster.get() {
            return Ok(signer);
        }
        let signer = Signer::new()?;
        Ok(self.cluster.get_or_init(|| signer))
    }

    /// What a cluster would put into the file of a workload.
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

/// Those that a server begins with: an application that may do everything, and two managed identities that may read.
fn first_principals() -> Vec<Principal> {
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
