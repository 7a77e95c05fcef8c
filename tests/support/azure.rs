//! The library with the Key Vault test server as its vault; and a gate that lets tests order
//! concurrent reads without timing.

use std::sync::Arc;

use async_trait::async_trait;
use strongroom::ids::SecretName;
use strongroom::policy::{Grant, ListGrant};
use strongroom::secret::Secret;
use strongroom::vault::cache::{Cache, Settings};
use strongroom::vault::{Abilities, Description, Missing, Stored, Vault, VaultError};
use strongroom_vault_azure::{AzureVault, CredentialKind, CredentialSettings, Emulator, Exceptions, VaultLocation};
use tokio::sync::watch;

use super::KeyVault;

impl KeyVault {
    /// Opens this server as a vault of the library, signed in as the application with all
    /// permissions.
    pub(crate) fn vault(&self) -> AzureVault {
        let info = self.info();
        let host = info.vault.strip_prefix("https://").expect("the vault speaks TLS").to_owned();
        let emulator = Emulator {
            host,
            ca_file: info.ca_file.clone(),
            authority: Some(info.authority.clone()),
            metadata: Some(info.metadata.clone()),
        };
        let exceptions = Exceptions { authority: None, emulator: Some(emulator) };
        let place = VaultLocation::parse(&info.vault, &exceptions).expect("a vault address");
        let credential = CredentialSettings {
            kind: CredentialKind::ClientSecret,
            tenant_id: Some(info.tenant.clone()),
            client_id: Some(info.client_id.clone()),
            client_secret_file: Some(info.client_secret_file.clone()),
            ..CredentialSettings::default()
        };
        AzureVault::open(place, &credential).expect("a vault")
    }

    /// Opens the vault with a cache in front of it.
    pub(crate) fn cached(&self, settings: Settings) -> Arc<dyn Vault> {
        Arc::new(Cache::new(Arc::new(self.vault()), settings))
    }

    /// Returns the number of requests of a kind, such as `get-secret`.
    pub(crate) fn count(&self, kind: &str) -> u64 {
        self.counters()["requests"][kind].as_u64().unwrap_or(0)
    }
}

/// A vault whose reads of certain names block until the test opens the gate. Names are those that
/// the component requests.
pub(crate) struct Gate {
    inner: Arc<dyn Vault>,
    gates: Vec<NameGate>,
}

struct NameGate {
    prefix: &'static str,
    arrived: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

impl Gate {
    /// Blocks reads of names that start with one of `names`.
    pub(crate) fn new(inner: Arc<dyn Vault>, names: &[&'static str]) -> Arc<Self> {
        let gate = |prefix: &&'static str| NameGate {
            prefix,
            arrived: watch::Sender::new(0),
            open: watch::Sender::new(false),
        };
        Arc::new(Self { inner, gates: names.iter().map(gate).collect() })
    }

    fn gate(&self, name: &str) -> Option<&NameGate> {
        self.gates.iter().find(|gate| name.starts_with(gate.prefix))
    }

    /// Waits until `count` reads have arrived at a name's gate.
    pub(crate) async fn wait_for_arrivals(&self, name: &str, count: usize) {
        let mut arrived = self.gate(name).expect("a gate").arrived.subscribe();
        arrived.wait_for(|arrived| *arrived >= count).await.expect("the gate exists");
    }

    /// Lets all reads of this name pass from now on.
    pub(crate) fn open(&self, name: &str) {
        self.gate(name).expect("a gate").open.send_replace(true);
    }

    async fn pass(&self, grant: &Grant) {
        if let Some(gate) = self.gate(grant.asked().as_str()) {
            gate.arrived.send_modify(|arrived| *arrived += 1);
            gate.open.subscribe().wait_for(|open| *open).await.expect("the gate exists");
        }
    }
}

#[async_trait]
impl Vault for Gate {
    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    fn cached(&self, grant: &Grant) -> Option<Result<Stored, VaultError>> {
        match self.gate(grant.asked().as_str()) {
            Some(gate) if !*gate.open.borrow() => None,
            _ => self.inner.cached(grant),
        }
    }

    async fn get(&self, grant: &Grant) -> Result<Stored, VaultError> {
        self.pass(grant).await;
        self.inner.get(grant).await
    }

    async fn get_many(&self, grants: &[Grant]) -> Result<Vec<Result<Stored, Missing>>, VaultError> {
        self.inner.get_many(grants).await
    }

    async fn describe(&self, grant: &Grant) -> Result<Description, VaultError> {
        self.inner.describe(grant).await
    }

    async fn set_many(&self, secrets: &[(Grant, Arc<Secret>)]) -> Result<Vec<Description>, VaultError> {
        self.inner.set_many(secrets).await
    }

    async fn delete_many(&self, grants: &[Grant]) -> Result<(), VaultError> {
        self.inner.delete_many(grants).await
    }

    async fn list(&self, grant: &ListGrant) -> Result<Vec<SecretName>, VaultError> {
        self.inner.list(grant).await
    }
}
