//! Who this host is to Azure: the credential that the operator chose, and what to do where it does not answer.
//!
//! `auto` asks, in this order, workload identity, managed identity and the developer tools, and goes on only from one that is not there:
//! one that is there and is refused is the answer, so that a revoked identity is not replaced by another in silence. A machine or a tool
//! that answers, and has no identity, is passed over with a warning. The one that has given a token stays for the life of the process.
//!
//! Every request for a token goes through the guard. What the SDK would read from the environment by itself is given to it here
//! instead, apart from the identity endpoint of App Service, which it insists on reading.

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
use url::Url;

use super::error::CredentialTrouble;
use super::place::Place;
use strongroom_vault::VaultError;

pub(super) use refused::Refused;
pub(super) use tools::Tools;

/// How long a token may take.
const TOKEN_TIME: Duration = Duration::from_secs(20);

/// The kinds of credential, as the configuration names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// The first of workload identity, managed identity, Azure CLI and Azure Developer CLI that is there.
    #[default]
    Auto,
    /// The identity of the machine, or one that is assigned to it.
    ManagedIdentity,
    /// The identity of a Kubernetes service account.
    WorkloadIdentity,
    /// An application and its secret, which lies in a file.
    ClientSecret,
    /// An application and its certificate, which lies in a file.
    ClientCertificate,
    /// Whoever signed in with `az login`.
    AzureCli,
    /// Whoever signed in with `azd auth login`.
    AzureDeveloperCli,
}

impl CredentialKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Auto,
        Self::ManagedIdentity,
        Self::WorkloadIdentity,
        Self::ClientSecret,
        Self::ClientCertificate,
        Self::AzureCli,
        Self::AzureDeveloperCli,
    ];

    /// The kind's name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::ManagedIdentity => "managed-identity",
            Self::WorkloadIdentity => "workload-identity",
            Self::ClientSecret => "client-secret",
            Self::ClientCertificate => "client-certificate",
            Self::AzureCli => "azure-cli",
            Self::AzureDeveloperCli => "azure-developer-cli",
        }
    }

    /// The kind of a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What the configuration and the environment say about the credential. None of it is secret: secrets lie in files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialSettings {
    /// Which credential.
    pub kind: CredentialKind,
    /// The tenant of the application or the workload.
    pub tenant_id: Option<String>,
    /// The application; with a managed identity, the one that is assigned to the machine.
    pub client_id: Option<String>,
    /// A managed identity by its object id.
    pub object_id: Option<String>,
    /// A managed identity by its resource id.
    pub resource_id: Option<String>,
    /// The file with the workload's token.
    pub token_file: Option<PathBuf>,
    /// The file with the application's secret.
    pub client_secret_file: Option<PathBuf>,
    /// The file with the application's certificate and key (PKCS #12).
    pub certificate_file: Option<PathBuf>,
    /// The file with the password of that file.
    pub certificate_password_file: Option<PathBuf>,
    /// The identity endpoint that App Service and its like name in the environment.
    pub identity_endpoint: Option<Url>,
}

impl CredentialSettings {
    /// The files that hold what proves this host's identity.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let files =
            [&self.token_file, &self.client_secret_file, &self.certificate_file, &self.certificate_password_file];
        files.into_iter().flatten()
    }

    /// Whether one identity is meant, and not whichever the machine has.
    fn names_identity(&self) -> bool {
        self.client_id.is_some() || self.object_id.is_some() || self.resource_id.is_some()
    }
}

/// The identity endpoint of App Service and its like, where the text is one: on this machine, or at an address of the link.
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
    /// Why others were not asked.
    absent: Vec<(CredentialKind, String)>,
    make: Maker,
    refused: Arc<Refused>,
    /// Held while a credential is made anew.
    renewing: tokio::sync::Mutex<()>,
    /// The one scope that tokens are asked for.
    scope: String,
}

/// One kind that may answer.
#[derive(Debug)]
struct Member {
    kind: CredentialKind,
    /// Replaced by a new one where the vault has refused the token that this one keeps.
    inner: RwLock<Arc<dyn TokenCredential>>,
    /// The warning that this one was passed over, which is given once.
    passed_over: Once,
}

impl Credential {
    /// Prepares the credential. Nothing is asked yet. `refused` is told by the guard.
    pub(super) fn new(
        settings: &CredentialSettings,
        place: &Place,
        transport: Arc<dyn HttpClient>,
        tools: Arc<dyn Executor>,
        refused: Arc<Refused>,
    ) -> Result<Self, VaultError> {
        let mut custom = CustomConfiguration::default();
        custom.authority_host = place.authority().as_str().to_owned();
        let options = ClientOptions {
            transport: Some(Transport::new(transport)),
            retry: RetryOptions::none(),
            cloud: Some(Arc::new(CloudConfiguration::Custom(custom))),
            ..Default::default()
        };
        let make = Maker { settings: settings.clone(), options, tools };
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
            match make.member(kind) {
                Ok(inner) => members.push(Member { kind, inner: RwLock::new(inner), passed_over: Once::new() }),
                Err(text) if settings.kind == CredentialKind::Auto => absent.push((kind, text)),
                Err(text) => return Err(VaultError::Invalid(line(kind, &text))),
            }
        }
        Ok(Self {
            members,
            chosen: OnceLock::new(),
            absent,
            make,
            refused,
            renewing: tokio::sync::Mutex::default(),
            scope: place.scope(),
        })
    }

    /// Which kind has answered.
    pub(super) fn answered(&self) -> Option<CredentialKind> {
        self.members.get(*self.chosen.get()?).map(|member| member.kind)
    }

    async fn token(&self, scopes: &[&str]) -> Result<AccessToken, CredentialTrouble> {
        if let Some(member) = self.chosen.get().and_then(|at| self.members.get(*at)) {
            return self.token_of(member, scopes).await.map_err(|failed| failed.trouble);
        }
        let mut missed: Vec<String> = self.absent.iter().map(|(kind, text)| line(*kind, text)).collect();
        for (at, member) in self.members.iter().enumerate() {
            match self.token_of(member, scopes).await {
                Ok(token) => {
                    let _ = self.chosen.set(at);
                    tracing::debug!(credential = member.kind.as_str(), "has answered");
                    return Ok(token);
                }
                Err(failed) if failed.presence != Presence::Somebody && self.members.len() > 1 => {
                    if failed.presence == Presence::Nobody {
                        member.passed_over.call_once(|| {
                            tracing::warn!(
                                credential = member.kind.as_str(),
                                reason = %failed.trouble.text,
                                "is there and has no identity: `auto` goes on to the next"
                            );
                        });
                    }
                    missed.push(line(member.kind, &failed.trouble.text));
                }
                Err(failed) => {
                    let text = line(member.kind, &failed.trouble.text);
                    return Err(CredentialTrouble { text, ..failed.trouble });
                }
            }
        }
        let text = format!("no credential for Azure answered:\n{}", missed.join("\n"));
        Err(CredentialTrouble { text, transient: false })
    }

    /// A member's token. Where it is the one that the vault has refused, the member is made anew and asked once more; what it then has is
    /// the answer, whatever the vault will say.
    async fn token_of(&self, member: &Member, scopes: &[&str]) -> Result<AccessToken, Failed> {
        let token = member.token(scopes, &self.make.settings).await?;
        if !self.refused.is(token.token.secret()) {
            return Ok(token);
        }
        // One makes it anew, and the others that come with the same token wait for what that one gets.
        let _one = self.renewing.lock().await;
        let token = member.token(scopes, &self.make.settings).await?;
        if !self.refused.wants_another(token.token.secret()) {
            return Ok(token);
        }
        tracing::info!(credential = member.kind.as_str(), "the vault has refused its token; another one is asked for");
        let failed =
            |text| Failed { trouble: CredentialTrouble { text, transient: false }, presence: Presence::Somebody };
        let inner = self.make.member(member.kind).map_err(failed)?;
        *member.inner.write().unwrap_or_else(PoisonError::into_inner) = inner;
        member.token(scopes, &self.make.settings).await
    }
}

fn line(kind: CredentialKind, text: &str) -> String {
    format!("`{}`: {text}", kind.as_str())
}

/// A member that gave no token.
struct Failed {
    trouble: CredentialTrouble,
    presence: Presence,
}

/// What a failure says about whether the credential is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// Nothing answers, or there is no such tool.
    Nothing,
    /// What answers has no identity: a machine that none is assigned to, a tool that nobody is signed in with.
    Nobody,
    /// There is an identity, and it was refused or its answer did not come; or nothing tells that there is none.
    Somebody,
}

impl Member {
    async fn token(&self, scopes: &[&str], settings: &CredentialSettings) -> Result<AccessToken, Failed> {
        let inner = Arc::clone(&self.inner.read().unwrap_or_else(PoisonError::into_inner));
        match tokio::time::timeout(TOKEN_TIME, inner.get_token(scopes, None)).await {
            Ok(Ok(token)) => Ok(token),
            Ok(Err(error)) => Err(advice::failed(self.kind, settings, &error)),
            Err(_) => {
                let text = format!("no token within {} s", TOKEN_TIME.as_secs());
                Err(Failed { trouble: CredentialTrouble { text, transient: true }, presence: Presence::Somebody })
            }
        }
    }
}

#[async_trait]
impl TokenCredential for Credential {
    /// A token for the vault, whatever scope is asked for: the SDK asks for the one that a challenge names, and a vault writes its challenges itself.
    async fn get_token(
        &self,
        _scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        self.token(&[&self.scope]).await.map_err(CredentialTrouble::into_error)
    }
}

/// Makes credentials of the SDK.
#[derive(Debug)]
struct Maker {
    settings: CredentialSettings,
    options: ClientOptions,
    tools: Arc<dyn Executor>,
}

impl Maker {
    fn member(&self, kind: CredentialKind) -> Result<Arc<dyn TokenCredential>, String> {
        let options = self.options.clone();
        let settings = &self.settings;
        let said = |error: Error| super::error::root(&error);
        Ok(match kind {
            CredentialKind::Auto => return Err("names no credential of its own".to_owned()),
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

    /// The identity that is assigned to the machine, where the configuration names one.
    fn assigned(&self) -> Result<Option<UserAssignedId>, String> {
        let settings = &self.settings;
        let named = [&settings.client_id, &settings.object_id, &settings.resource_id];
        // With `auto`, a client id may be there for the workload's sake; it names the same identity here.
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
        Err("this program was built without it: build it with `--features azure-client-certificate`, which needs OpenSSL".to_owned())
    }
}
