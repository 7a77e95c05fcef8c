//! The binary. It compiles components when it is a child of itself, and is the command line otherwise.

use std::process::ExitCode;

use strongroom::runtime::compile::{CHILD_ARGUMENT, child_main};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == CHILD_ARGUMENT) {
        return child_main(args);
    }
    ExitCode::SUCCESS
}
