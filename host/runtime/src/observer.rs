//! Observers, which receive output and progress while a run is in progress.

use strongroom_core::record::Progress;

/// An output stream of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Receives a run's output, metrics, tags and progress while it is in progress. All text has passed
/// through the run's redactor. `output` is called from one thread at a time and may block; the
/// component then waits. The run itself calls the other methods, which should return quickly.
pub trait Observer: Send + Sync {
    /// Called with bytes that the component wrote. They are not escaped: escape them before showing
    /// them on a terminal.
    fn output(&self, stream: Stream, bytes: &[u8]) {
        let _ = (stream, bytes);
    }

    /// Called when a metric is logged. The name contains no control characters.
    fn metric(&self, name: &str, value: f64, step: Option<u64>) {
        let _ = (name, value, step);
    }

    /// Called when a value of a text metric is logged. Neither text contains control characters.
    fn text(&self, name: &str, value: &str, step: Option<u64>) {
        let _ = (name, value, step);
    }

    /// Called when the component sets a tag, and with `None` when it removes one. Neither text
    /// contains control characters.
    fn tag(&self, name: &str, value: Option<&str>) {
        let _ = (name, value);
    }

    /// Called when the component logs a parameter. Neither text contains control characters.
    fn parameter(&self, name: &str, value: &str) {
        let _ = (name, value);
    }

    /// Called when the component reports progress. The message contains no control characters.
    fn progress(&self, progress: &Progress) {
        let _ = progress;
    }

    /// Called when compilation begins (`true`) and ends (`false`). Not called for a component whose
    /// compiled code is available.
    fn compiling(&self, started: bool) {
        let _ = started;
    }
}

/// An observer that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
