//! The strongroom interfaces as a trait. `main.rs` implements it with strongroom-guest, the
//! tests with a map.

/// The parts of the interfaces `secrets` and `context` that this program uses.
///
/// Errors are readable messages such as `denied: dataset-key`, because the program can only report
/// them.
pub trait Host {
    /// Returns the value of a secret.
    fn get_secret(&mut self, name: &str) -> Result<String, String>;

    /// Returns the values of several secrets in order, in one request; `None` for one that is
    /// granted but does not exist.
    fn get_secrets(&mut self, names: &[&str]) -> Result<Vec<Option<String>>, String>;

    /// Stores a secret. An existing value is replaced by a new version.
    fn set_secret(&mut self, name: &str, value: &str) -> Result<(), String>;

    /// Returns the value of `--param NAME=VALUE`, if given.
    fn parameter(&self, name: &str) -> Option<String>;

    /// Records a metric. `step` is the iteration that the value belongs to.
    fn log_metric(&mut self, name: &str, value: f64, step: Option<u64>) -> Result<(), String>;

    /// Reports progress. `total` 0 means unknown.
    fn report_progress(&mut self, done: u64, total: u64, message: &str) -> Result<(), String>;
}
