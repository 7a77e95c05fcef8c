//! Stores a run's output beside its record.

use std::sync::{Arc, Mutex, PoisonError};

use crate::runs::{LogStream, LogWriter, RunStore};
use strongroom_core::ids::RunId;
use strongroom_runtime::{Recorder, Stream};

/// The log of one run. The sandbox writes it, and the runner finishes it.
pub(super) struct Log(Option<Arc<Mutex<LogWriter>>>);

impl Log {
    /// Returns the log of a run whose record exists. It stores nothing if there is no run store, or
    /// if the store keeps no logs.
    pub(super) fn of(records: Option<&RunStore>, id: &RunId) -> Self {
        Self(records.and_then(|records| records.keep_log(id)).map(|writer| Arc::new(Mutex::new(writer))))
    }

    /// Returns the recorder to which the sandbox passes the run's output.
    pub(super) fn recorder(&self) -> Option<Box<dyn Recorder>> {
        self.0.clone().map(|writer| Box::new(Keeper(writer)) as Box<dyn Recorder>)
    }

    /// Finishes the log. Returns why it is incomplete, if it is, which does not fail the run.
    pub(super) async fn finish(self, id: &RunId) -> Option<String> {
        let writer = self.0?;
        let finished =
            tokio::task::spawn_blocking(move || writer.lock().unwrap_or_else(PoisonError::into_inner).finish()).await;
        let failure = finished.unwrap_or_else(|_| Some(std::io::Error::other("the task that writes it failed")))?;
        tracing::warn!(run = %id, error = %failure, "a run's log could not be written");
        Some(failure.to_string())
    }
}

struct Keeper(Arc<Mutex<LogWriter>>);

impl Recorder for Keeper {
    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let stream = match stream {
            Stream::Stdout => LogStream::Out,
            Stream::Stderr => LogStream::Err,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(stream, bytes);
    }
}
