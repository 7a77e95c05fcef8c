//! Configuration from the file and the environment. No other module reads either.
//!
//! Options take precedence over environment variables, variables over the file, and the file over
//! defaults. Unknown keys and invalid values are errors, because users rely on the settings they
//! make. `docs/configuration.md` is the reference.

mod address;
mod azure;
mod file;
mod home;
mod settings;

#[cfg(test)]
mod tests;

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use etcetera::BaseStrategy;

use strongroom::audit::SyncMode;
use strongroom::broker::Repeats;
use strongroom::policy::Ceilings;
use strongroom::runs::LOG_DEFAULT;
use strongroom::vault::cache;
use strongroom::vault::local::KEEP_VERSIONS;

pub(crate) use address::VaultAddress;
pub(crate) use home::Home;
pub(crate) use settings::{Origin, Setting};

/// The variable for the home directory.
pub(crate) const HOME: &str = "STRONGROOM_HOME";
/// The variable for the vault address.
pub(crate) const VAULT: &str = "STRONGROOM_VAULT";
/// The variable for the configuration file.
pub(crate) const CONFIG: &str = "STRONGROOM_CONFIG";
/// The variable for the passphrase file.
pub(crate) const PASSPHRASE_FILE: &str = "STRONGROOM_PASSPHRASE_FILE";
/// The variable for the log filter, in the syntax of `tracing_subscriber`.
pub(crate) const LOG: &str = "STRONGROOM_LOG";

/// The default time limit of a build.
const BUILD_TIME: Duration = Duration::from_secs(15 * 60);
/// The default memory limit of each process of a build.
const BUILD_MEMORY: u64 = 4 << 30;

/// The configuration from file and environment.
#[derive(Debug)]
pub(crate) struct Config {
    /// When an audit event counts as written.
    pub(crate) audit_sync: SyncMode,
    /// How repeated reads are audited.
    pub(crate) repeats: Repeats,
    /// The upper bounds for limits of policies.
    pub(crate) ceilings: Ceilings,
    /// The time to live of cached values.
    pub(crate) cache_ttl: Duration,
    /// The grace period during which a stale value may be served while the vault cannot be reached.
    pub(crate) cache_grace: Duration,
    /// How many versions of a secret the local vault keeps; zero keeps all.
    pub(crate) keep_versions: u32,
    /// The maximum number of bytes kept of a run's log.
    pub(crate) run_log: u64,
    /// The Python interpreter that builds components from scripts: a path, or a name in `PATH`.
    pub(crate) python: PathBuf,
    /// The time limit of a build.
    pub(crate) build_time: Duration,
    /// The most memory of a process of a build, in bytes.
    pub(crate) build_memory: u64,
    /// The passphrase file from the environment.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// The vault address from the environment or the file, and its source.
    vault: Option<(String, Origin)>,
    home: Option<PathBuf>,
    /// Azure settings from the environment.
    azure: azure::Variables,
    /// The contents of the file, parsed and as written, its path, and whether it exists.
    file: file::File,
    file_values: toml::Value,
    file_path: Option<PathBuf>,
    file_found: bool,
}

/// An error in the configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("could not read the configuration file `{}`", .path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        cause: io::Error,
    },
    /// A setting is invalid. The text says where it is and what is expected.
    #[error("{0}")]
    Invalid(String),
    /// Other users can write to the file.
    #[error("other users can write to the configuration file `{}`", .0.display())]
    Insecure(PathBuf),
    /// The file belongs to another user.
    #[error("the configuration file `{}` belongs to another user", .0.display())]
    Foreign(PathBuf),
    /// A variable is not UTF-8 text.
    #[error("environment variable `{0}` is not UTF-8 text")]
    Variable(&'static str),
    /// A path cannot be made absolute.
    #[error("environment variable `{name}` is not a usable path")]
    Path {
        /// The variable.
        name: &'static str,
        /// The cause.
        #[source]
        cause: io::Error,
    },
    /// The home directory cannot be determined.
    #[error("the user has no home directory")]
    NoHome,
}

impl Config {
    /// Reads the environment and the configuration file. The default file may be missing, but a
    /// file named by `STRONGROOM_CONFIG` must exist.
    ///
    /// # Errors
    /// A variable or the file cannot be read or parsed.
    pub(crate) fn load() -> Result<Self, ConfigError> {
        let usual = etcetera::choose_base_strategy().ok().map(|base| base.config_dir().join("strongroom/config.toml"));
        Self::from_variables(&|name| env::var_os(name), usual)
    }

    /// Works like [`Config::load`], with the environment and the default path given.
    fn from_variables(
        variable: &dyn Fn(&'static str) -> Option<OsString>,
        usual: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        // Empty variables count as unset, as is usual for shells and service managers.
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let path = |name| match variable(name) {
            Some(value) => std::path::absolute(value).map(Some).map_err(|cause| ConfigError::Path { name, cause }),
            None => Ok(None),
        };
        let (found, file_path) = match (path(CONFIG)?, usual) {
            (Some(named), _) => (Some(file::read(&named)?.ok_or_else(|| file::missing(&named))?), Some(named)),
            (None, Some(usual)) => (file::read(&usual)?, Some(usual)),
            (None, None) => (None, None),
        };
        let file_found = found.is_some();
        let (file, file_values) = found.unwrap_or_default();
        let vault = match variable(VAULT) {
            Some(value) => {
                let value = value.into_string().map_err(|_| ConfigError::Variable(VAULT))?;
                Some((value, Origin::Variable(VAULT)))
            }
            None => match (&file.vault, &file_path) {
                (Some(value), Some(path)) => Some((value.clone(), Origin::File(path.clone()))),
                _ => None,
            },
        };
        Ok(Self {
            audit_sync: file.audit.sync.unwrap_or_default(),
            repeats: file.audit.repeats.unwrap_or_default(),
            ceilings: file.ceilings.clone(),
            cache_ttl: file.cache.ttl.unwrap_or_else(|| cache::Settings::default().time_to_live),
            cache_grace: file.cache.grace.unwrap_or_default(),
            keep_versions: file.local_vault.keep_versions.unwrap_or(KEEP_VERSIONS),
            run_log: file.runs.log.unwrap_or(LOG_DEFAULT),
            python: file.python.interpreter.clone().unwrap_or_else(|| "python3".into()),
            build_time: file.python.build_time.unwrap_or(BUILD_TIME),
            build_memory: file.python.build_memory.unwrap_or(BUILD_MEMORY),
            passphrase_file: path(PASSPHRASE_FILE)?,
            azure: azure::Variables::read(&variable)?,
            vault,
            home: path(HOME)?,
            file,
            file_values: file_values.into(),
            file_path,
            file_found,
        })
    }

    /// Returns the home: `STRONGROOM_HOME`, else `strongroom` in the user's data directory. It need
    /// not exist.
    ///
    /// # Errors
    /// The user has no home directory and the variable is not set.
    pub(crate) fn home(&self) -> Result<Home, ConfigError> {
        match &self.home {
            Some(path) => Ok(Home::at(path.clone())),
            None => {
                let base = etcetera::choose_base_strategy().map_err(|_| ConfigError::NoHome)?;
                Ok(Home::at(base.data_dir().join("strongroom")))
            }
        }
    }

    /// Returns the vault address: from the option, else `STRONGROOM_VAULT`, else the file, else the
    /// home directory.
    ///
    /// # Errors
    /// The address is invalid.
    pub(crate) fn vault(&self, option: Option<&str>) -> Result<VaultAddress, ConfigError> {
        let (value, origin) = match (option, &self.vault) {
            (Some(value), _) => (value, "`--vault`".to_owned()),
            (None, Some((value, Origin::File(path)))) => (value.as_str(), format!("`vault` in `{}`", path.display())),
            (None, Some((value, origin))) => (value.as_str(), format!("environment variable `{origin}`")),
            (None, None) => return Ok(VaultAddress::Local(self.home()?.vault())),
        };
        VaultAddress::parse(value, &self.exceptions()?)
            .map_err(|reason| ConfigError::Invalid(format!("{origin}: {reason}")))
    }
}

/// Returns the arguments of this process, including the program name.
pub(crate) fn arguments() -> Vec<OsString> {
    env::args_os().collect()
}

/// Returns an environment variable that an operator named as the source of a secret.
///
/// The environment keeps its own copy, which other processes of this user can read;
/// `docs/command-line.md` says so.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    // Some functions of the standard library panic on these. None of them can be a variable's name.
    if name.is_empty() || name.contains(['=', '\0']) { None } else { env::var_os(name) }
}

/// Returns the log filter from the environment.
pub(crate) fn log_filter() -> Option<String> {
    env::var(LOG).ok().filter(|filter| !filter.is_empty())
}

/// The variables that a build of a Python script gets: those that pip needs to find the package
/// index and this user's settings for it. None of them belongs to strongroom or to Azure.
const BUILD_VARIABLES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "XDG_CONFIG_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// Returns the environment of a build: the variables above, and all that configure pip.
pub(crate) fn build_environment() -> Vec<(OsString, OsString)> {
    let is_passed = |name: &OsString| {
        let name = name.to_str().unwrap_or_default();
        name.starts_with("PIP_") || BUILD_VARIABLES.contains(&name)
    };
    env::vars_os().filter(|(name, _)| is_passed(name)).collect()
}
