//! Who watches a run while it goes on.

use strongroom_core::record::Progress;

/// The two streams of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Receives what a run shows while it goes on. All text has been through the run's redactor. `output` is called from one thread at a time and may
/// block: the component then waits. The other methods are called by the run itself and should return quickly.
pub trait Observer: Send + Sync {
    /// Bytes that the component wrote. They are not escaped: whoever shows them on a terminal does that.
    fn output(&self, stream: Stream, bytes: &[u8]) {
        let _ = (stream, bytes);
    }

    /// A metric was logged. The name has no control characters.
    fn metric(&self, name: &str, value: f64, step: Option<u64>) {
        let _ = (name, value, step);
    }

    /// The component reports how far it is. The message has no control characters.
    fn progress(&self, progress: &Progress) {
        let _ = progress;
    }

    /// Compilation begins (`true`) or has ended (`false`). Not called for a component whose compiled code is at hand.
    fn compiling(&self, started: bool) {
        let _ = started;
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
