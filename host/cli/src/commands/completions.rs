//! `strongroom completions`: prints shell completion scripts.

use std::io::{self, Write};

use clap_complete::Shell;

use super::failure::{Exit, Failure};

/// Print a shell completion script
///
/// The script completes commands, options and files. It neither runs strongroom nor opens a vault,
/// so it does not complete secret names.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    // Written in one piece, because the generator panics on a closed stream.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "strongroom", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn completions_of_every_shell_list_commands() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut super::super::command(), "strongroom", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["inspect", "passphrase-file", "no-progress", "verify"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
