//! The program: everything is in the library.

use std::process::ExitCode;

use rustix::process::{DumpableBehavior, Resource, Rlimit};
use strongroom::runtime::compile;

fn main() -> ExitCode {
    let arguments = strongroom::config::arguments();
    if arguments.get(1).is_some_and(|argument| argument == compile::CHILD_ARGUMENT) {
        return compile::child_main(arguments.into_iter().skip(2));
    }
    keep_memory_private();
    strongroom::cli::main(arguments)
}

/// No core dump of this process is written, and other processes of the user cannot attach to it. Where the system refuses, the program
/// still works: this guards against accidents.
fn keep_memory_private() {
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
