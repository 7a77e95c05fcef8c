//! What this program asks of strongroom, as a trait: `main.rs` implements it with the generated bindings, the tests with a map.

/// The strongroom interfaces `secrets` and `context`, as far as this program uses them.
///
/// Errors are sentences for people, such as `denied: dataset-key`: this program can do nothing about them but say so.
pub trait Host {
    /// The value of a secret.
    fn get_secret(&mut self, name: &str) -> Result<String, String>;

    /// The values of several secrets, in the order asked, in one request; `None` for one that is granted but not there.
    fn get_secrets(&mut self, names: &[&str]) -> Result<Vec<Option<String>>, String>;

    /// Stores a secret; an existing value is replaced by a new version.
    fn set_secret(&mut self, name: &str, value: &str) -> Result<(), String>;

    /// The value of `--param NAME=VALUE`, where it was given.
    fn parameter(&self, name: &str) -> Option<String>;

    /// Records a metric. `step` is the iteration that the value belongs to.
    fn log_metric(&mut self, name: &str, value: f64, step: Option<u64>) -> Result<(), String>;

    /// Tells the person who watches how far the work is. `total` 0 means unknown.
    fn report_progress(&mut self, done: u64, total: u64, message: &str) -> Result<(), String>;
}
