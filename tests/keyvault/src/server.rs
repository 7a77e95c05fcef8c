//! A server and its controls. The admin port offers the same to tests in other programs.

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

/// The credentials of an application. Not `Debug`, because it contains the secret.
#[derive(Clone)]
pub struct Client {
    /// The application's client ID.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

/// A running server with its own threads. It stops when it is dropped.
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
        let (authority_certificate, tls) = certificates::create(&names)?;
        let signer = Signer::new()?;

        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().thread_name("keyvault").build()?;
        let shared = Arc::new(Shared::new(options, signer));
        let listeners = {
            let _context = runtime.enter();
            let listeners = Arc::new(Listeners::reserve(tls)?);
            shared.set_addresses(listeners.addresses());
            for service in Service::ALL {
                listeners.open(&shared, service)?;
            }
            listeners
        };
        Ok(Self { shared, listeners, authority_certificate, runtime: Some(runtime) })
    }

    /// Returns the vault's URL, such as `https://localhost:40001`.
    pub fn vault_url(&self) -> String {
        self.shared.url(Service::Vault)
    }

    /// Returns the URL of the token authority, without a tenant.
    pub fn authority_url(&self) -> String {
        self.shared.url(Service::Authority)
    }

    /// Returns the URL that replaces `http://169.254.169.254`.
    pub fn metadata_url(&self) -> String {
        self.shared.url(Service::Metadata)
    }

    /// Returns the URL of the admin port.
    pub fn admin_url(&self) -> String {
        self.shared.url(Service::Admin)
    }

    /// Returns the certificate that clients have to trust, as PEM.
    pub fn authority_certificate(&self) -> &str {
        &self.authority_certificate
    }

    /// Returns the tenant of the vault and the authority.
    pub fn tenant(&self) -> &str {
        &self.shared.tenant
    }

    /// Returns the initial application, which has all permissions.
    pub fn client(&self) -> Client {
        let principal = self.shared.principal(|principal| principal.client_secret.is_some());
        principal.map_or_else(|| Client { id: String::new(), secret: String::new() }, |principal| client(&principal))
    }

    /// Adds an application with these permissions.
    pub fn add_client(&self, name: &str, permissions: Vec<Permission>) -> Client {
        let principal = Principal::application(name, permissions);
        let client = client(&principal);
        lock(&self.shared.principals).push(principal);
        client
    }

    /// Returns the IDs of the user-assigned identity: client, object, resource.
    pub fn user_assigned(&self) -> (String, String, String) {
        let principal = self.shared.principal(|principal| matches!(principal.identity, Some(Identity::User(_))));
        match principal {
            Some(Principal { client_id, object_id, identity: Some(Identity::User(resource)), .. }) => {
                (client_id, object_id, resource)
            }
            _ => Default::default(),
        }
    }

    /// Returns a token for the application's federated token file, as a cluster signs it. It is
    /// valid for an hour.
    pub fn federated_token(&self) -> io::Result<String> {
        let subject =
            self.shared.principal(|principal| principal.subject.is_some()).and_then(|principal| principal.subject);
        self.shared.federated_token(&subject.unwrap_or_default())
    }

    /// Creates a certificate for the application and returns it with its key as PEM. A previous one
    /// is no longer accepted.
    pub fn client_certificate(&self) -> io::Result<String> {
        self.shared.client_certificate()
    }

    /// Replaces the permissions of a principal, given by client ID or by its name in the journal.
    pub fn permit(&self, client: &str, permissions: Vec<Permission>) -> bool {
        self.shared.change(client, |principal| principal.permissions = permissions)
    }

    /// Disables or enables a principal. Existing tokens stay valid, as without continuous access
    /// evaluation.
    pub fn disable(&self, client: &str, disabled: bool) -> bool {
        self.shared.change(client, |principal| principal.disabled = disabled)
    }

    /// Revokes a principal's existing tokens, as with continuous access evaluation.
    pub fn revoke_tokens(&self, client: &str) -> bool {
        let newest = self.shared.newest_token();
        self.shared.change(client, |principal| principal.revoked = newest)
    }

    /// Stores a secret without authentication.
    pub fn put(&self, name: &str, value: &str) -> bool {
        self.shared.put(name, Change { value: Some(value.to_owned()), ..Change::default() })
    }

    /// Returns the clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Returns the settings.
    pub fn settings(&self) -> Settings {
        self.shared.settings()
    }

    /// Replaces the settings.
    pub fn configure(&self, settings: Settings) {
        *lock(&self.shared.settings) = settings;
    }

    /// Adds a fault. The first that matches a request takes effect.
    pub fn fault(&self, fault: Fault) {
        self.shared.faults.add(fault);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Returns all requests since the start or the last time the journal was cleared.
    pub fn journal(&self) -> Vec<Entry> {
        self.shared.journal.entries()
    }

    /// Returns the counters.
    pub fn counters(&self) -> Counters {
        self.shared.journal.counters()
    }

    /// Clears the journal and the counters.
    pub fn clear_journal(&self) {
        self.shared.journal.clear();
    }

    /// Opens or closes a service's port. Closing refuses further connections and drops open ones.
    pub fn listen(&self, service: Service, open: bool) -> io::Result<()> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        if open {
            let _context = runtime.enter();
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
        let principal = principals
            .iter_mut()
            .find(|principal| principal.client_id.eq_ignore_ascii_case(client) || principal.name == client);
        principal.map(change).is_some()
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
