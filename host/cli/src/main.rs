//! The program `strongroom`.

use std::process::ExitCode;

mod commands;
mod config;

use strongroom::{process, runtime};

fn main() -> ExitCode {
    let arguments = config::arguments();
    if let Some(ended) = runtime::compile::as_child(&arguments) {
        return ended;
    }
    process::keep_memory_private();
    process::survive_file_size_limit();
    process::raise_descriptor_limit();
    commands::main(arguments)
}
