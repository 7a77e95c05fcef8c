//! The Azure credential that the operator chose, and remedies if it fails.
//!
//! `auto` tries workload identity, managed identity and the developer tools, in this order. It
//! skips only credentials that are absent: one that exists but is refused ends the search, so that
//! a revoked identity is not silently replaced by another. A machine or tool that responds but has
//! no identity is skipped with a warning. The first credential that returns a token is used for the
//! life of the process.
//!
//! Every token request passes through the guard. Settings that the SDK would read from the
//! environment are passed to it explicitly, except App Service's identity endpoint, which the SDK
//! always reads itself.

mod advice;
mod files;
mod refused;
mod tools;

use std::path::PathBuf;
use std::sync::{Arc, Once, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::error::Error;
use azure_core::http::{ClientOptions, HttpClient, RetryOptions, Transport};
use azure_identity::{
    AzureCliCredential, AzureCliCredentialOptions, AzureDeveloperCliCredential, AzureDeveloperCliCredentialOptions,
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions, Executor,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};
use url::Url;

use super::error::CredentialError;
use super::location::VaultLocation;
use strongroom_vault::VaultError;

pub(super) use refused::RefusedTokens;
pub(super) use tools::Tools;

/// Timeout of a token request.
const TOKEN_TIME: Duration = Duration::from_secs(20);

/// Kinds of credential, as the configuration names them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr, VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum CredentialKind {
    /// The first that exists of workload identity, managed identity, Azure CLI and Azure Developer
    /// CLI.
    #[default]
    Auto,
    /// A system-assigned or user-assigned identity of the machine.
    ManagedIdentity,
    /// The identity of a Kubernetes service account.
    WorkloadIdentity,
    /// An application with a secret in a file.
    ClientSecret,
    /// An application with a certificate in a file.
    ClientCertificate,
    /// The user who signed in with `az login`.
    AzureCli,
    /// The user who signed in with `azd auth login`.
    AzureDeveloperCli,
}

impl CredentialKind {
    /// All kinds.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Returns the kind's name in the configuration.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns the kind with this name.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// Credential settings from the configuration and the environment. None of them is secret: secrets
/// are in files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialSettings {
    /// The kind of credential.
    pub kind: CredentialKind,
    /// The tenant of the application or the workload.
    pub tenant_id: Option<String>,
    /// The application; for a managed identity, the user-assigned identity.
    pub client_id: Option<String>,
    /// Object ID of a user-assigned identity.
    pub object_id: Option<String>,
    /// Resource ID of a user-assigned identity.
    pub resource_id: Option<String>,
    /// The file with the workload's token.
    pub token_file: Option<PathBuf>,
    /// The file with the application's secret.
    pub client_secret_file: Option<PathBuf>,
    /// The file with the application's certificate and key (PKCS #12).
    pub certificate_file: Option<PathBuf>,
    /// The file with the password of that file.
    pub certificate_password_file: Option<PathBuf>,
    /// Identity endpoint of App Service and similar services, from the environment.
    pub identity_endpoint: Option<Url>,
}

impl CredentialSettings {
    /// Returns the files that contain credentials.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let files =
            [&self.token_file, &self.client_secret_file, &self.certificate_file, &self.certificate_password_file];
        files.into_iter().flatten()
    }

    /// Returns whether a specific identity is configured, rather than the machine's default.
    fn names_identity(&self) -> bool {
        self.client_id.is_some() || self.object_id.is_some() || self.resource_id.is_some()
    }
}

/// Parses the identity endpoint of App Service and similar services. It must be on this machine or
/// have a link-local address.
pub fn identity_endpoint(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "http" && url.username().is_empty())?;
    let is_near = match url.host()? {
        url::Host::Domain(name) => name == "localhost",
        url::Host::Ipv4(address) => address.is_loopback() || address.is_link_local(),
        url::Host::Ipv6(address) => address.is_loopback(),
    };
    is_near.then_some(url)
}

/// The credential in use.
#[derive(Debug)]
pub(super) struct Credential {
    members: Vec<Member>,
    chosen: OnceLock<usize>,
    /// Kinds that are not configured, and why.
    absent: Vec<(CredentialKind, String)>,
    factory: Factory,
    refused: Arc<RefusedTokens>,
    /// Held while a credential is recreated.
    recreating: tokio::sync::Mutex<()>,
    /// The scope of all token requests.
    scope: String,
}

/// A credential of one kind.
#[derive(Debug)]
struct Member {
    kind: CredentialKind,
    /// Replaced when the vault has refused its cached token.
    inner: RwLock<Arc<dyn TokenCredential>>,
    /// Ensures that the warning about skipping it is logged once.
    passed_over: Once,
}

impl Credential {
    /// Prepares the credential without sending a request. The guard records refused tokens in
    /// `refused`.
    pub(super) fn new(
        settings: &CredentialSettings,
        location: &VaultLocation,
        transport: Arc<dyn HttpClient>,
        tools: Arc<dyn Executor>,
        refused: Arc<RefusedTokens>,
    ) -> Result<Self, VaultError> {
        let mut custom = CustomConfiguration::default();
        custom.authority_host = location.authority().as_str().to_owned();
        let options = ClientOptions {
            transport: Some(Transport::new(transport)),
            retry: RetryOptions::none(),
            cloud: Some(Arc::new(CloudConfiguration::Custom(custom))),
            ..Default::default()
        };
        let factory = Factory { settings: settings.clone(), options, tools };
        let kinds: &[CredentialKind] = match settings.kind {
            CredentialKind::Auto => &[
                CredentialKind::WorkloadIdentity,
                CredentialKind::ManagedIdentity,
                CredentialKind::AzureCli,
                CredentialKind::AzureDeveloperCli,
            ],
            _ => std::slice::from_ref(&settings.kind),
        };
        let (mut members, mut absent) = (Vec::new(), Vec::new());
        for kind in kinds.iter().copied() {
            match factory.member(kind) {
                Ok(inner) => members.push(Member { kind, inner: RwLock::new(inner), passed_over: Once::new() }),
                Err(text) if settings.kind == CredentialKind::Auto => absent.push((kind, text)),
                Err(text) => return Err(VaultError::Invalid(line(kind, &text))),
            }
        }
        Ok(Self {
            members,
            chosen: OnceLock::new(),
            absent,
            factory,
            refused,
            recreating: tokio::sync::Mutex::default(),
            scope: location.scope(),
        })
    }

    /// Returns the kind that has returned a token.
    pub(super) fn answered(&self) -> Option<CredentialKind> {
        self.members.get(*self.chosen.get()?).map(|member| member.kind)
    }

    async fn token(&self, scopes: &[&str]) -> Result<AccessToken, CredentialError> {
        if let Some(member) = self.chosen.get().and_then(|at| self.members.get(*at)) {
            return self.token_of(member, scopes).await.map_err(|failed| failed.failure);
        }
        let mut reasons: Vec<String> = self.absent.iter().map(|(kind, text)| line(*kind, text)).collect();
        for (at, member) in self.members.iter().enumerate() {
            match self.token_of(member, scopes).await {
                Ok(token) => {
                    let _ = self.chosen.set(at);
                    tracing::debug!(credential = member.kind.as_str(), "the credential returned a token");
                    return Ok(token);
                }
                Err(failed) if failed.presence != Presence::Present && self.members.len() > 1 => {
                    if failed.presence == Presence::NoIdentity {
                        member.passed_over.call_once(|| {
                            tracing::warn!(
                                credential = member.kind.as_str(),
                                reason = %failed.failure.text,
                                "has no identity: `auto` tries the next credential"
                            );
                        });
                    }
                    reasons.push(line(member.kind, &failed.failure.text));
                }
                Err(failed) => {
                    let text = line(member.kind, &failed.failure.text);
                    return Err(CredentialError { text, ..failed.failure });
                }
            }
        }
        let text = format!("no credential for Azure answered:\n{}", reasons.join("\n"));
        Err(CredentialError { text, transient: false })
    }

    /// Returns a token of a member. If it is the one that the vault refused, recreates the member
    /// and returns its next token, whether or not the vault accepts that.
    async fn token_of(&self, member: &Member, scopes: &[&str]) -> Result<AccessToken, Failed> {
        let token = member.token(scopes, &self.factory.settings).await?;
        if !self.refused.is(token.token.secret()) {
            return Ok(token);
        }
        // One caller recreates the credential; others with the same token wait for it.
        let _one = self.recreating.lock().await;
        let token = member.token(scopes, &self.factory.settings).await?;
        if !self.refused.should_replace(token.token.secret()) {
            return Ok(token);
        }
        tracing::info!(credential = member.kind.as_str(), "the vault refused the token; requesting another one");
        let failed = |text| Failed { failure: CredentialError { text, transient: false }, presence: Presence::Present };
        let inner = self.factory.member(member.kind).map_err(failed)?;
        *member.inner.write().unwrap_or_else(PoisonError::into_inner) = inner;
        member.token(scopes, &self.factory.settings).await
    }
}

fn line(kind: CredentialKind, text: &str) -> String {
    format!("`{}`: {text}", kind.as_str())
}

/// Failure of a member to return a token.
struct Failed {
    failure: CredentialError,
    presence: Presence,
}

/// What a failure reveals about the existence of the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// There is no response, or no such tool.
    Absent,
    /// It responds but has no identity: none is assigned to the machine, or no user is signed in to
    /// the tool.
    NoIdentity,
    /// There is an identity that was refused or did not respond in time, or its absence is not
    /// certain.
    Present,
}

impl Member {
    async fn token(&self, scopes: &[&str], settings: &CredentialSettings) -> Result<AccessToken, Failed> {
        let inner = Arc::clone(&self.inner.read().unwrap_or_else(PoisonError::into_inner));
        match tokio::time::timeout(TOKEN_TIME, inner.get_token(scopes, None)).await {
            Ok(Ok(token)) => Ok(token),
            Ok(Err(error)) => Err(advice::failed(self.kind, settings, &error)),
            Err(_) => {
                let text = format!("no token within {} s", TOKEN_TIME.as_secs());
                Err(Failed { failure: CredentialError { text, transient: true }, presence: Presence::Present })
            }
        }
    }
}

#[async_trait]
impl TokenCredential for Credential {
    /// Returns a token for the vault and ignores the requested scopes: the SDK takes them from the
    /// vault's challenge.
    async fn get_token(
        &self,
        _scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        self.token(&[&self.scope]).await.map_err(CredentialError::into_error)
    }
}

/// Creates the SDK's credentials.
#[derive(Debug)]
struct Factory {
    settings: CredentialSettings,
    options: ClientOptions,
    tools: Arc<dyn Executor>,
}

impl Factory {
    fn member(&self, kind: CredentialKind) -> Result<Arc<dyn TokenCredential>, String> {
        let options = self.options.clone();
        let settings = &self.settings;
        let said = |error: Error| super::error::root(&error);
        Ok(match kind {
            CredentialKind::Auto => return Err("is not a single credential".to_owned()),
            CredentialKind::ManagedIdentity => ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                user_assigned_id: self.assigned()?,
                client_options: options,
            }))
            .map_err(said)?,
            CredentialKind::WorkloadIdentity => {
                let (Some(tenant), Some(client), Some(file)) =
                    (&settings.tenant_id, &settings.client_id, &settings.token_file)
                else {
                    return Err(advice::NO_WORKLOAD.to_owned());
                };
                WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                    credential_options: ClientAssertionCredentialOptions { client_options: options },
                    client_id: Some(client.clone()),
                    tenant_id: Some(tenant.clone()),
                    token_file_path: Some(file.clone()),
                }))
                .map_err(said)?
            }
            CredentialKind::ClientSecret => {
                let (tenant, client) = self.application()?;
                let Some(file) = &settings.client_secret_file else {
                    return Err("needs `azure.client-secret-file`: a file with the application's secret".to_owned());
                };
                let secret = files::line(file)?;
                let options = ClientSecretCredentialOptions { client_options: options };
                ClientSecretCredential::new(
                    tenant,
                    client.to_owned(),
                    Secret::new(secret.as_str().to_owned()),
                    Some(options),
                )
                .map_err(said)?
            }
            CredentialKind::ClientCertificate => self.certificate(options)?,
            CredentialKind::AzureCli => AzureCliCredential::new(Some(AzureCliCredentialOptions {
                tenant_id: settings.tenant_id.clone(),
                executor: Some(Arc::clone(&self.tools)),
                ..Default::default()
            }))
            .map_err(said)?,
            CredentialKind::AzureDeveloperCli => {
                AzureDeveloperCliCredential::new(Some(AzureDeveloperCliCredentialOptions {
                    tenant_id: settings.tenant_id.clone(),
                    executor: Some(Arc::clone(&self.tools)),
                }))
                .map_err(said)?
            }
        })
    }

    /// Returns the user-assigned identity, if one is configured.
    fn assigned(&self) -> Result<Option<UserAssignedId>, String> {
        let settings = &self.settings;
        let named = [&settings.client_id, &settings.object_id, &settings.resource_id];
        // With `auto`, a client id may be there for the workload's sake; it names the same identity
        // here.
        if named.iter().filter(|id| id.is_some()).count() > 1 {
            return Err("takes one of `azure.client-id`, `azure.object-id` and `azure.resource-id`".to_owned());
        }
        let [client, object, resource] = named.map(Clone::clone);
        Ok(client
            .map(UserAssignedId::ClientId)
            .or(object.map(UserAssignedId::ObjectId))
            .or(resource.map(UserAssignedId::ResourceId)))
    }

    fn application(&self) -> Result<(&str, &str), String> {
        match (&self.settings.tenant_id, &self.settings.client_id) {
            (Some(tenant), Some(client)) => Ok((tenant, client)),
            _ => Err("needs `azure.tenant-id` and `azure.client-id`".to_owned()),
        }
    }

    #[cfg(feature = "client-certificate")]
    fn certificate(&self, options: ClientOptions) -> Result<Arc<dyn TokenCredential>, String> {
        use azure_core::credentials::SecretBytes;
        use azure_identity::{ClientCertificateCredential, ClientCertificateCredentialOptions};

        let (tenant, client) = self.application()?;
        let Some(file) = &self.settings.certificate_file else {
            return Err("needs `azure.certificate-file`: a PKCS #12 file with certificate and key".to_owned());
        };
        let certificate = SecretBytes::new(files::bytes(file)?.to_vec());
        let password = self.settings.certificate_password_file.as_deref().map(files::line).transpose()?;
        let options = ClientCertificateCredentialOptions {
            client_options: options,
            password: password.map(|password| Secret::new(password.as_str().to_owned())),
        };
        let credential =
            ClientCertificateCredential::new(tenant.to_owned(), client.to_owned(), certificate, Some(options));
        Ok(credential.map_err(|error| super::error::root(&error))?)
    }

    #[cfg(not(feature = "client-certificate"))]
    fn certificate(&self, _options: ClientOptions) -> Result<Arc<dyn TokenCredential>, String> {
        Err("this program was built without support for certificates, which needs OpenSSL".to_owned())
    }
}
