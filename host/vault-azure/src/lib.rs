//! Vault backend for Azure Key Vault.
//!
//! Calls use Microsoft's SDK. Each module below closes a gap that it leaves:
//!
//! - `location`: the vault's domain determines the audience and the authority of tokens; other
//!   domains are rejected.
//! - `guard`, `transport`: tokens are not sent to other hosts, replies are bounded in size and
//!   time, redirects are not followed.
//! - `calls`, `wire`: names are parsed before the SDK sees them, and replies are checked against
//!   requests.
//! - `batch`: a partial batch reports exactly which names were changed.
//! - `retry`: one retry policy, a rate below the vault's limits, and a circuit breaker.
//! - `error`: classifies errors by status and inner code.
//! - `credential`: the host's identity; `status`: its permissions.
//!
//! Values are moved into [`Secret`] as soon as the SDK returns them. Copies made by the SDK, TLS
//! and the kernel are not zeroized.

mod batch;
mod calls;
mod credential;
mod error;
mod guard;
mod location;
mod retry;
mod status;
mod transport;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientOptions, HttpClient, RetryOptions, Transport};
use azure_identity::Executor;
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};

use calls::Calls;
use credential::{Credential, RefusedTokens, Tools};
use error::CallError;
use guard::Guard;
use retry::RetryPolicy;
use strongroom_core::ids::{SecretName, SecretVersion};
use strongroom_core::secret::Secret;
use strongroom_policy::{Grant, ListGrant};
use strongroom_vault::{
    Abilities, Attributes, Description, Missing, NewSecret, Operator, Stored, Vault, VaultError, check_attributes,
};
use transport::Network;

pub use credential::{CredentialKind, CredentialSettings, identity_endpoint};
pub use location::{Emulator, Exceptions, VaultLocation};
pub use status::{Permission, Status};

/// Timeout of one request, including its reply.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// A Key Vault. Clones share connections, rate limits and credential.
#[derive(Clone)]
pub struct AzureVault(Arc<Inner>);

struct Inner {
    calls: Calls,
    credential: Arc<Credential>,
}

impl AzureVault {
    /// Prepares a vault for use. Sends no request, so this succeeds even if the vault does not
    /// exist.
    ///
    /// # Errors
    /// [`VaultError::Invalid`] if the credential settings are inconsistent or its files cannot be
    /// used; [`VaultError::Unavailable`] if the system has no certificate authorities.
    pub fn open(location: VaultLocation, credential: &CredentialSettings) -> Result<Self, VaultError> {
        let network = Arc::new(Network::new(&location)?);
        Self::with(location, credential, network, Arc::new(Tools), retry::Settings::default())
    }

    /// Opens a vault with any transport and tools.
    fn with(
        location: VaultLocation,
        settings: &CredentialSettings,
        network: Arc<dyn HttpClient>,
        tools: Arc<dyn Executor>,
        retry: retry::Settings,
    ) -> Result<Self, VaultError> {
        let refused = Arc::new(RefusedTokens::default());
        let endpoint = settings.identity_endpoint.clone();
        let guard = Guard::new(network, location.clone(), endpoint, Arc::clone(&refused), REQUEST_TIME);
        let guard: Arc<dyn HttpClient> = Arc::new(guard);
        let credential = Arc::new(Credential::new(settings, &location, Arc::clone(&guard), tools, refused)?);
        let options = SecretClientOptions {
            client_options: ClientOptions {
                transport: Some(Transport::new(guard)),
                // `retry` has the only retry policy.
                retry: RetryOptions::none(),
                ..Default::default()
            },
            // The guard compares audience and authority with those of the location, which is
            // stricter; the SDK's check does not support private endpoints.
            verify_challenge_resource: Some(false),
            ..Default::default()
        };
        let token: Arc<dyn TokenCredential> = Arc::clone(&credential) as _;
        let sdk = SecretClient::new(location.origin().as_str(), token, Some(options))
            .map_err(|error| CallError::of(&error).general())?;
        Ok(Self(Arc::new(Inner { calls: Calls::new(sdk, location, RetryPolicy::new(retry)), credential })))
    }

    /// Returns the vault's location.
    pub fn location(&self) -> &VaultLocation {
        self.0.calls.location()
    }

    async fn set_all(
        &self,
        secrets: Vec<(SecretName, Arc<Secret>, Attributes)>,
    ) -> Result<Vec<Description>, VaultError> {
        for (name, _, attributes) in &secrets {
            check_attributes(name, attributes)?;
        }
        let jobs = secrets.into_iter().map(|(name, value, attributes)| (name, (value, attributes))).collect();
        let inner = Arc::clone(&self.0);
        detached(batch::change(jobs, move |name, (value, attributes)| {
            let inner = Arc::clone(&inner);
            async move {
                let set = inner.calls.set(&name, &value, &attributes).await;
                set.map_err(|failure| change_error(failure, &name))
            }
        }))
        .await
    }

    async fn delete_all(&self, names: Vec<SecretName>) -> Result<(), VaultError> {
        // A component may use two names for one secret.
        let jobs = names.into_iter().collect::<BTreeSet<_>>().into_iter().map(|name| (name, ())).collect();
        let inner = Arc::clone(&self.0);
        detached(batch::change(jobs, move |name, ()| {
            let inner = Arc::clone(&inner);
            async move { inner.calls.delete(&name).await.map_err(|failure| change_error(failure, &name)) }
        }))
        .await
        .map(drop)
    }
}

/// Runs a batch of changes in its own task, so that a run that is dropped while it waits does not
/// interrupt the batch.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, VaultError>> + Send + 'static,
) -> Result<T, VaultError> {
    let lost = || VaultError::Unavailable("the vault's answer was lost: the host is shutting down or has a bug".into());
    tokio::spawn(work).await.unwrap_or_else(|_| Err(lost()))
}

/// Converts the error of a change. States if it is unknown whether the change was made.
fn change_error(failure: CallError, name: &SecretName) -> VaultError {
    let doubtful = failure.may_have_run() || matches!(failure, CallError::Deadline(_) | CallError::InvalidReply(_));
    match failure.about_change(name) {
        VaultError::Unavailable(text) if doubtful => {
            VaultError::Unavailable(format!("{text}; whether `{name}` was changed is not known"))
        }
        VaultError::Damaged(text) if doubtful => {
            VaultError::Damaged(format!("{text}; whether `{name}` was changed is not known"))
        }
        error => error,
    }
}

impl fmt::Debug for AzureVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureVault").field("location", &self.location().to_string()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Vault for AzureVault {
    fn abilities(&self) -> Abilities {
        Abilities { transactions: false, versions: true, soft_delete: true }
    }

    fn address(&self) -> Option<String> {
        Some(AzureVault::location(self).to_string())
    }

    async fn get(&self, grant: &Grant) -> Result<Stored, VaultError> {
        Operator::get(self, grant.stored(), grant.version()).await
    }

    async fn get_many(&self, grants: &[Grant]) -> Result<Vec<Result<Stored, Missing>>, VaultError> {
        batch::read(grants.to_vec(), |grant| async move { Missing::separate(Vault::get(self, &grant).await) }).await
    }

    /// Reads the value too and zeroizes it, because Key Vault cannot describe one version without
    /// its value.
    async fn describe(&self, grant: &Grant) -> Result<Description, VaultError> {
        Ok(Vault::get(self, grant).await?.description)
    }

    async fn set_many(&self, secrets: &[(Grant, Arc<Secret>)]) -> Result<Vec<Description>, VaultError> {
        let plain = |(grant, value): &(Grant, _)| (grant.stored().clone(), Arc::clone(value), Attributes::default());
        self.set_all(secrets.iter().map(plain).collect()).await
    }

    async fn delete_many(&self, grants: &[Grant]) -> Result<(), VaultError> {
        self.delete_all(grants.iter().map(|grant| grant.stored().clone()).collect()).await
    }

    /// Requests exact names one by one, without their values. Omits disabled secrets.
    async fn list(&self, grant: &ListGrant) -> Result<Vec<SecretName>, VaultError> {
        let exact: Vec<_> = grant.exact().map(|(stored, asked)| (stored.clone(), asked.clone())).collect();
        let found = batch::read(exact, |(stored, asked)| async move {
            let versions = self.0.calls.versions(&stored).await.map_err(|failure| failure.about(&stored))?;
            Ok(versions.first().is_some_and(|newest| newest.enabled).then_some(asked))
        });
        let mut names: BTreeSet<SecretName> = found.await?.into_iter().flatten().collect();
        if grant.needs_paging() {
            let items = self.0.calls.list().await.map_err(CallError::general)?;
            let admitted = items.into_iter().filter(|item| item.enabled && grant.admits(&item.name));
            names.extend(admitted.map(|item| item.name));
        }
        Ok(names.into_iter().collect())
    }
}

#[async_trait]
impl Operator for AzureVault {
    async fn get(&self, name: &SecretName, version: Option<&SecretVersion>) -> Result<Stored, VaultError> {
        self.0.calls.get(name, version).await.map_err(|failure| failure.about(name))
    }

    async fn set_many(&self, secrets: Vec<NewSecret>) -> Result<Vec<Description>, VaultError> {
        self.set_all(secrets.into_iter().map(|secret| (secret.name, secret.value, secret.attributes)).collect()).await
    }

    /// Requests the versions of each secret, because Key Vault's list has none.
    async fn list(&self) -> Result<Vec<Description>, VaultError> {
        let items = self.0.calls.list().await.map_err(CallError::general)?;
        let names: BTreeSet<SecretName> = items.into_iter().map(|item| item.name).collect();
        let newest = batch::read(names.into_iter().collect(), |name| async move {
            let versions = self.0.calls.versions(&name).await.map_err(|failure| failure.about(&name))?;
            // Omit a secret that was deleted meanwhile.
            Ok(versions.into_iter().next())
        });
        Ok(newest.await?.into_iter().flatten().collect())
    }

    async fn versions(&self, name: &SecretName) -> Result<Vec<Description>, VaultError> {
        let versions = self.0.calls.versions(name).await.map_err(|failure| failure.about(name))?;
        if versions.is_empty() { Err(VaultError::NotFound(name.clone())) } else { Ok(versions) }
    }

    async fn delete(&self, name: &SecretName) -> Result<(), VaultError> {
        self.delete_all(vec![name.clone()]).await
    }

    async fn recover(&self, name: &SecretName) -> Result<Description, VaultError> {
        self.0.calls.recover(name).await.map_err(|failure| failure.about_change(name))
    }

    async fn purge(&self, name: &SecretName) -> Result<(), VaultError> {
        self.0.calls.purge(name).await.map_err(|failure| failure.about_change(name))
    }
}
