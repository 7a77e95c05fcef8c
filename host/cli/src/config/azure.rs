//! Azure settings from the configuration file and the environment.
//!
//! The platform sets the environment variables for all programs, in pods with workload identity and
//! in App Service and similar services. They apply only with the credential types `auto` and
//! `workload-identity`. The sign-in directories of the developer tools are not read here: they are
//! hidden from components.

use std::ffi::OsString;
use std::path::PathBuf;

use super::file::AzureEmulator;
use super::{Config, ConfigError};
use strongroom_vault_azure::{CredentialKind, CredentialSettings, Emulator, Exceptions, identity_endpoint};

const TENANT: &str = "AZURE_TENANT_ID";
const CLIENT: &str = "AZURE_CLIENT_ID";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const ENDPOINT: &str = "IDENTITY_ENDPOINT";

/// The sign-in directories of developer tools: the variable that names the directory, and its
/// default in the user's home directory.
const TOOLS: [(&str, &str); 2] = [("AZURE_CONFIG_DIR", ".azure"), ("AZD_CONFIG_DIR", ".azd")];

/// The platform's environment variables.
#[derive(Debug, Default)]
pub(super) struct Variables {
    tenant: Option<String>,
    client: Option<String>,
    token_file: Option<PathBuf>,
    endpoint: Option<String>,
    tool_dirs: Vec<PathBuf>,
}

impl Variables {
    pub(super) fn read(variable: &dyn Fn(&'static str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let text =
            |name| variable(name).map(|value| value.into_string().map_err(|_| ConfigError::Variable(name))).transpose();
        let user = variable("HOME").map(PathBuf::from).or_else(|| etcetera::home_dir().ok());
        let dir = |(name, usual): (&'static str, &str)| match variable(name) {
            Some(named) => Some(PathBuf::from(named)),
            None => Some(user.as_ref()?.join(usual)),
        };
        // A path that cannot be made absolute cannot be opened either.
        let absolute = |dir: PathBuf| std::path::absolute(&dir).unwrap_or(dir);
        Ok(Self {
            tool_dirs: TOOLS.into_iter().filter_map(dir).map(absolute).collect(),
            tenant: text(TENANT)?,
            client: text(CLIENT)?,
            token_file: variable(TOKEN_FILE).map(PathBuf::from),
            endpoint: text(ENDPOINT)?,
        })
    }
}

impl Config {
    /// Returns the credential type: from the option, else the file, else `auto`.
    ///
    /// # Errors
    /// The option is not a credential type.
    pub(crate) fn credential_kind(&self, option: Option<&str>) -> Result<CredentialKind, ConfigError> {
        let Some(text) = option else { return Ok(self.file.credential.unwrap_or_default()) };
        CredentialKind::parse(text).ok_or_else(|| {
            let known: Vec<_> = CredentialKind::ALL.iter().map(|kind| format!("`{}`", kind.as_str())).collect();
            ConfigError::Invalid(format!(
                "unknown credential type in `--credential`: expected one of {}",
                known.join(", ")
            ))
        })
    }

    /// Returns the Azure credential settings.
    ///
    /// # Errors
    /// The option is not a credential type, or a path in the file is not absolute.
    pub(crate) fn credential(&self, option: Option<&str>) -> Result<CredentialSettings, ConfigError> {
        let kind = self.credential_kind(option)?;
        let file = &self.file.azure;
        let absolute = |key: &str, path: &Option<PathBuf>| match path {
            Some(path) if !path.is_absolute() => {
                Err(ConfigError::Invalid(format!("`azure.{key}` must be an absolute path")))
            }
            path => Ok(path.clone()),
        };
        let said = &self.azure;
        let heeded = matches!(kind, CredentialKind::Auto | CredentialKind::WorkloadIdentity);
        let or_said =
            |file: &Option<String>, said: &Option<String>| file.clone().or_else(|| said.clone().filter(|_| heeded));
        let token_file = absolute("token-file", &file.token_file)?;
        Ok(CredentialSettings {
            kind,
            tenant_id: or_said(&file.tenant_id, &said.tenant),
            client_id: or_said(&file.client_id, &said.client),
            object_id: file.object_id.clone(),
            resource_id: file.resource_id.clone(),
            token_file: token_file.or_else(|| said.token_file.clone().filter(|_| heeded)),
            client_secret_file: absolute("client-secret-file", &file.client_secret_file)?,
            certificate_file: absolute("certificate-file", &file.certificate_file)?,
            certificate_password_file: absolute("certificate-password-file", &file.certificate_password_file)?,
            identity_endpoint: said.endpoint.as_deref().and_then(identity_endpoint),
        })
    }

    /// Returns the sign-in directories of `az` and `azd` if this credential type may use them. They
    /// need not exist.
    pub(crate) fn sign_in_dirs(&self, kind: CredentialKind) -> &[PathBuf] {
        match kind {
            CredentialKind::Auto | CredentialKind::AzureCli | CredentialKind::AzureDeveloperCli => {
                &self.azure.tool_dirs
            }
            CredentialKind::ManagedIdentity
            | CredentialKind::WorkloadIdentity
            | CredentialKind::ClientSecret
            | CredentialKind::ClientCertificate => &[],
        }
    }

    /// Returns the configured exceptions: another authority, or an emulator.
    pub(super) fn exceptions(&self) -> Result<Exceptions, ConfigError> {
        let AzureEmulator { host, ca_file, authority, metadata } = &self.file.azure.emulator;
        let emulator = match (host, ca_file) {
            (Some(host), Some(ca_file)) => Some(Emulator {
                host: host.clone(),
                ca_file: ca_file.clone(),
                authority: authority.clone(),
                metadata: metadata.clone(),
            }),
            (None, None) if authority.is_none() && metadata.is_none() => None,
            _ => {
                return Err(ConfigError::Invalid(
                    "`[azure.emulator]` needs both `host` (such as `localhost:8443`) and `ca-file` (its CA certificates)"
                        .into(),
                ));
            }
        };
        Ok(Exceptions { authority: self.file.azure.authority.clone(), emulator })
    }
}
