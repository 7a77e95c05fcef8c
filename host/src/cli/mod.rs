//! The command line: one file a subcommand. `docs/command-line.md` is the reference.
//!
//! What is asked for goes to standard output, everything else to standard error. Every failure is one message, what failed and then
//! what to do, and an exit code that scripts can rely on (`failure::Exit`).

mod audit;
mod component;
mod failure;
mod home;
mod init;
mod inspect;
mod logging;
mod operate;
mod out;
mod page;
mod passphrase;
mod policy;
mod prompt;
mod run;
mod runs;
mod screen;
mod secret;
mod show;
mod summary;
mod value;
mod vault;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use failure::{EXIT_CODES, Exit, Failure};
use home::Surroundings;

/// The most threads that drive runs and the vault. Blocking work has threads of its own.
const WORKERS_MAX: usize = 4;

/// Runs untrusted training components and lets them use secrets under a policy.
#[derive(Debug, Parser)]
#[command(name = "strongroom", bin_name = "strongroom", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, clap::Args)]
struct Global {
    /// The vault: `local:DIR`; else STRONGROOM_VAULT,
    /// the configuration file, the home folder
    #[arg(long, global = true, verbatim_doc_comment, value_name = "PLACE", help_heading = "Options of every command")]
    vault: Option<String>,
    /// The file with the vault's passphrase; else
    /// STRONGROOM_PASSPHRASE_FILE, else a prompt
    #[arg(long, global = true, verbatim_doc_comment, value_name = "PATH", help_heading = "Options of every command")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Secret(secret::Args),
    Run(run::Args),
    Runs(runs::Args),
    Inspect(inspect::Args),
    Policy(policy::Args),
    Audit(audit::Args),
    Vault(vault::Args),
}

/// Runs the program with its arguments, the program's name first, and answers with its exit code.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let parsed = Cli::command().try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are no error. A closed stream is nobody's concern here.
            let _ = error.print();
            return if error.use_stderr() { Exit::Invalid.into() } else { Exit::Done.into() };
        }
    };
    match dispatch(&cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !matches!(failure, Failure::ReaderGone) {
                out::note(&failure);
            }
            failure.exit().into()
        }
    }
}

fn dispatch(cli: &Cli) -> Result<Exit, Failure> {
    logging::start()?;
    let surroundings = Surroundings::read(&cli.global)?;
    match &cli.command {
        Command::Init(args) => init::run(args, &surroundings),
        Command::Secret(args) => secret::run(args, &surroundings),
        Command::Run(args) => run::run(args, &surroundings),
        Command::Runs(args) => runs::run(args, &surroundings),
        Command::Inspect(args) => inspect::run(args),
        Command::Policy(args) => policy::run(args, &surroundings),
        Command::Audit(args) => audit::run(args, &surroundings),
        Command::Vault(args) => vault::run(args, &surroundings),
    }
}

/// Runs a future to its end on a few threads.
fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(1, WORKERS_MAX))
        .enable_all()
        .build()
        .map_err(|cause| Failure::host(format!("cannot start threads: {cause}")))?;
    let answer = runtime.block_on(future);
    // A thread that a component has parked in a system call must not keep the program from ending.
    runtime.shutdown_background();
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_value_given_as_an_argument_is_taken_so_that_it_can_be_refused_unseen() {
        for value in ["hunter2", "-hunter2", "--hunter2"] {
            let cli = Cli::try_parse_from(["strongroom", "secret", "set", "name", value]).unwrap();
            let failure = match &cli.command {
                Command::Secret(args) => {
                    secret::run(args, &Surroundings::read(&cli.global).unwrap()).unwrap_err().to_string()
                }
                _ => unreachable!(),
            };
            assert!(failure.contains("never an argument") && !failure.contains("hunter2"), "{failure}");
        }
    }
}
