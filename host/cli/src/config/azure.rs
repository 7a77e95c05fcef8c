//! This host's identity at Azure: what the file and the environment say.
//!
//! The environment is that of a pod with a workload identity, and of App Service and its like: the variables are set by the platform, for
//! every program alike. They are heeded where the operator chose no credential, or the workload's.
//! It also says where the developer tools keep their sign-in, which is not read here: it is kept from components.

use std::ffi::OsString;
use std::path::PathBuf;

use super::file::AzureEmulator;
use super::{Config, ConfigError};
use strongroom_vault_azure::{CredentialKind, CredentialSettings, Emulator, Exceptions, identity_endpoint};

const TENANT: &str = "AZURE_TENANT_ID";
const CLIENT: &str = "AZURE_CLIENT_ID";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const ENDPOINT: &str = "IDENTITY_ENDPOINT";

/// Where a developer tool keeps its sign-in: the variable that names the folder, and the folder in the user's home directory without it.
const TOOLS: [(&str, &str); 2] = [("AZURE_CONFIG_DIR", ".azure"), ("AZD_CONFIG_DIR", ".azd")];

/// What the platform says.
#[derive(Debug, Default)]
pub(super) struct Variables {
    tenant: Option<String>,
    client: Option<String>,
    token_file: Option<PathBuf>,
    endpoint: Option<String>,
    tool_folders: Vec<PathBuf>,
}

impl Variables {
    pub(super) fn read(variable: &dyn Fn(&'static str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let text =
            |name| variable(name).map(|value| value.into_string().map_err(|_| ConfigError::Variable(name))).transpose();
        let user = variable("HOME").map(PathBuf::from).or_else(|| etcetera::home_dir().ok());
        let folder = |(name, usual): (&'static str, &str)| match variable(name) {
            Some(named) => Some(PathBuf::from(named)),
            None => Some(user.as_ref()?.join(usual)),
        };
        // One that cannot be made absolute cannot be opened either.
        let absolute = |folder: PathBuf| std::path::absolute(&folder).unwrap_or(folder);
        Ok(Self {
            tool_folders: TOOLS.into_iter().filter_map(folder).map(absolute).collect(),
            tenant: text(TENANT)?,
            client: text(CLIENT)?,
            token_file: variable(TOKEN_FILE).map(PathBuf::from),
            endpoint: text(ENDPOINT)?,
        })
    }
}

impl Config {
    /// The kind of credential: the option given, else the file, else `auto`.
    ///
    /// # Errors
    /// The option names no kind.
    pub(crate) fn credential_kind(&self, option: Option<&str>) -> Result<CredentialKind, ConfigError> {
        let Some(text) = option else { return Ok(self.file.credential.unwrap_or_default()) };
        CredentialKind::parse(text).ok_or_else(|| {
            let known: Vec<_> = CredentialKind::ALL.iter().map(|kind| format!("`{}`", kind.as_str())).collect();
            ConfigError::Azure(format!(
                "unknown credential type in `--credential`: expected one of {}",
                known.join(", ")
            ))
        })
    }

    /// The credential for Azure.
    ///
    /// # Errors
    /// The option names no kind, or a file is not named by an absolute path.
    pub(crate) fn credential(&self, option: Option<&str>) -> Result<CredentialSettings, ConfigError> {
        let kind = self.credential_kind(option)?;
        let file = &self.file.azure;
        let absolute = |key: &str, path: &Option<PathBuf>| match path {
            Some(path) if !path.is_absolute() => {
                Err(ConfigError::Azure(format!("`azure.{key}` must be an absolute path")))
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

    /// The folders in which `az` and `azd` keep what they are signed in with, where this kind of credential may use them. They need not exist.
    pub(crate) fn sign_in_folders(&self, kind: CredentialKind) -> &[PathBuf] {
        match kind {
            CredentialKind::Auto | CredentialKind::AzureCli | CredentialKind::AzureDeveloperCli => {
                &self.azure.tool_folders
            }
            CredentialKind::ManagedIdentity
            | CredentialKind::WorkloadIdentity
            | CredentialKind::ClientSecret
            | CredentialKind::ClientCertificate => &[],
        }
    }

    /// What the file says about places that are not the ordinary ones.
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
                return Err(ConfigError::Azure(
                    "`[azure.emulator]` needs both `host` (such as `localhost:8443`) and `ca-file` (its CA certificates)"
                        .into(),
                ));
            }
        };
        Ok(Exceptions { authority: self.file.azure.authority.clone(), emulator })
    }
}
