//! A server: its start, its addresses, and everything a test steers it by. The same is at the admin port for tests in other programs.

use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use crate::certificates;
use crate::clock::Clock;
use crate::faults::Fault;
use crate::journal::{Counters, Entry};
use crate::listener::Listeners;
use crate::lock;
use crate::principals::{Identity, Permission, Principal};
use crate::service::Service;
use crate::shared::{Options, Settings, Shared};
use crate::tokens::{Certificate, Signer};
use crate::vault::{Change, Now};

/// An application, as a test needs it to log in. No `Debug`: it holds the client's secret.
#[derive(Clone)]
pub struct Client {
    /// The application's identifier.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

/// A running server, on threads of its own. It stops when it is dropped.
pub struct Server {
    shared: Arc<Shared>,
    listeners: Arc<Listeners>,
    authority_certificate: String,
    runtime: Option<Runtime>,
}

impl Server {
    /// Starts a server on free ports of loopback.
    pub fn start(options: Options) -> io::Result<Self> {
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(ToOwned::to_owned).to_vec();
        names.extend(options.names.iter().cloned());
        let (authority_certificate, tls) = certificates::make(&names)?;
        let signer = Signer::new()?;

        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().thread_name("keyvault").build()?;
        let shared = Arc::new(Shared::new(options, signer));
        let listeners = {
            let _inside = runtime.enter();
            let listeners = Arc::new(Listeners::reserve(tls)?);
            shared.listening(listeners.addresses());
            for service in Service::ALL {
                listeners.open(&shared, service)?;
            }
            listeners
        };
        Ok(Self { shared, listeners, authority_certificate, runtime: Some(runtime) })
    }

    /// The vault, such as `https://localhost:40001`.
    pub fn vault_url(&self) -> String {
        self.shared.url(Service::Vault)
    }

    /// The token endpoint's host; the tenant follows in the path.
    pub fn authority_url(&self) -> String {
        self.shared.url(Service::Authority)
    }

    /// What answers in place of `http://169.254.169.254`.
    pub fn metadata_url(&self) -> String {
        self.shared.url(Service::Metadata)
    }

    /// Where programs steer the server.
    pub fn admin_url(&self) -> String {
        self.shared.url(Service::Admin)
    }

    /// The certificate that clients have to trust, as PEM.
    pub fn authority_certificate(&self) -> &str {
        &self.authority_certificate
    }

    /// The directory that vault and authority belong to.
    pub fn tenant(&self) -> &str {
        &self.shared.tenant
    }

    /// The application that the server begins with. It may do everything.
    pub fn client(&self) -> Client {
        let find = self.shared.principal(|principal| principal.client_secret.is_some());
        find.map_or_else(|| Client { id: String::new(), secret: String::new() }, |principal| client(&principal))
    }

    /// Another application, with these permissions.
    pub fn add_client(&self, name: &str, permissions: Vec<Permission>) -> Client {
        let principal = Principal::application(name, permissions);
        let client = client(&principal);
        lock(&self.shared.principals).push(principal);
        client
    }

    /// The identifiers of the user-assigned identity: client, object, resource.
    pub fn user_assigned(&self) -> (String, String, String) {
        let found = self.shared.principal(|principal| matches!(principal.identity, Some(Identity::User(_))));
        match found {
            Some(Principal { client_id, object_id, identity: Some(Identity::User(resource)), .. }) => {
                (client_id, object_id, resource)
            }
            _ => Default::default(),
        }
    }

    /// A token for the application's federated-token file, as a cluster signs it. It is good for an hour.
    pub fn federated_token(&self) -> io::Result<String> {
        let subject = self.shared.principal(|principal| principal.subject.is_some()).and_then(|found| found.subject);
        self.shared.federated_token(&subject.unwrap_or_default())
    }

    /// A new certificate for the application, with its key, as PEM. A former one is taken no longer.
    pub fn client_certificate(&self) -> io::Result<String> {
        self.shared.client_certificate()
    }

    /// What a principal may do from now on. `client` is a client identifier, or the name in the journal.
    pub fn permit(&self, client: &str, permissions: Vec<Permission>) -> bool {
        self.shared.change(client, |principal| principal.permissions = permissions)
    }

    /// No token for it from now on, or again. The tokens that are out stay good, as without continuous access evaluation.
    pub fn disable(&self, client: &str, disabled: bool) -> bool {
        self.shared.change(client, |principal| principal.disabled = disabled)
    }

    /// The vault takes no token of it that was made until now, as with continuous access evaluation.
    pub fn revoke_tokens(&self, client: &str) -> bool {
        let newest = self.shared.newest_token();
        self.shared.change(client, |principal| principal.revoked = newest)
    }

    /// Sets a secret past all checks of who asks.
    pub fn put(&self, name: &str, value: &str) -> bool {
        self.shared.put(name, Change { value: Some(value.to_owned()), ..Change::default() })
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// What is set.
    pub fn settings(&self) -> Settings {
        self.shared.settings()
    }

    /// Sets it.
    pub fn configure(&self, settings: Settings) {
        *lock(&self.shared.settings) = settings;
    }

    /// Adds a fault. Of several the first that fits a request strikes.
    pub fn fault(&self, fault: Fault) {
        self.shared.faults.add(fault);
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Every request since the start, or since the journal was cleared.
    pub fn journal(&self) -> Vec<Entry> {
        self.shared.journal.lines()
    }

    /// The counts.
    pub fn counters(&self) -> Counters {
        self.shared.journal.counters()
    }

    /// Clears journal and counts.
    pub fn clear_journal(&self) {
        self.shared.journal.clear();
    }

    /// Opens a service's port again, or closes it: connections are then refused, and those that were open are gone.
    pub fn listen(&self, service: Service, open: bool) -> io::Result<()> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        if open {
            let _inside = runtime.enter();
            return self.listeners.open(&self.shared, service);
        }
        let (listeners, (done, wait)) = (self.listeners.clone(), std::sync::mpsc::channel());
        runtime.spawn(async move {
            listeners.close(service).await;
            let _ = done.send(());
        });
        wait.recv().map_err(io::Error::other)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn client(principal: &Principal) -> Client {
    Client { id: principal.client_id.clone(), secret: principal.client_secret.clone().unwrap_or_default() }
}

impl Shared {
    pub(crate) fn change(&self, client: &str, change: impl FnOnce(&mut Principal)) -> bool {
        let mut principals = lock(&self.principals);
        let found = principals.iter_mut().find(|one| one.client_id.eq_ignore_ascii_case(client) || one.name == client);
        found.map(change).is_some()
    }

    pub(crate) fn client_certificate(&self) -> io::Result<String> {
        let certificate = Arc::new(Certificate::new()?);
        self.change("application", |principal| principal.certificate = Some(certificate.clone()));
        Ok(certificate.pem.clone())
    }

    pub(crate) fn put(&self, name: &str, change: Change) -> bool {
        let origin = self.url(Service::Vault);
        let now = Now { at: self.clock.now(), settings: self.settings(), origin: &origin };
        crate::vault::name_is_valid(name) && lock(&self.store).set(name, change, now).is_ok()
    }
}
