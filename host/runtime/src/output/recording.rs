//! The recorder of a run's output, and the writes that it has not yet received.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::observer::Stream;

/// Stores a run's output. It is called from one thread at a time. It may take as long as a disk
/// write, but must not wait for a user.
pub trait Recorder: Send {
    /// Called with redacted bytes that the component wrote.
    fn output(&mut self, stream: Stream, bytes: &[u8]);
}

/// A recorder and the writes that it has not yet received.
pub(super) struct Recording {
    recorder: Mutex<Box<dyn Recorder>>,
    waiting: Mutex<VecDeque<(Stream, Bytes)>>,
}

impl Recording {
    pub(super) fn new(recorder: Box<dyn Recorder>) -> Self {
        Self { recorder: Mutex::new(recorder), waiting: Mutex::default() }
    }

    pub(super) fn push(&self, stream: Stream, bytes: Bytes) {
        self.waiting().push_back((stream, bytes));
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<(Stream, Bytes)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether everything appears to be recorded, without waiting.
    pub(super) fn is_idle(&self) -> bool {
        self.recorder.try_lock().is_ok() && self.waiting().is_empty()
    }

    /// Records what is queued. On return everything that was queued at the call is recorded, by
    /// this thread or another.
    pub(super) fn drain(&self) {
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // The lock is released before recording, so that a component can go on writing.
            let next = self.waiting().pop_front();
            let Some((stream, bytes)) = next else { return };
            recorder.output(stream, &bytes);
        }
    }
}
