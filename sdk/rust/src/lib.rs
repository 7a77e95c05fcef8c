//! What a training component in Rust uses to talk to its host, strongroom.
//!
//! ```no_run
//! use strongroom_guest::{metrics, parameters, secrets, tags};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let password = secrets::get("db-password")?;
//!     let epochs: u64 = parameters::parse("epochs")?.unwrap_or(10);
//!     println!("connecting with {} characters, {epochs} epochs", password.expose().len());
//!     tags::set("team", "blue")?;
//!     metrics::log("loss", 0.25, 1)?;
//!     Ok(())
//! }
//! ```
//!
//! Build the program for `wasm32-wasip2` and start it with `strongroom run`. On other targets every
//! call panics: put what you want to test on your machine behind a trait, as the example does.

mod error;
mod secret_string;

pub use error::{Error, ParameterError, ReportError};
pub use secret_string::SecretString;

/// The interfaces as generated from the guest contract, for what this crate does not wrap.
pub mod bindings {
    #![allow(missing_docs, reason = "wit/training.wit documents them")]
    wit_bindgen::generate!({ path: "wit", world: "program" });
    pub use strongroom::training::{context, secrets};
}

use std::time::Duration;

use bindings::context;

/// Returns the identifier of this run: 26 characters, unique, ascending with time.
pub fn run_id() -> String {
    context::run_id()
}

/// Returns the time until the host stops this run at its `time` limit; `None` without such a limit.
pub fn time_left() -> Option<Duration> {
    context::remaining_time().map(Duration::from_nanos)
}

/// Secrets of the host's vault, under the policy of this run.
///
/// Names are 1 to 127 characters of `0-9 a-z A-Z -` and case-insensitive.
pub mod secrets {
    use crate::bindings::secrets as host;
    pub use crate::bindings::secrets::Description;
    use crate::{Error, SecretString};

    /// Returns the value of a secret. A run sees one version of a secret from its first read to its
    /// end, or until it sets the name itself.
    pub fn get(name: &str) -> Result<SecretString, Error> {
        host::get_secret(name).map(SecretString::from).map_err(|error| Error::new("get", error))
    }

    /// Returns the values of up to 256 names, in their order; `None` without a usable secret. If one
    /// name is not granted, nothing is read.
    pub fn get_many(names: &[&str]) -> Result<Vec<Option<SecretString>>, Error> {
        let found = host::get_secrets(&owned(names)).map_err(|error| Error::new("get", error))?;
        Ok(found.into_iter().map(|(_, value)| value.map(SecretString::from)).collect())
    }

    /// Stores a value of at most 25 KiB as a new version. It replaces an existing value.
    pub fn set(name: &str, value: &str) -> Result<(), Error> {
        host::set_secret(name, value).map_err(|error| Error::new("set", error))
    }

    /// Stores up to 256 values: all or none if the vault has transactions. If one name is not
    /// granted, nothing is written.
    pub fn set_many(secrets: &[(&str, &str)]) -> Result<(), Error> {
        let mut batch: Vec<_> = secrets.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let result = host::set_secrets(&batch).map_err(|error| Error::new("set", error));
        batch.iter_mut().for_each(|(_, value)| zeroize::Zeroize::zeroize(value));
        result
    }

    /// Returns the names of the existing secrets that the policy lets this run list, sorted.
    pub fn list() -> Result<Vec<String>, Error> {
        host::list_secrets().map_err(|error| Error::new("list", error))
    }

    /// Returns version, content type and times of a secret, without its value.
    pub fn describe(name: &str) -> Result<Description, Error> {
        host::describe_secret(name).map_err(|error| Error::new("describe", error))
    }

    /// Deletes a secret with all its versions.
    pub fn delete(name: &str) -> Result<(), Error> {
        host::delete_secret(name).map_err(|error| Error::new("delete", error))
    }

    /// Deletes up to 256 secrets: all or none if the vault has transactions.
    pub fn delete_many(names: &[&str]) -> Result<(), Error> {
        host::delete_secrets(&owned(names)).map_err(|error| Error::new("delete", error))
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }
}

/// The parameters of this run: `strongroom run --param NAME=VALUE`.
pub mod parameters {
    use std::str::FromStr;

    use crate::bindings::context;
    use crate::{ParameterError, ReportError};

    /// Returns the value of a parameter, if the run was started with it.
    pub fn get(name: &str) -> Option<String> {
        context::parameter(name)
    }

    /// Returns the value of a parameter as a number or another type that can be parsed.
    ///
    /// # Errors
    /// If the value cannot be parsed.
    pub fn parse<T: FromStr>(name: &str) -> Result<Option<T>, ParameterError> {
        get(name).map(|text| text.parse().map_err(|_| ParameterError::new(name))).transpose()
    }

    /// Returns all parameters, sorted by name.
    pub fn all() -> Vec<(String, String)> {
        context::parameters()
    }

    /// Records a parameter that the component chose, such as a learning rate, in the run's record.
    /// Logging a name again replaces its value. `get` and `all` do not return it.
    ///
    /// # Errors
    /// If the name is not 1 to 128 bytes without control characters, the value has more than 8 KiB,
    /// or the run has 1 MiB of tags, logged parameters and text metrics.
    pub fn log(name: &str, value: impl ToString) -> Result<(), ReportError> {
        context::log_parameter(name, &value.to_string()).map_err(ReportError::new)
    }
}

/// Metrics of this run.
pub mod metrics {
    use crate::ReportError;
    use crate::bindings::context;

    /// Records a number. `step` orders the values of one name: an iteration or epoch, or `None`.
    pub fn log(name: &str, value: f64, step: impl Into<Option<u64>>) -> Result<(), ReportError> {
        context::log_metric(name, value, step.into()).map_err(ReportError::new)
    }

    /// Records a value of a text metric, such as the stage of a training. The host keeps the newest
    /// 1,000 values of a name.
    ///
    /// # Errors
    /// As for [`parameters::log`](crate::parameters::log).
    pub fn log_text(name: &str, value: &str, step: impl Into<Option<u64>>) -> Result<(), ReportError> {
        context::log_text(name, value, step.into()).map_err(ReportError::new)
    }
}

/// Tags of this run: texts by name in its record.
pub mod tags {
    use crate::ReportError;
    use crate::bindings::context;

    /// Sets a tag, or replaces its value.
    ///
    /// # Errors
    /// As for [`parameters::log`](crate::parameters::log).
    pub fn set(name: &str, value: &str) -> Result<(), ReportError> {
        context::set_tag(name, value).map_err(ReportError::new)
    }

    /// Removes a tag that this run has set, if there is one.
    ///
    /// # Errors
    /// If the name cannot be the name of a tag.
    pub fn remove(name: &str) -> Result<(), ReportError> {
        context::remove_tag(name).map_err(ReportError::new)
    }
}

/// The progress of this run.
pub mod progress {
    use crate::ReportError;
    use crate::bindings::context;

    /// Reports that `done` of `total` steps are done. A `total` of 0 means unknown.
    pub fn report(done: u64, total: u64, message: &str) -> Result<(), ReportError> {
        context::report_progress(done, total, message).map_err(ReportError::new)
    }
}
