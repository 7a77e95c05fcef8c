//! Hardens a process that holds secrets. The program `strongroom` does this first; an embedder does
//! it in its own `main`.
//!
//! ```
//! use strongroom::process;
//! use tracing_subscriber::filter::filter_fn;
//! use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
//! use tracing_subscriber::util::SubscriberInitExt as _;
//!
//! process::keep_memory_private();
//! process::survive_file_size_limit();
//! process::raise_descriptor_limit();
//! // Of the program's own events all, of the libraries' those that hold no text of guests.
//! let log = filter_fn(|event| event.target().starts_with("my_program") || process::may_be_logged(event));
//! let log = tracing_subscriber::fmt::layer().with_filter(log);
//! tracing_subscriber::registry().with(log).init();
//! ```

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use tracing::{Level, Metadata};

/// Disables core dumps of this process and prevents other processes of the user from attaching to
/// it. Errors of the system are ignored, because this guards only against accidents.
///
/// It also prevents other processes of the user from reading this process's `/proc` entries, so
/// call it once a debugger is no longer needed.
pub fn keep_memory_private() {
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Makes a write over the process's limit on the size of files (`ulimit -f`) an error. By default
/// the system ends the process with the signal `SIGXFSZ`, and a component can cause that with a
/// sparse file in `/output`.
///
/// The signal is handled and not ignored, so that programs that this process starts do not inherit
/// the setting.
pub fn survive_file_size_limit() {
    // Only a signal that cannot be handled is an error.
    let _ = signal_hook::flag::register(Signal::XFSZ.as_raw(), Arc::new(AtomicBool::new(false)));
}

/// Raises the soft limit on open files to the hard limit, at most 65,536. Many runs, or one that
/// opens many files, would otherwise use up the descriptors of the process. Errors of the system are
/// ignored: the limit stays as it is.
pub fn raise_descriptor_limit() {
    const MOST: u64 = 65_536;
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(MOST, |maximum| maximum.min(MOST));
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        let _ = rustix::process::setrlimit(Resource::Nofile, raised);
    }
}

/// Returns whether a library's event may be logged, for the filter of a subscriber. Below the level
/// of a warning, wasmtime prints what guests write, before any redaction. This crate's own events
/// contain no such text at any level.
///
/// It also rejects the verbose events of every other crate, because the engine uses several of
/// them: apply it to targets that are not your own.
pub fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    is_own(metadata.target()) || *metadata.level() <= Level::WARN
}

fn is_own(target: &str) -> bool {
    let root = target.split("::").next().unwrap_or_default();
    root == "strongroom" || root.starts_with("strongroom_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_targets_may_be_chatty() {
        for target in
            ["wasmtime", "wasmtime_wasi::p2::stdio", "cranelift_codegen", "wasmtime::runtime", "strongroomx", ""]
        {
            assert!(!is_own(target), "{target}");
        }
        assert!(is_own("strongroom_vault::local") && is_own("strongroom::runner") && is_own("strongroom"));
    }
}
