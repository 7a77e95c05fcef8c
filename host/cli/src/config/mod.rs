//! What the person who operates this host has decided: the configuration file and the environment. Nothing else in the program
//! reads either.
//!
//! An option on the command line goes before a variable, a variable before the file, the file before the default. A key that is not
//! known is an error, and so is a value that cannot be read: a setting that is passed over in silence is one that somebody relies on.
//! `docs/configuration.md` is the reference.

mod address;
mod azure;
mod file;
mod home;
mod settings;
mod terminal;

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

pub(crate) use address::VaultAddress;
pub(crate) use home::Home;
pub(crate) use settings::{Origin, Setting};
pub(crate) use terminal::{Color, Terminal};

/// The variable that names the home folder.
pub(crate) const HOME: &str = "STRONGROOM_HOME";
/// The variable that names the vault.
pub(crate) const VAULT: &str = "STRONGROOM_VAULT";
/// The variable that names the configuration file.
pub(crate) const CONFIG: &str = "STRONGROOM_CONFIG";
/// The variable that names the file with the vault's passphrase.
pub(crate) const PASSPHRASE_FILE: &str = "STRONGROOM_PASSPHRASE_FILE";
/// The variable that says what is logged, in the form of `tracing_subscriber`'s filters.
pub(crate) const LOG: &str = "STRONGROOM_LOG";

/// The configuration: file and environment together.
#[derive(Debug)]
pub(crate) struct Config {
    /// When an audit event counts as written.
    pub(crate) audit_sync: SyncMode,
    /// How repeated reads are audited.
    pub(crate) repeats: Repeats,
    /// What no policy may exceed.
    pub(crate) ceilings: Ceilings,
    /// How old an answer of the cache may be.
    pub(crate) cache_ttl: Duration,
    /// How much longer a value may be served while the vault cannot be reached.
    pub(crate) cache_grace: Duration,
    /// How many bytes are kept of what a run prints.
    pub(crate) run_log: u64,
    /// The file with the vault's passphrase, where the environment names one.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// The vault as the environment or the file names it, and which of them.
    vault: Option<(String, Origin)>,
    home: Option<PathBuf>,
    /// What the environment says about this host's identity at Azure.
    azure: azure::Variables,
    /// What the file says, its path, and whether it is there.
    file: file::File,
    file_path: Option<PathBuf>,
    file_found: bool,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("could not read the configuration file `{}`: {cause}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file says something that this program does not understand. The text names file, line and column.
    #[error("{0}")]
    Syntax(String),
    /// Other users may write to the file.
    #[error("other users can write to the configuration file `{}`", .0.display())]
    Insecure(PathBuf),
    /// The file is another user's.
    #[error("the configuration file `{}` belongs to another user", .0.display())]
    Foreign(PathBuf),
    /// The vault is not named as a vault is.
    #[error("{origin}: {reason}")]
    Vault {
        /// Where the name stands.
        origin: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// What is said about Azure does not fit together. The text says what, and what would be right.
    #[error("{0}")]
    Azure(String),
    /// A variable is no text.
    #[error("environment variable `{0}` is not UTF-8 text")]
    Variable(&'static str),
    /// A path cannot be made absolute.
    #[error("environment variable `{name}` is not a usable path: {cause}")]
    Path {
        /// The variable.
        name: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// Nobody says where the home folder is.
    #[error("the user has no home directory")]
    NoHome,
}

impl ConfigError {
    /// Returns what to do about the error, if the message does not say so.
    pub(crate) fn help(&self) -> Option<&'static str> {
        match self {
            Self::Insecure(_) => Some("run `chmod o-w` on it"),
            Self::Foreign(_) => Some("check its contents, then change its owner with `chown`"),
            Self::NoHome => Some("set `STRONGROOM_HOME` to the directory that strongroom should use"),
            _ => None,
        }
    }
}

impl Config {
    /// Reads the environment and the configuration file. A file in the usual place need not exist; one that `STRONGROOM_CONFIG`
    /// names has to.
    ///
    /// # Errors
    /// A variable or the file cannot be read or understood.
    pub(crate) fn load() -> Result<Self, ConfigError> {
        let usual = etcetera::choose_base_strategy().ok().map(|base| base.config_dir().join("strongroom/config.toml"));
        Self::from_variables(&|name| env::var_os(name), usual)
    }

    /// As [`Config::load`], with everything around it given.
    fn from_variables(
        variable: &dyn Fn(&'static str) -> Option<OsString>,
        usual: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        // An empty variable is an unset one, as shells and service managers have it.
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
        let file = found.unwrap_or_default();
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
            run_log: file.runs.log.unwrap_or(LOG_DEFAULT),
            passphrase_file: path(PASSPHRASE_FILE)?,
            azure: azure::Variables::read(&variable)?,
            vault,
            home: path(HOME)?,
            file,
            file_path,
            file_found,
        })
    }

    /// The home folder: `STRONGROOM_HOME`, else `strongroom` in the user's data directory. It need not exist.
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

    /// Where the vault is: the option given, else `STRONGROOM_VAULT`, else the configuration file, else the home folder.
    ///
    /// # Errors
    /// What names the vault does not name one that this version knows.
    pub(crate) fn vault(&self, option: Option<&str>) -> Result<VaultAddress, ConfigError> {
        let (value, origin) = match (option, &self.vault) {
            (Some(value), _) => (value, "`--vault`".to_owned()),
            (None, Some((value, Origin::File(path)))) => (value.as_str(), format!("`vault` in `{}`", path.display())),
            (None, Some((value, origin))) => (value.as_str(), format!("environment variable `{origin}`")),
            (None, None) => return Ok(VaultAddress::Local(self.home()?.vault())),
        };
        VaultAddress::parse(value, &self.exceptions()?).map_err(|reason| ConfigError::Vault { origin, reason })
    }
}

/// The arguments of this process, the program's name first.
pub(crate) fn arguments() -> Vec<OsString> {
    env::args_os().collect()
}

/// A variable that an operator names on the command line to take a secret from.
///
/// The environment keeps its own copy, which other processes of this user can read: `docs/command-line.md` says so.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    // The standard library panics on these in some of its functions; none of them can be the name of a variable.
    if name.is_empty() || name.contains(['=', '\0']) { None } else { env::var_os(name) }
}

/// What the environment says about the terminal.
pub(crate) fn terminal() -> Terminal {
    Terminal::from_variables(&|name| env::var_os(name))
}

/// What is to be logged, where the environment says so.
pub(crate) fn log_filter() -> Option<String> {
    env::var(LOG).ok().filter(|filter| !filter.is_empty())
}
