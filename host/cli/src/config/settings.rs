//! The configuration as a list, each value with where it comes from: what `strongroom config show` prints.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::file::{Audit, Azure, AzureEmulator, Cache, File, Runs};
use super::{CONFIG, Config, ConfigError, HOME, LOG, PASSPHRASE_FILE, log_filter};
use strongroom::policy::{Ceilings, show_duration, show_size};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "name", rename_all = "kebab-case")]
pub(crate) enum Origin {
    /// Nobody said anything.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// A variable of the environment.
    Variable(&'static str),
    /// An option on the command line.
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

/// One setting that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    /// The key as the file writes it; for what the file cannot set, a name like one.
    pub(crate) key: &'static str,
    /// The value in the form of the file; none where there is none.
    pub(crate) value: Option<String>,
    /// Where it comes from.
    pub(crate) origin: Origin,
}

impl Config {
    /// The configuration file: where it is or would be, and whether it is there.
    pub(crate) fn file(&self) -> Option<(&Path, bool)> {
        self.file_path.as_deref().map(|path| (path, self.file_found))
    }

    /// Every setting. What the options `--vault`, `--passphrase-file` and `--credential` say is given, since they go before the rest.
    ///
    /// # Errors
    /// The vault or the credential is not named as one is, or nobody says where the home is.
    pub(crate) fn settings(
        &self,
        vault: Option<&str>,
        passphrase_file: Option<&Path>,
        credential: Option<&str>,
    ) -> Result<Vec<Setting>, ConfigError> {
        let place = self.vault(vault)?;
        let kind = self.credential_kind(credential)?;
        // Looked at here too, so that this is the way to check a file that was edited.
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
        // Taken apart, so that a new key does not compile until it is listed here.
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
        // A value of the file without a file's path cannot be.
        self.file_path.clone().map_or(Origin::Variable(CONFIG), Origin::File)
    }
}

/// Every key about Azure. None of them is a secret: those lie in the files that are named.
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

/// Every ceiling: a new one does not compile until it is listed here.
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

/// A value of a choice as the file writes it.
fn word(choice: &impl Serialize) -> String {
    match serde_json::to_value(choice) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
