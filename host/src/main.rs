//! The binary. It compiles components when it is a child of itself, and is the command line otherwise.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "runtime")]
    {
        use strongroom::runtime::compile::{CHILD_ARGUMENT, child_main};

        let mut args = std::env::args_os().skip(1);
        if args.next().is_some_and(|first| first == CHILD_ARGUMENT) {
            return child_main(args);
        }
    }
    ExitCode::SUCCESS
}
