//! What a process that holds secrets owes them. The program `strongroom` does it first of all; an embedder does it in a `main` of its own.
//!
//! ```
//! use strongroom::process;
//! use tracing_subscriber::filter::filter_fn;
//! use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
//! use tracing_subscriber::util::SubscriberInitExt as _;
//!
//! process::keep_memory_private();
//! // Of the program's own events all, of the libraries' those that hold no text of guests.
//! let log = filter_fn(|event| event.target().starts_with("my_program") || process::may_be_logged(event));
//! let log = tracing_subscriber::fmt::layer().with_filter(log);
//! tracing_subscriber::registry().with(log).init();
//! ```

use rustix::process::{DumpableBehavior, Resource, Rlimit};
use tracing::{Level, Metadata};

/// From now on no core dump of this process is written, and other processes of the user cannot attach to it. Where the system refuses, the
/// process goes on: this guards against accidents.
///
/// It also keeps other processes of the user from reading `/proc` entries of this one, so call it once a debugger is no longer wanted.
pub fn keep_memory_private() {
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Whether an event of these libraries may be logged, for the filter of a subscriber. Below a warning wasmtime prints what guests write, before any
/// redaction. This crate's own events hold no such text at any level.
///
/// It says no to the chatty events of every other crate too, since more than one of them may be at work in the engine: ask it about targets that
/// are not your own.
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
