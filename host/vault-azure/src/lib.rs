//! Azure Key Vault as a vault.
//!
//! The calls go through Microsoft's SDK; what it leaves open is closed here, each in a file of its own:
//!
//! - `place`: the vault's domain decides the audience of tokens and who issues them; nothing else is taken for a vault.
//! - `guard`, `transport`: no token leaves for a foreign host, no reply is too big or too slow, no redirect is followed.
//! - `calls`, `wire`: names are parsed before the SDK sees them, and what the vault answers is checked against what was asked.
//! - `batch`: a batch that was done in part says exactly which names.
//! - `steady`: one policy of repeating, a rate below the vault's own, and rest for a vault that is down.
//! - `error`: what went wrong, by status and inner code.
//! - `credential`: who this host is; `status`: what it may do.
//!
//! Values are moved into [`Secret`] as soon as the SDK hands them over. Copies that the SDK, TLS and the kernel make on the way are not
//! overwritten.

mod batch;
mod calls;
mod credential;
mod error;
mod guard;
mod place;
mod status;
mod steady;
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
use credential::{Credential, Refused, Tools};
use error::Trouble;
use guard::Guard;
use steady::Steady;
use strongroom_core::ids::{SecretName, SecretVersion};
use strongroom_core::secret::Secret;
use strongroom_policy::{Grant, ListGrant};
use strongroom_vault::{
    Abilities, Attributes, Description, Missing, NewSecret, Operator, Stored, Vault, VaultError, check_attributes,
};
use transport::Network;

pub use credential::{CredentialKind, CredentialSettings, identity_endpoint};
pub use place::{Cloud, Emulator, Exceptions, Place};
pub use status::{Permission, Status};

/// How long one request may take, its reply included.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// A Key Vault. Clones share their connections, their rate and their credential.
#[derive(Clone)]
pub struct AzureVault(Arc<Inner>);

struct Inner {
    calls: Calls,
    credential: Arc<Credential>,
}

impl AzureVault {
    /// Prepares a vault for use. Nothing is asked yet, so that this succeeds for a vault that is not there.
    ///
    /// # Errors
    /// [`VaultError::Invalid`] where the credential's settings do not fit together or its files cannot be used;
    /// [`VaultError::Unavailable`] where the system has no certificate authorities.
    pub fn open(place: Place, credential: &CredentialSettings) -> Result<Self, VaultError> {
        let network = Arc::new(Network::new(&place)?);
        Self::with(place, credential, network, Arc::new(Tools), steady::Settings::default())
    }

    /// The same over any transport and tools.
    fn with(
        place: Place,
        settings: &CredentialSettings,
        network: Arc<dyn HttpClient>,
        tools: Arc<dyn Executor>,
        steady: steady::Settings,
    ) -> Result<Self, VaultError> {
        let refused = Arc::new(Refused::default());
        let endpoint = settings.identity_endpoint.clone();
        let guard = Guard::new(network, place.clone(), endpoint, Arc::clone(&refused), REQUEST_TIME);
        let guard: Arc<dyn HttpClient> = Arc::new(guard);
        let credential = Arc::new(Credential::new(settings, &place, Arc::clone(&guard), tools, refused)?);
        let options = SecretClientOptions {
            client_options: ClientOptions {
                transport: Some(Transport::new(guard)),
                // There is one policy of repeating, and it is ours.
                retry: RetryOptions::none(),
                ..Default::default()
            },
            // The guard compares audience and authority with what the place says, which is stricter; the SDK's check does not know
            // private endpoints.
            verify_challenge_resource: Some(false),
            ..Default::default()
        };
        let token: Arc<dyn TokenCredential> = Arc::clone(&credential) as _;
        let sdk = SecretClient::new(place.origin().as_str(), token, Some(options))
            .map_err(|error| Trouble::of(&error).general())?;
        Ok(Self(Arc::new(Inner { calls: Calls::new(sdk, place, Steady::new(steady)), credential })))
    }

    /// Where the vault is.
    pub fn place(&self) -> &Place {
        self.0.calls.place()
    }

    /// Does a change in a task of its own, so that a run that is dropped while it waits leaves no batch half done.
    async fn change<J, T, F>(&self, jobs: Vec<(SecretName, J)>, work: F) -> Result<Vec<T>, VaultError>
    where
        J: Send + 'static,
        T: Send + 'static,
        F: AsyncWork<J, T>,
    {
        let inner = Arc::clone(&self.0);
        let task = tokio::spawn(batch::change(jobs, move |name, job| work(Arc::clone(&inner), name, job)));
        let lost = || VaultError::Unavailable("the vault's answer was lost: the host is ending or has a fault".into());
        task.await.unwrap_or_else(|_| Err(lost()))
    }

    async fn set_all(
        &self,
        secrets: Vec<(SecretName, Arc<Secret>, Attributes)>,
    ) -> Result<Vec<Description>, VaultError> {
        for (name, _, attributes) in &secrets {
            check_attributes(name, attributes)?;
        }
        let jobs = secrets.into_iter().map(|(name, value, attributes)| (name, (value, attributes))).collect();
        self.change(jobs, |inner, name, (value, attributes)| {
            Box::pin(async move {
                let set = inner.calls.set(&name, &value, &attributes).await;
                set.map_err(|trouble| about_change(trouble, &name))
            })
        })
        .await
    }

    async fn delete_all(&self, names: Vec<SecretName>) -> Result<(), VaultError> {
        // Two names of a component for one secret are no error.
        let jobs = names.into_iter().collect::<BTreeSet<_>>().into_iter().map(|name| (name, ())).collect();
        self.change(jobs, |inner, name, ()| {
            Box::pin(async move {
                let deleted = inner.calls.delete(&name).await;
                deleted.map_err(|trouble| about_change(trouble, &name))
            })
        })
        .await
        .map(drop)
    }
}

/// What a change does for one name. The future is boxed, because a closure's own future cannot be named.
trait AsyncWork<J, T>:
    Fn(Arc<Inner>, SecretName, J) -> futures_util::future::BoxFuture<'static, Result<T, VaultError>> + Send + Sync + 'static
{
}

impl<J, T, F> AsyncWork<J, T> for F where
    F: Fn(Arc<Inner>, SecretName, J) -> futures_util::future::BoxFuture<'static, Result<T, VaultError>>
        + Send
        + Sync
        + 'static
{
}

/// What a failed change means. Where its answer was lost, nobody knows whether it was done, and that is said.
fn about_change(trouble: Trouble, name: &SecretName) -> VaultError {
    let doubtful = trouble.is_ambiguous() || matches!(trouble, Trouble::Deadline(_) | Trouble::Strange(_));
    match trouble.about(name) {
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
        f.debug_struct("AzureVault").field("place", &self.place().to_string()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Vault for AzureVault {
    fn abilities(&self) -> Abilities {
        Abilities { transactions: false, versions: true, soft_delete: true }
    }

    fn address(&self) -> Option<String> {
        Some(AzureVault::place(self).to_string())
    }

    async fn get(&self, grant: &Grant) -> Result<Stored, VaultError> {
        Operator::get(self, grant.stored(), grant.version()).await
    }

    async fn get_many(&self, grants: &[Grant]) -> Result<Vec<Result<Stored, Missing>>, VaultError> {
        batch::read(grants.to_vec(), |grant| async move { Missing::separate(Vault::get(self, &grant).await) }).await
    }

    /// The vault has no way to describe one version without its value, so the value comes along and is overwritten.
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

    /// Exact names are asked for one by one, without their values. A disabled secret is not there for a component.
    async fn list(&self, grant: &ListGrant) -> Result<Vec<SecretName>, VaultError> {
        let exact: Vec<_> = grant.exact().map(|(stored, asked)| (stored.clone(), asked.clone())).collect();
        let found = batch::read(exact, |(stored, asked)| async move {
            let versions = self.0.calls.versions(&stored).await.map_err(|trouble| trouble.about(&stored))?;
            Ok(versions.first().is_some_and(|newest| newest.enabled).then_some(asked))
        });
        let mut names: BTreeSet<SecretName> = found.await?.into_iter().flatten().collect();
        if grant.needs_paging() {
            let items = self.0.calls.list().await.map_err(Trouble::general)?;
            let admitted = items.into_iter().filter(|item| item.enabled() && grant.admits(&item.name));
            names.extend(admitted.map(|item| item.name));
        }
        Ok(names.into_iter().collect())
    }
}

#[async_trait]
impl Operator for AzureVault {
    async fn get(&self, name: &SecretName, version: Option<&SecretVersion>) -> Result<Stored, VaultError> {
        self.0.calls.get(name, version).await.map_err(|trouble| trouble.about(name))
    }

    async fn set_many(&self, secrets: Vec<NewSecret>) -> Result<Vec<Description>, VaultError> {
        self.set_all(secrets.into_iter().map(|secret| (secret.name, secret.value, secret.attributes)).collect()).await
    }

    /// The vault's list has no versions, so each secret is asked for its own.
    async fn list(&self) -> Result<Vec<Description>, VaultError> {
        let items = self.0.calls.list().await.map_err(Trouble::general)?;
        let names: BTreeSet<SecretName> = items.into_iter().map(|item| item.name).collect();
        let newest = batch::read(names.into_iter().collect(), |name| async move {
            let versions = self.0.calls.versions(&name).await.map_err(|trouble| trouble.about(&name))?;
            // One that was deleted meanwhile is not there.
            Ok(versions.into_iter().next())
        });
        Ok(newest.await?.into_iter().flatten().collect())
    }

    async fn versions(&self, name: &SecretName) -> Result<Vec<Description>, VaultError> {
        let versions = self.0.calls.versions(name).await.map_err(|trouble| trouble.about(name))?;
        if versions.is_empty() { Err(VaultError::NotFound(name.clone())) } else { Ok(versions) }
    }

    async fn delete(&self, name: &SecretName) -> Result<(), VaultError> {
        self.delete_all(vec![name.clone()]).await
    }

    async fn recover(&self, name: &SecretName) -> Result<Description, VaultError> {
        self.0.calls.recover(name).await.map_err(|trouble| trouble.about(name))
    }

    async fn purge(&self, name: &SecretName) -> Result<(), VaultError> {
        self.0.calls.purge(name).await.map_err(|trouble| trouble.about(name))
    }
}
