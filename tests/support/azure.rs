//! The library with the Key Vault test server as its vault; and a gate before a vault, so that events decide when runs go on, and no times.

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
    /// This server as a vault of the library, signed in as the application that may do everything.
    pub(crate) fn vault(&self) -> AzureVault {
        let told = self.told();
        let host = told.vault.strip_prefix("https://").expect("the vault speaks TLS").to_owned();
        let emulator = Emulator {
            host,
            ca_file: told.ca_file.clone(),
            authority: Some(told.authority.clone()),
            metadata: Some(told.metadata.clone()),
        };
        let exceptions = Exceptions { authority: None, emulator: Some(emulator) };
        let place = VaultLocation::parse(&told.vault, &exceptions).expect("the place of a vault");
        let credential = CredentialSettings {
            kind: CredentialKind::ClientSecret,
            tenant_id: Some(told.tenant.clone()),
            client_id: Some(told.client_id.clone()),
            client_secret_file: Some(told.client_secret_file.clone()),
            ..CredentialSettings::default()
        };
        AzureVault::open(place, &credential).expect("a vault")
    }

    /// The same behind a cache.
    pub(crate) fn cached(&self, settings: Settings) -> Arc<dyn Vault> {
        Arc::new(Cache::new(Arc::new(self.vault()), settings))
    }

    /// How many requests of a kind there were, such as `get-secret`.
    pub(crate) fn count(&self, kind: &str) -> u64 {
        self.counters()["requests"][kind].as_u64().unwrap_or(0)
    }
}

/// A vault before which reads wait until the test lets them pass: those of certain names, as the component asks for them.
pub(crate) struct Gate {
    inner: Arc<dyn Vault>,
    places: Vec<Waiting>,
}

struct Waiting {
    name: &'static str,
    come: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

impl Gate {
    /// Reads of a name that begins like one of these wait.
    pub(crate) fn new(inner: Arc<dyn Vault>, names: &[&'static str]) -> Arc<Self> {
        let waiting =
            |name: &&'static str| Waiting { name, come: watch::Sender::new(0), open: watch::Sender::new(false) };
        Arc::new(Self { inner, places: names.iter().map(waiting).collect() })
    }

    fn of(&self, name: &str) -> Option<&Waiting> {
        self.places.iter().find(|place| name.starts_with(place.name))
    }

    /// Returns when so many reads have come to a name's gate.
    pub(crate) async fn gathered(&self, name: &str, count: usize) {
        let mut come = self.of(name).expect("a gate").come.subscribe();
        come.wait_for(|come| *come >= count).await.expect("the gate stands");
    }

    /// From now on nobody waits for this name.
    pub(crate) fn open(&self, name: &str) {
        self.of(name).expect("a gate").open.send_replace(true);
    }

    async fn pass(&self, grant: &Grant) {
        if let Some(place) = self.of(grant.asked().as_str()) {
            place.come.send_modify(|come| *come += 1);
            place.open.subscribe().wait_for(|open| *open).await.expect("the gate stands");
        }
    }
}

#[async_trait]
impl Vault for Gate {
    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    fn cached(&self, grant: &Grant) -> Option<Result<Stored, VaultError>> {
        match self.of(grant.asked().as_str()) {
            Some(place) if !*place.open.borrow() => None,
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
