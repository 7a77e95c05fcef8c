//! The program: everything is in the library.

use std::process::ExitCode;

use strongroom::{cli, config, process, runtime};

fn main() -> ExitCode {
    let arguments = config::arguments();
    if let Some(ended) = runtime::compile::as_child(&arguments) {
        return ended;
    }
    process::keep_memory_private();
    cli::main(arguments)
}
