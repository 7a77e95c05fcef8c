//! Reads the configuration file.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::ConfigError;
use strongroom::audit::SyncMode;
use strongroom::broker::Repeats;
use strongroom::escape::escape_controls;
use strongroom::policy::{Ceilings, parse_duration, parse_size, show_size};
use strongroom::runs::{LOG_MAX, LOG_MIN};
use strongroom_vault_azure::CredentialKind;

/// The maximum size of a configuration file in bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// The maximum number of characters of an invalid line that a message shows.
const ECHO_MAX: usize = 80;

/// The contents of the file. Missing keys are `None`, so that `config show` can tell defaults from
/// settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    #[serde(deserialize_with = "vault")]
    pub(super) vault: Option<String>,
    pub(super) credential: Option<CredentialKind>,
    pub(super) azure: Azure,
    pub(super) audit: Audit,
    pub(super) ceilings: Ceilings,
    pub(super) cache: Cache,
    pub(super) local_vault: LocalVault,
    pub(super) python: Python,
    pub(super) runs: Runs,
}

/// `[azure]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Azure {
    pub(super) tenant_id: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) object_id: Option<String>,
    pub(super) resource_id: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) client_secret_file: Option<PathBuf>,
    pub(super) certificate_file: Option<PathBuf>,
    pub(super) certificate_password_file: Option<PathBuf>,
    pub(super) authority: Option<String>,
    pub(super) emulator: AzureEmulator,
}

/// `[azure.emulator]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct AzureEmulator {
    pub(super) host: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) authority: Option<String>,
    pub(super) metadata: Option<String>,
}

/// `[audit]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Audit {
    pub(super) sync: Option<SyncMode>,
    pub(super) repeats: Option<Repeats>,
}

/// `[cache]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Cache {
    #[serde(deserialize_with = "duration")]
    pub(super) ttl: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub(super) grace: Option<Duration>,
}

/// `[local-vault]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct LocalVault {
    pub(super) keep_versions: Option<u32>,
}

/// `[python]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Python {
    pub(super) interpreter: Option<PathBuf>,
    #[serde(deserialize_with = "duration")]
    pub(super) build_time: Option<Duration>,
    #[serde(deserialize_with = "size")]
    pub(super) build_memory: Option<u64>,
}

/// `[runs]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Runs {
    #[serde(deserialize_with = "log_size")]
    pub(super) log: Option<u64>,
}

/// Parses the size of run logs. Rejects sizes out of range instead of rounding them, because users
/// rely on the setting.
fn log_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let size = parse_size(&String::deserialize(deserializer)?).map_err(D::Error::custom)?;
    if size == 0 || (LOG_MIN..=LOG_MAX).contains(&size) {
        return Ok(Some(size));
    }
    let (min, max) = (show_size(LOG_MIN), show_size(LOG_MAX));
    Err(D::Error::custom(format!("expected a size from {min} to {max}, or \"0B\" to keep no logs")))
}

fn vault<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let address = String::deserialize(deserializer)?;
    if address.strip_prefix("local:").is_some_and(|dir| !Path::new(dir).is_absolute()) {
        return Err(D::Error::custom("the directory after `local:` must be an absolute path"));
    }
    Ok(Some(address))
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Some).map_err(D::Error::custom)
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_size(&text).map(Some).map_err(D::Error::custom)
}

/// Returns whether a file owned by `owner` may configure processes of `user`. The file selects the
/// vault and the token issuer.
pub(super) fn is_trusted(owner: u32, user: u32) -> bool {
    owner == user || owner == 0
}

/// Reads a configuration file and its values as written. Returns `None` if it does not exist.
pub(super) fn read(path: &Path) -> Result<Option<(File, toml::Table)>, ConfigError> {
    let failed = |cause| ConfigError::Read { path: path.to_owned(), cause };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(cause) => return Err(failed(cause)),
    };
    let meta = file.metadata().map_err(failed)?;
    if meta.mode() & 0o002 != 0 {
        return Err(ConfigError::Insecure(path.to_owned()));
    }
    if !is_trusted(meta.uid(), rustix::process::geteuid().as_raw()) {
        return Err(ConfigError::Foreign(path.to_owned()));
    }
    let mut text = String::new();
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_MAX {
        return Err(failed(io::Error::other("it is larger than 1 MiB")));
    }
    Ok(Some((parse(&text, path)?, parse(&text, path)?)))
}

/// Returns the error for a configuration file that was named and does not exist.
pub(super) fn missing(path: &Path) -> ConfigError {
    ConfigError::Read { path: path.to_owned(), cause: rustix::io::Errno::NOENT.into() }
}

fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let content = text.lines().nth(line - 1).unwrap_or_default().trim();
        // The value of an unknown key may be a secret, given instead of the file that contains it.
        let content = match content.split_once('=') {
            Some((key, _)) if error.message().starts_with("unknown field") => key.trim_end(),
            _ => content,
        };
        let content: String = content.chars().take(ECHO_MAX).collect();
        let message = error.message().trim().replace('\n', ", ");
        ConfigError::Invalid(format!(
            "{}:{line}:{column}: {} in `{}`",
            path.display(),
            escape_controls(&message),
            escape_controls(&content)
        ))
    })
}
