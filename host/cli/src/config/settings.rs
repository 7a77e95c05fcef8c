//! Lists all settings with their sources, for `strongroom config show`.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Config, ConfigError, HOME, LOG, PASSPHRASE_FILE, log_filter};
use strongroom::policy::{show_duration, show_size};

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
        let mut settings = vec![
            Setting { key: "home", value: Some(shown(self.home()?.path())), origin: home_origin },
            Setting { key: "vault", value: Some(place.to_string()), origin: vault_origin },
            match credential {
                Some(_) => {
                    let value = Some(kind.as_str().to_owned());
                    Setting { key: "credential", value, origin: Origin::Option("--credential") }
                }
                None => self.in_file("credential", Some(kind.as_str().to_owned())),
            },
            Setting { key: "passphrase-file", value: passphrase.0.map(shown), origin: passphrase.1 },
            Setting { key: "log", value: Some(log.unwrap_or_else(|| "warn".to_owned())), origin: log_origin },
            self.in_file("audit.sync", Some(word(&self.audit_sync))),
            self.in_file("audit.repeats", Some(word(&self.repeats))),
            self.in_file("cache.ttl", Some(show_duration(self.cache_ttl))),
            self.in_file("cache.grace", Some(show_duration(self.cache_grace))),
            self.in_file("local-vault.keep-versions", Some(self.keep_versions.to_string())),
            self.in_file("python.interpreter", Some(shown(&self.python))),
            self.in_file("python.build-time", Some(show_duration(self.build_time))),
            self.in_file("python.build-memory", Some(show_size(self.build_memory))),
            self.in_file("runs.log", Some(show_size(self.run_log))),
        ];
        settings.extend(KEYS_WITHOUT_DEFAULT.iter().map(|key| self.in_file(key, None)));
        Ok(settings)
    }

    /// Returns a setting as the file spells it, or its default.
    fn in_file(&self, key: &'static str, default: Option<String>) -> Setting {
        let in_file = key.split('.').try_fold(&self.file_values, |table, part| table.get(part));
        let value = in_file.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        // A value from the file always has the file's path.
        let origin = match (&value, &self.file_path) {
            (Some(_), Some(path)) => Origin::File(path.clone()),
            _ => Origin::Default,
        };
        Setting { key, value: value.or(default), origin }
    }
}

/// The keys that only the file can set. None of them is a secret: secrets are in the files that
/// they name. A test compares all keys with the sample in `docs/config.toml`.
const KEYS_WITHOUT_DEFAULT: &[&str] = &[
    "ceilings.memory",
    "ceilings.time",
    "ceilings.output-bytes",
    "ceilings.output-files",
    "ceilings.compile-time",
    "ceilings.log-bytes",
    "ceilings.requests",
    "ceilings.secret-bytes",
    "ceilings.metrics",
    "azure.tenant-id",
    "azure.client-id",
    "azure.object-id",
    "azure.resource-id",
    "azure.token-file",
    "azure.client-secret-file",
    "azure.certificate-file",
    "azure.certificate-password-file",
    "azure.authority",
    "azure.emulator.host",
    "azure.emulator.ca-file",
    "azure.emulator.authority",
    "azure.emulator.metadata",
];

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
