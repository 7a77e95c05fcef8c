//! The command line, with one file per subcommand. `docs/command-line.md` is the reference.
//!
//! Results go to standard output, everything else to standard error. A failure is one message and
//! an exit code (`failure::Exit`).

mod audit;
mod build;
mod completions;
mod component;
mod config;
mod context;
mod examples;
mod failure;
mod init;
mod inspect;
mod logging;
mod man;
mod new;
mod operator;
mod out;
mod page;
mod passphrase;
mod policy;
mod progress;
mod prompt;
mod remedies;
mod run;
mod runs;
mod screen;
mod script;
mod secret;
mod show;
mod style;
mod summary;
mod usage;
mod value;
mod vault;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use clap::error::ErrorKind;
use context::Context;
use failure::{EXIT_CODES, Exit, Failure};

/// The maximum number of worker threads. Blocking work runs on separate threads.
const WORKERS_MAX: usize = 4;

/// Run untrusted training components that use secrets under a policy
#[derive(Debug, Parser)]
#[command(name = "strongroom", bin_name = "strongroom", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Global options.
#[derive(Debug, clap::Args)]
struct Global {
    /// Vault address: `local:DIR` or the https URL of an Azure Key Vault. Default:
    /// STRONGROOM_VAULT, then the configuration file, then the strongroom home directory
    #[arg(long, global = true, value_name = "ADDRESS", help_heading = "Global options")]
    vault: Option<String>,
    /// File that contains the vault passphrase. Default: STRONGROOM_PASSPHRASE_FILE, then a
    /// prompt
    #[arg(long, global = true, value_name = "PATH", help_heading = "Global options")]
    passphrase_file: Option<PathBuf>,
    /// Azure credential type: auto, managed-identity, workload-identity, client-secret,
    /// azure-cli, ...
    #[arg(long, global = true, value_name = "TYPE", help_heading = "Global options")]
    credential: Option<String>,
    /// When to use color: auto, always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        hide_possible_values = true,
        default_value = "auto",
        hide_default_value = true,
        help_heading = "Global options"
    )]
    color: clap::ColorChoice,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(new::Args),
    Init(init::Args),
    Secret(secret::Args),
    Build(build::Args),
    Inspect(inspect::Args),
    Run(run::Args),
    Policy(policy::Args),
    Runs(runs::Args),
    Audit(audit::Args),
    Vault(vault::Args),
    Config(config::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Returns the command definitions without examples.
fn base_command() -> clap::Command {
    Cli::command().styles(style::HELP).max_term_width(examples::WIDTH)
}

/// Returns the command definitions with examples in their help.
fn command() -> clap::Command {
    let first = examples::section("Getting started", &examples::of(""));
    let codes = examples::section("Exit codes", EXIT_CODES);
    let more = examples::section(
        "More help",
        &[
            "strongroom COMMAND --help  show options and examples of a command",
            "strongroom man | man -l -  show the manual page; docs/ has the reference",
        ],
    );
    examples::add(base_command(), "").after_help(format!("{first}\n\n{codes}\n\n{more}"))
}

/// Runs the program with its arguments, including the program name, and returns its exit code.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    style::init(&arguments);
    let parsed = command().try_get_matches_from(&arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let result = match parsed {
        Ok(cli) => dispatch(&cli),
        Err(error) => help(&error, &arguments),
    };
    let exit = result.unwrap_or_else(|failure| {
        failure.print();
        failure.exit()
    });
    exit.into()
}

/// Prints the requested help or version, or returns the failure for invalid arguments.
fn help(error: &clap::Error, arguments: &[OsString]) -> Result<Exit, Failure> {
    let text = error.render().ansi().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            out::line(text.trim_end())?;
            Ok(Exit::Done)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            out::note(text.trim_end());
            Ok(Exit::Invalid)
        }
        _ => Err(usage::failure(error, arguments, &command())),
    }
}

fn dispatch(cli: &Cli) -> Result<Exit, Failure> {
    // These commands need no configuration, so they work even if it is invalid.
    match &cli.command {
        Command::Completions(args) => return completions::run(args),
        Command::Man(args) => return man::run(args),
        Command::New(args) => return new::run(args),
        _ => {}
    }
    logging::start()?;
    let context = Context::read(&cli.global)?;
    match &cli.command {
        Command::Init(args) => init::run(args, &context),
        Command::Secret(args) => secret::run(args, &context),
        Command::Run(args) => run::run(args, &context),
        Command::Runs(args) => runs::run(args, &context),
        Command::Build(args) => build::run(args, &context),
        Command::Inspect(args) => inspect::run(args, &context),
        Command::Policy(args) => policy::run(args, &context),
        Command::Audit(args) => audit::run(args, &context),
        Command::Vault(args) => vault::run(args, &context),
        Command::Config(args) => config::run(args, &context),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
        Command::New(args) => new::run(args),
    }
}

/// Runs a future to completion on a multi-threaded runtime.
fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(1, WORKERS_MAX))
        .enable_all()
        .build()
        .map_err(|cause| Failure::host(format!("could not start threads: {cause}")))?;
    let result = runtime.block_on(future);
    // A thread that a component blocks in a system call must not delay the exit.
    runtime.shutdown_background();
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_definitions_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn usual_abbreviations_are_accepted() {
        for words in ["runs ls", "secret ls", "secret rm a", "secret remove a", "run x.wasm -p p -i in -o out"] {
            let words = ["strongroom"].into_iter().chain(words.split(' '));
            assert!(Cli::try_parse_from(words.clone()).is_ok(), "{words:?}");
        }
    }

    #[test]
    fn value_argument_is_rejected_and_not_shown() {
        for value in ["hunter2", "-hunter2", "--hunter2"] {
            let cli = Cli::try_parse_from(["strongroom", "secret", "set", "name", value]).unwrap();
            let failure = match &cli.command {
                Command::Secret(args) => {
                    secret::run(args, &Context::read(&cli.global).unwrap()).unwrap_err().to_string()
                }
                _ => unreachable!(),
            };
            assert!(failure.contains("never an argument") && !failure.contains("hunter2"), "{failure}");
        }
    }
}
