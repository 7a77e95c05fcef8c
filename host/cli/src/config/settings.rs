//! Lists all settings with their sources, for `strongroom config show`.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::file::{Audit, Azure, AzureEmulator, Cache, File, Runs};
use super::{CONFIG, Config, ConfigError, HOME, LOG, PASSPHRASE_FILE, log_filter};
use strongroom::policy::{Ceilings, show_duration, show_size};

/// The source of a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "name", rename_all = "kebab-case")]
pub(crate) enum Origin {
    /// The default.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Variable(&'static str),
    /// A command-line option.
    Option(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(_) => f.write_str("file"),
            Self::Variable(name) | Self::Option(name) => f.write_str(name),
        }
    }
}

/// An effective setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    /// The key in the file, or a similar name if the file cannot set it.
    pub(crate) key: &'static str,
    /// The value in the file's syntax; `None` if there is none.
    pub(crate) value: Option<String>,
    /// The source of the value.
    pub(crate) origin: Origin,
}

impl Config {
    /// Returns the path of the configuration file, and whether it exists.
    pub(crate) fn file(&self) -> Option<(&Path, bool)> {
        self.file_path.as_deref().map(|path| (path, self.file_found))
    }

    /// Returns every setting. The arguments are the values of `--vault`, `--passphrase-file` and
    /// `--credential`, which take precedence.
    ///
    /// # Errors
    /// The vault address or the credential type is invalid, or the home cannot be determined.
    pub(crate) fn settings(
        &self,
        vault: Option<&str>,
        passphrase_file: Option<&Path>,
        credential: Option<&str>,
    ) -> Result<Vec<Setting>, ConfigError> {
        let place = self.vault(vault)?;
        let kind = self.credential_kind(credential)?;
        // Validated here too, so that `config show` can check an edited file.
        self.credential(credential)?;
        self.exceptions()?;
        let vault_origin = match vault {
            Some(_) => Origin::Option("--vault"),
            None => self.vault.as_ref().map_or(Origin::Default, |(_, origin)| origin.clone()),
        };
        let passphrase = match (passphrase_file, &self.passphrase_file) {
            (Some(path), _) => (Some(path), Origin::Option("--passphrase-file")),
            (None, Some(path)) => (Some(path.as_path()), Origin::Variable(PASSPHRASE_FILE)),
            (None, None) => (None, Origin::Default),
        };
        let home_origin = if self.home.is_some() { Origin::Variable(HOME) } else { Origin::Default };
        let log = log_filter();
        let log_origin = if log.is_some() { Origin::Variable(LOG) } else { Origin::Default };
        // Destructured, so that a new key does not compile until it is listed here.
        let File {
            vault: _,
            credential: named,
            azure,
            audit: Audit { sync, repeats },
            ceilings: _,
            cache: Cache { ttl, grace },
            runs: Runs { log: run_log },
        } = &self.file;
        let credential = match credential {
            Some(_) => Setting {
                key: "credential",
                value: Some(kind.as_str().to_owned()),
                origin: Origin::Option("--credential"),
            },
            None => self.setting("credential", Some(kind.as_str().to_owned()), named.is_some()),
        };
        let mut settings = vec![
            Setting { key: "home", value: Some(shown(self.home()?.path())), origin: home_origin },
            Setting { key: "vault", value: Some(place.to_string()), origin: vault_origin },
            credential,
            Setting { key: "passphrase-file", value: passphrase.0.map(shown), origin: passphrase.1 },
            Setting { key: "log", value: Some(log.unwrap_or_else(|| "warn".to_owned())), origin: log_origin },
            self.setting("audit.sync", Some(word(&self.audit_sync)), sync.is_some()),
            self.setting("audit.repeats", Some(word(&self.repeats)), repeats.is_some()),
        ];
        settings.extend(ceilings(&self.ceilings).map(|(key, value)| {
            let in_file = value.is_some();
            self.setting(key, value, in_file)
        }));
        settings.push(self.setting("cache.ttl", Some(show_duration(self.cache_ttl)), ttl.is_some()));
        settings.push(self.setting("cache.grace", Some(show_duration(self.cache_grace)), grace.is_some()));
        settings.push(self.setting("runs.log", Some(show_size(self.run_log)), run_log.is_some()));
        settings.extend(azure_settings(azure).map(|(key, value)| {
            let in_file = value.is_some();
            self.setting(key, value, in_file)
        }));
        Ok(settings)
    }

    fn setting(&self, key: &'static str, value: Option<String>, in_file: bool) -> Setting {
        Setting { key, value, origin: if in_file { self.file_origin() } else { Origin::Default } }
    }

    fn file_origin(&self) -> Origin {
        // A value from the file always has the file's path.
        self.file_path.clone().map_or(Origin::Variable(CONFIG), Origin::File)
    }
}

/// Lists all Azure settings. None of them is a secret: secrets are in the files that they name.
fn azure_settings(azure: &Azure) -> impl Iterator<Item = (&'static str, Option<String>)> {
    let Azure { tenant_id, client_id, object_id, resource_id, token_file, client_secret_file, .. } = azure;
    let Azure { certificate_file, certificate_password_file, authority, emulator, .. } = azure;
    let AzureEmulator { host, ca_file, authority: emulator_authority, metadata } = emulator;
    let path = |path: &Option<std::path::PathBuf>| path.as_deref().map(shown);
    [
        ("azure.tenant-id", tenant_id.clone()),
        ("azure.client-id", client_id.clone()),
        ("azure.object-id", object_id.clone()),
        ("azure.resource-id", resource_id.clone()),
        ("azure.token-file", path(token_file)),
        ("azure.client-secret-file", path(client_secret_file)),
        ("azure.certificate-file", path(certificate_file)),
        ("azure.certificate-password-file", path(certificate_password_file)),
        ("azure.authority", authority.clone()),
        ("azure.emulator.host", host.clone()),
        ("azure.emulator.ca-file", path(ca_file)),
        ("azure.emulator.authority", emulator_authority.clone()),
        ("azure.emulator.metadata", metadata.clone()),
    ]
    .into_iter()
}

/// Lists all ceilings. A new one does not compile until it is listed here.
fn ceilings(ceilings: &Ceilings) -> impl Iterator<Item = (&'static str, Option<String>)> {
    let Ceilings { memory, time, output_bytes, output_files, compile_time, log_bytes, requests, metrics } = ceilings;
    let count = |count: &Option<u64>| count.map(|count| count.to_string());
    [
        ("ceilings.memory", memory.map(show_size)),
        ("ceilings.time", time.map(show_duration)),
        ("ceilings.output-bytes", output_bytes.map(show_size)),
        ("ceilings.output-files", count(output_files)),
        ("ceilings.compile-time", compile_time.map(show_duration)),
        ("ceilings.log-bytes", log_bytes.map(show_size)),
        ("ceilings.requests", count(requests)),
        ("ceilings.metrics", count(metrics)),
    ]
    .into_iter()
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Returns a choice as the file spells it.
fn word(choice: &impl Serialize) -> String {
    match serde_json::to_value(choice) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
